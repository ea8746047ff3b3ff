"""Azure's notice that it takes a spot machine: a scheduled event, seen only inside the machine and reported by its agent.

Of 30 seconds, best effort. https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from chalicelib.model import InterruptionNotice, NoticeKind


def notice(replica_id: str, scheduled: Mapping[str, Any], seen_at: float) -> InterruptionNotice | None:
    """The notice in a `/metadata/scheduledevents` document as of `seen_at`, or None while there is none.

    Machines are named as their replicas. An event has no time any more once it has begun. Reboots, redeployments and
    freezes leave the machine where it is.
    """
    times = [
        parsedate_to_datetime(event["NotBefore"]).timestamp() if event["NotBefore"] else seen_at
        for event in scheduled["Events"]
        if event["EventType"] == "Preempt" and replica_id in event["Resources"]
    ]
    return InterruptionNotice("azure", NoticeKind.INTERRUPTION, min(times), replica_id=replica_id) if times else None
