"""What a pass came to, and the one boundary at which an unexpected exception ends."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from chalicelib.errors import SailplaneError
from chalicelib.ports import Clock

_AGAIN_S = 1.0
_AGAIN_AFTER_A_BUG_S = 10.0  # which the next look most likely meets as well

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Report:
    """How the passes over one service went.

    `next_at` (epoch seconds) is when it wants to be looked at again: never, if it is gone. `failures` is returned, not
    raised: Lambda turns it into its error metric, the laptop prints it, tests accept none. `service` is empty for what
    concerns the deployment as a whole. `is_held_up` says that somebody else was at work on the service or changed it, so
    that what is to be done may not be done yet.
    """

    service: str
    failures: tuple[str, ...]
    acted: bool
    next_at: float
    is_held_up: bool = False


def guarded(clock: Clock, service: str, work: Callable[[], T]) -> T | Report:
    """What `work` returns, or a report of what it raised: one service's trouble is not the next one's. Never raises."""
    try:
        return work()
    except SailplaneError as error:
        return Report(service, (f"{type(error).__name__}: {error}",), acted=False, next_at=clock.now() + _AGAIN_S)
    except Exception:  # noqa: BLE001 the one boundary: a bug met in one service must not stop the others
        failure = traceback.format_exc()
        return Report(service, (failure,), acted=False, next_at=clock.now() + _AGAIN_AFTER_A_BUG_S)
