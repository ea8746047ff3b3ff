"""What wakes the passes other than a request: the clock and the cloud's events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final, Literal, Protocol

from chalice.app import CloudWatchEvent, SQSEvent
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from chalicelib import passes
from chalicelib.errors import Invalid, SailplaneError, Unreachable
from chalicelib.passes import listing
from chalicelib.ports import Runtime
from chalicelib.providers.aws.interruption import notice as notice_of
from chalicelib.telemetry import emf
from chalicelib.telemetry.log import secrets_of
from chalicelib.telemetry.measures import measure
from chalicelib.telemetry.redaction import redacted

EVERY_MINUTE: Final = "rate(1 minute)"  # EventBridge knows no finer one

SPOT_WARNING: Final = "EC2 Spot Instance Interruption Warning"
REBALANCE: Final = "EC2 Instance Rebalance Recommendation"
STATE_CHANGE: Final = "EC2 Instance State-change Notification"

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide: "Spot Instance interruption notices", "EC2 instance rebalance
# recommendations" and "State change events for your instances".
EC2_EVENTS: Final[Mapping[str, Any]] = {"source": ["aws.ec2"], "detail-type": [SPOT_WARNING, REBALANCE, STATE_CHANGE]}

# The queue's name in the package; the deployment's template puts its own there.
RELAY: Final = "sailplane-relay"
# The rule has only just been turned on when a service is created, so the tick comes at some time within this.
_FIRST_TICK_S: Final = 2 * passes.TICK_S
# Of a function's time, for beginning passes: 50 s of 60 s. The rest is for those that have begun, so that a function ends by
# itself and not by its time-out.
_FOR_BEGINNING: Final = 5 / 6

Handler = Callable[[CloudWatchEvent], None]

_log = logging.getLogger(__name__)


class Context(Protocol):
    """As much of Lambda's context as handlers use: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Until the function is killed."""


class PassesFailed(SailplaneError):
    """Some service's passes did not get through; raised, so that the function's error metric counts it."""


def on_schedule(runtime: Callable[[], Runtime]) -> Handler:
    """The minute's tick over all services. Routers are asked first: a function that nobody asks for anything reports nothing."""

    def tick(event: CloudWatchEvent) -> None:
        running = runtime()
        started = running.clock.now()
        bounded = _until_killed(running, event.context)
        listing.ask(bounded)  # clouds take longest, and the passes take what they are answering meanwhile
        if running.ask_routers:
            running.ask_routers()
        pushes = running.spawn("pushes", partial(passes.deploy_pushes, bounded))  # nobody else waits for a slow forge
        reports = passes.tick(bounded)
        _go_on(running, passes.Round({}, started + passes.TICK_S), (), reports)
        _emit_metrics(running, reports)
        _report(running, (*pushes.result(), *reports), event.context)

    return tick


def on_relay(runtime: Callable[[], Runtime]) -> Callable[[SQSEvent], None]:
    """A round between two ticks, or a pass asked for at once: see `passes.Round`."""

    def relay(event: SQSEvent) -> None:
        running = runtime()
        pushes: list[passes.Report] = []
        reports: list[passes.Report] = []
        for record in event:
            this = passes.Round.parse(record.body)
            now = running.clock.now()
            if 0.0 < this.until < now:  # it waited too long, and a tick has come
                continue
            names = this.names(now)
            if not this.until:  # asked for: by a push, perhaps, which may make the service that there is to look at
                pushes += passes.deploy_pushes(_until_killed(running, event.context), names)
            seen = passes.tick(_until_killed(running, event.context), names, lists_for_all=False)
            reports += seen
            # Whoever asks again while nothing has to be done, such as routers every 3 s, has rounds under way already.
            if this.until or any(report.acted or report.failures or report.is_held_up for report in seen):
                _go_on(running, this if this.until else _young(running, names), names, seen)
        _report(running, (*pushes, *reports), event.context)

    return relay


