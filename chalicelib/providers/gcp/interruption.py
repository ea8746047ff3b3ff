"""Google's notice that it takes a spot machine: seen only inside the machine, and reported by the agent there.

The machine's metadata server answers `instance/preempted` with TRUE; a power-button event follows, and the machine is
taken half a minute later. https://cloud.google.com/compute/docs/instances/spot#preemption-process
"""

from __future__ import annotations

from chalicelib.model import InterruptionNotice, NoticeKind

# Best effort, says Google: at most this long.
NOTICE_S = 30.0


def notice(replica_id: str, preempted: str, seen_at: float) -> InterruptionNotice | None:
    """The notice in the answer of `instance/preempted` as of `seen_at`, or None while there is none."""
    if preempted.strip() != "TRUE":
        return None
    return InterruptionNotice("gcp", NoticeKind.INTERRUPTION, seen_at + NOTICE_S, replica_id=replica_id)
