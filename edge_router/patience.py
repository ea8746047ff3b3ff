"""How long a client is held while nobody can take its request, and whether it is then sent round again. Pure."""

from __future__ import annotations

from edge_router.address import MAX_HOPS

# One look at a newer table, for services without patience and names that nobody knows.
GLANCE_S = 1.0
# Below that, redirects are all that a client sees.
_SHORTEST_HOLD_S = 4.0
# What is left is not worth a hop below that, least of all what floats leave of nothing.
_SHORTEST_REST_S = 1.0


def patience(wait_s: float, hops: int, cap_s: float) -> tuple[float, bool]:
    """Seconds to hold a client that has been sent round `hops` times, and whether to send it round once more then.

    Args:
        wait_s: how long clients of the service wait in all.
        hops: 0 to 8.
        cap_s: how long this platform can hold one request.
    """
    hold_s = min(max(_SHORTEST_HOLD_S, wait_s / MAX_HOPS), cap_s)
    left_s = wait_s - hops * hold_s
    if left_s <= 0:
        return GLANCE_S, False
    return min(hold_s, left_s), hops < MAX_HOPS and left_s - hold_s >= _SHORTEST_REST_S
