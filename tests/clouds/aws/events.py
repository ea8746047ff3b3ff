"""What EC2 tells EventBridge, in the shape of the examples in its user guide."""

from __future__ import annotations

import uuid
from typing import Any

from tests.clouds.aws.machine import Machine, stamp

_WARNING_S = 120.0


def interruption_warning(account: str, machine: Machine) -> dict[str, Any]:
    """Sent two minutes ahead, so whatever the notice in the box is, the event's time keeps that promise."""
    assert machine.interruption_at is not None
    detail = {"instance-id": machine.id, "instance-action": "terminate"}
    at = machine.interruption_at - _WARNING_S
    return _event(account, machine, "EC2 Spot Instance Interruption Warning", at, detail=detail, where=machine.zone)


def rebalance_recommendation(account: str, machine: Machine) -> dict[str, Any]:
    """Sent when the risk rises."""
    assert machine.rebalance_at is not None
    detail = {"instance-id": machine.id}
    return _event(
        account,
        machine,
        "EC2 Instance Rebalance Recommendation",
        machine.rebalance_at,
        detail=detail,
        where=machine.zone,
    )


def state_change(account: str, machine: Machine, state: str, at: float) -> dict[str, Any]:
    """Sent at every change."""
    detail = {"instance-id": machine.id, "state": state}
    where = f"{machine.region}:{account}"
    return _event(account, machine, "EC2 Instance State-change Notification", at, detail=detail, where=where)


def _event(
    account: str, machine: Machine, kind: str, at: float, *, detail: dict[str, str], where: str
) -> dict[str, Any]:
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": "aws.ec2",
        "account": account,
        "time": stamp(at),
        "region": machine.region,
        "resources": [f"arn:aws:ec2:{where}:instance/{machine.id}"],
        "detail": detail,
    }
