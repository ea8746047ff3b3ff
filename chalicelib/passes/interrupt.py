"""A cloud's notices: recorded on their replicas, and acted on at once."""

from __future__ import annotations

from collections.abc import Sequence

from chalicelib.model import InterruptionNotice
from chalicelib.passes.runner import Report, tick
from chalicelib.ports import Runtime


def interrupt(runtime: Runtime, notices: Sequence[InterruptionNotice]) -> tuple[Report, ...]:
    """Stand-in: runs all passes, which see by themselves what the cloud lists."""
    return tick(runtime) if notices else ()
