"""Azure's notices: the scheduled events of a machine's metadata service, as the core knows them.

Only the machine itself can ask for them, so its agent does and passes them on. The notice is 30 seconds or more.
https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from chalicelib.model import InterruptionNotice, NoticeKind


def notices(document: Mapping[str, Any], now: float) -> tuple[InterruptionNotice, ...]:
    """The spot machines that a `/metadata/scheduledevents` document says are to be taken, and when.

    A machine is named as its replica. `NotBefore` is empty once the event has started: then the machine goes `now`.
    Reboots, redeployments and freezes leave the machine where it is and are no interruption.
    """
    return tuple(
        InterruptionNotice("azure", NoticeKind.INTERRUPTION, _at(event, now), replica_id=machine)
        for event in document.get("Events", ())
        if event["EventType"] == "Preempt"
        for machine in event["Resources"]
    )


def _at(event: Mapping[str, Any], now: float) -> float:
    not_before = event.get("NotBefore")
    return parsedate_to_datetime(not_before).timestamp() if not_before else now