def _young(runtime: Runtime, names: Collection[str]) -> passes.Round:
    """Services that are older are in the rounds of the last tick; one that was created since then needs rounds of its own."""
    states = (runtime.store.load(name) for name in names)
    created_at = max((state.service.created_at for state in states if state), default=0.0)
    return passes.Round({}, created_at + _FIRST_TICK_S)


def _go_on(runtime: Runtime, last: passes.Round, looked_at: Collection[str], reports: Sequence[passes.Report]) -> None:
    now = runtime.clock.now()
    upcoming = passes.next_round(last, looked_at, reports, now)
    if upcoming and runtime.relay:
        runtime.relay.send(upcoming.text, passes.delay_s(upcoming, now))


def _until_killed(runtime: Runtime, context: Context | None) -> Runtime:
    """The same, knowing how long this function has left. A laptop's has no context, and all the time it wants."""
    if context is None:
        return runtime
    budget_s = min(runtime.settings.pass_budget_s, _FOR_BEGINNING * context.get_remaining_time_in_millis() / 1000)
    return replace(runtime, settings=replace(runtime.settings, pass_budget_s=budget_s))


def on_ec2_event(runtime: Callable[[], Runtime]) -> Handler:
    """EC2 is going to take a machine, or it is gone: the passes of its service run at once. Other machines' events do nothing.

    An event of another shape raises `Invalid`.
    """

    def interrupt(event: CloudWatchEvent) -> None:
        seen = _parsed(event)
        notice = notice_of(seen.kind, seen.detail.model_dump(by_alias=True), seen.time.timestamp())
        if notice is not None:
            running = _until_killed(runtime(), event.context)
            _report(running, passes.interrupt(running, (notice,)), event.context)

    return interrupt


def _emit_metrics(runtime: Runtime, reports: Sequence[passes.Report]) -> None:
    """One line a service, where somebody has asked for them."""
    if runtime.emit is None:
        return
    try:
        states = [runtime.store.load(report.service) for report in reports if report.service]
        tables = {table.service: table for table in runtime.store.tables()}
    except Unreachable as error:  # the passes have said so too, or the next ones will
        _log.warning("metrics are missing: %s", error)
        return
    now = runtime.clock.now()
    for state in filter(None, states):
        measured = measure(state, tables.get(state.service.name), now)
        runtime.emit(emf.line(runtime.settings.deployment, measured, now))


def _report(runtime: Runtime, reports: Sequence[passes.Report], context: Context | None) -> None:
    """A line for each service on which something was done or went wrong; at rest there is none, at $0.50 a GB."""
    invocation = {"request_id": context.aws_request_id} if context else {}
    for report in reports:
        if report.acted or report.failures:
            level = logging.ERROR if report.failures else logging.INFO
            told = {"service": report.service, "acted": report.acted, "failures": report.failures}
            _log.log(level, "pass", extra={**told, **invocation})
    failures = [f"{report.service or 'deployment'}: {failure}" for report in reports for failure in report.failures]
    if failures:
        # Lambda writes what is raised as it is.
        raise PassesFailed(redacted("\n".join(failures), secrets_of(runtime.settings)))


_ON_FIRST_USE = ConfigDict(defer_build=True)  # only one of the functions is ever told


class _Detail(BaseModel):
    model_config = _ON_FIRST_USE

    instance_id: Annotated[str, StringConstraints(pattern=r"^i-[0-9a-f]{8,17}$"), Field(alias="instance-id")]


class _Event(BaseModel):
    model_config = _ON_FIRST_USE

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
_ec2_event: TypeAdapter[_Ec2Event] = TypeAdapter(
    Annotated[_Ec2Event, Field(discriminator="kind")], config=_ON_FIRST_USE
)


def _parsed(event: CloudWatchEvent) -> _Ec2Event:
    try:
        seen = {"kind": event.detail_type, "source": event.source, "time": event.time, "detail": event.detail}
        return _ec2_event.validate_python(seen)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise Invalid(f"This is no EC2 event that Sailplane acts on ({event.detail_type!r}): {faults}") from error
