"""What wakes the passes other than a request: the clock and the cloud's events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from chalice.app import CloudWatchEvent
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from chalicelib import passes
from chalicelib.errors import Invalid, SailplaneError
from chalicelib.ports import Runtime
from chalicelib.providers.aws.interruption import notice as notice_of

EVERY_MINUTE: Final = "rate(1 minute)"  # EventBridge knows no finer one

SPOT_WARNING: Final = "EC2 Spot Instance Interruption Warning"
REBALANCE: Final = "EC2 Instance Rebalance Recommendation"
STATE_CHANGE: Final = "EC2 Instance State-change Notification"

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide: "Spot Instance interruption notices", "EC2 instance rebalance
# recommendations" and "State change events for your instances".
EC2_EVENTS: Final[Mapping[str, Any]] = {"source": ["aws.ec2"], "detail-type": [SPOT_WARNING, REBALANCE, STATE_CHANGE]}

Handler = Callable[[CloudWatchEvent], None]


class PassesFailed(SailplaneError):
    """Some service's passes did not get through; raised, so that the function's error metric counts it."""


def on_schedule(runtime: Callable[[], Runtime]) -> Handler:
    """The minute's tick over all services. Routers are asked first: a function that nobody asks for anything reports nothing."""

    def tick(_event: CloudWatchEvent) -> None:
        running = runtime()
        if running.ask_routers:
            running.ask_routers()
        _report(passes.tick(running))

    return tick


def on_ec2_event(runtime: Callable[[], Runtime]) -> Handler:
    """EC2 is going to take a machine, or it is gone: the passes of its service run at once. Other machines' events do nothing.

    An event of another shape raises `Invalid`.
    """

    def interrupt(event: CloudWatchEvent) -> None:
        seen = _parsed(event)
        notice = notice_of(seen.kind, seen.detail.model_dump(by_alias=True), seen.time.timestamp())
        if notice is not None:
            _report(passes.interrupt(runtime(), (notice,)))

    return interrupt


def _report(reports: Sequence[passes.Report]) -> None:
    failures = [f"{report.service or 'deployment'}: {failure}" for report in reports for failure in report.failures]
    if failures:
        raise PassesFailed("\n".join(failures))


class _Detail(BaseModel):
    model_config = ConfigDict(extra="ignore")

    instance_id: Annotated[str, StringConstraints(pattern=r"^i-[0-9a-f]{8,17}$"), Field(alias="instance-id")]


class _Event(BaseModel):
    source: Literal["aws.ec2"]
    time: AwareDatetime


class _SpotWarning(_Event):
    class Detail(_Detail):
        action: Annotated[Literal["terminate", "stop", "hibernate"], Field(alias="instance-action")]

    kind: Literal["EC2 Spot Instance Interruption Warning"]
    detail: Detail


class _Rebalance(_Event):
    kind: Literal["EC2 Instance Rebalance Recommendation"]
    detail: _Detail


class _StateChange(_Event):
    class Detail(_Detail):
        state: Literal["pending", "running", "shutting-down", "stopping", "stopped", "terminated"]

    kind: Literal["EC2 Instance State-change Notification"]
    detail: Detail


_Ec2Event = _SpotWarning | _Rebalance | _StateChange
_ec2_event: TypeAdapter[_Ec2Event] = TypeAdapter(Annotated[_Ec2Event, Field(discriminator="kind")])


def _parsed(event: CloudWatchEvent) -> _Ec2Event:
    try:
        seen = {"kind": event.detail_type, "source": event.source, "time": event.time, "detail": event.detail}
        return _ec2_event.validate_python(seen)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise Invalid(f"This is no EC2 event that Sailplane acts on ({event.detail_type!r}): {faults}") from error
