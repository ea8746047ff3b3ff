"""The schedule and the cloud's events run the passes, and tell Lambda when these failed."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.api.triggers import PassesFailed
from chalicelib.errors import Invalid
from chalicelib.model import ReplicaStatus
from tests.api.conftest import Api

SPOT = {"instance-id": "i-0123456789abcdef0", "instance-action": "terminate"}
WARNING = "EC2 Spot Instance Interruption Warning"
STATE_CHANGE = "EC2 Instance State-change Notification"


def _event(detail_type: str, detail: Any, source: str = "aws.ec2") -> dict[str, Any]:
    return {
        "version": "0",
        "id": "e1",
        "account": "123456789012",
        "region": "us-east-1",
        "time": "2026-11-22T05:00:00Z",
        "resources": [],
        "source": source,
        "detail-type": detail_type,
        "detail": detail,
    }


def _tick(api: Api) -> None:
    api.client.lambda_.invoke("tick", _event("Scheduled Event", {}, "aws.events"))


def test_the_schedule_runs_the_passes(api: Api) -> None:
    """A service that wants two replicas has them asked for after one tick."""
    api.world.create()
    _tick(api)
    assert sum(api.world.cloud.started.values()) == 2


def test_a_failed_pass_fails_the_function(api: Api) -> None:
    """So that the error metric sees it; the message names who failed and why."""
    api.world.create()
    api.world.cloud.down = True
    with pytest.raises(PassesFailed, match="cloud is down"):
        _tick(api)


@pytest.mark.parametrize(
    ("detail_type", "detail"),
    [
        (WARNING, SPOT),
        ("EC2 Instance Rebalance Recommendation", {"instance-id": "i-0123456789abcdef0"}),
        (STATE_CHANGE, {"instance-id": "i-01234567", "state": "terminated"}),
    ],
)
def test_an_interruption_runs_the_passes_at_once(api: Api, detail_type: str, detail: dict[str, str]) -> None:
    """A machine lost is replaced without waiting for the minute."""
    api.world.create()
    _tick(api)
    api.world.tick(2)
    lost = api.world.replicas(ReplicaStatus.READY)[0]
    del api.world.cloud.machines[lost.id]
    api.client.lambda_.invoke("interrupt", _event(detail_type, detail))
    assert lost.id not in api.world.routed()
    assert sum(api.world.cloud.started.values()) == 3


def test_a_machine_that_comes_is_no_reason_for_a_pass(api: Api) -> None:
    """Its agent says so itself; the account's other machines come too."""
    api.world.create()
    api.client.lambda_.invoke("interrupt", _event(STATE_CHANGE, {"instance-id": "i-01234567", "state": "running"}))
    assert not api.world.cloud.started


@pytest.mark.parametrize(
    "event",
    [
        _event(WARNING, SPOT, source="mallory"),
        _event("EC2 AMI State Change", SPOT),
        _event(WARNING, {}),
        _event(WARNING, "text"),
        _event(WARNING, {"instance-id": "i-0123456789abcdef0", "instance-action": "explode"}),
        _event(WARNING, {"instance-id": "$(reboot)", "instance-action": "stop"}),
        _event(STATE_CHANGE, {"instance-id": "i-01234567", "state": "on-fire"}),
    ],
)
def test_an_event_of_another_shape_is_refused(api: Api, event: dict[str, Any]) -> None:
    """It says what is wrong, and no pass runs."""
    api.world.create()
    with pytest.raises(Invalid, match="no EC2 event that Sailplane acts on"):
        api.client.lambda_.invoke("interrupt", event)
    assert not api.world.cloud.started
