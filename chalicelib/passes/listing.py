"""The clouds' lists of our machines: asked for side by side, waited for only by those who need them, and not for long.

That a list is asked for before state is read is not enough: it may be answered later than that, and hold machines whose
record is younger than the state. So a first look, at such a state, decides only whether to take the lease. What is
executed has been decided anew, on state read under the lease, after the lists were taken: whatever they hold has its record
there, if there is one at all. A list counts as of the instant at which it was asked for, when it comes late too.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import wait
from functools import partial

from chalicelib.errors import Unreachable
from chalicelib.model import Instance, Observed, State
from chalicelib.ports import Asked, Runtime


def ask(runtime: Runtime, *providers: str) -> Mapping[str, Asked]:
    """Ask these clouds (all, if none is named) for their machines, without waiting.

    A list asked for earlier that no pass has taken yet, because it came late or has not come, is not asked for again. On
    Lambda that may have been before the process was frozen: the answer is then that old, or the SDK's timeout.
    """
    asked = {}
    for name in providers or tuple(runtime.providers):
        known = runtime.asked.get(name)
        if known is None:
            now = runtime.clock.now()
            known = runtime.asked[name] = Asked(now, runtime.spawn(name, partial(_list, runtime, name)))
        asked[name] = known
    return asked


class OnDemand:
    """Lists asked for when the first service needs them, and then once: a round between two ticks, which are all asked anyhow.

    A list takes half a second of a function's time on AWS, in 17 regions, and a service at rest learns nothing from it that a
    probe does not tell.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._asking = threading.Lock()
        self._asked: dict[str, Asked] = {}

    def __call__(self, needed: Collection[str]) -> Mapping[str, Asked]:
        """The lists of these clouds, of those that are ours."""
        ours = set(needed) & set(self._runtime.providers)
        with self._asking:
            if missing := ours - self._asked.keys():
                self._asked |= ask(self._runtime, *missing)
            return {name: self._asked[name] for name in ours}


def _list(runtime: Runtime, name: str) -> tuple[Instance, ...]:
    """In the cloud's own lane from the first: a provider's SDK is imported when it is first asked for, which takes seconds."""
    return runtime.providers[name].list_instances()


def observe(runtime: Runtime, asked: Mapping[str, Asked], needed: Collection[str]) -> Observed:
    """The lists of the `needed` clouds, given `listing_patience_s` since they were asked for, and what has come of the others.

    A cloud that has not answered, or that said that it cannot, is left out.
    """
    for name in needed:
        if name in asked and not asked[name].answer.done():
            patience_s = asked[name].at + runtime.settings.listing_patience_s - runtime.clock.now()
            wait([asked[name].answer], timeout=max(0.0, patience_s))
    answered = {name: one for name, one in asked.items() if one.answer.done()}
    for name, one in answered.items():
        if runtime.asked.get(name) is one:
            runtime.asked.pop(name, None)  # the next service takes it at the same moment
    listed = {name: one for name, one in answered.items() if one.answer.exception() is None}
    return Observed(
        listed_at={name: one.at for name, one in listed.items()},
        listing_lag_s={name: runtime.providers[name].listing_lag_s for name in listed},
        instances={name: one.answer.result() for name, one in listed.items()},
    )


def failures(runtime: Runtime, asked: Mapping[str, Asked]) -> list[str]:
    """Which clouds could not be listed, in words. Raises what is no failure of the cloud's but a defect of ours."""
    now, found = runtime.clock.now(), []
    for name, one in asked.items():
        if not one.answer.done():
            found.append(f"{name}: still not answering the list asked for {now - one.at:.0f} s ago")
        elif isinstance(error := one.answer.exception(), Unreachable):
            found.append(f"{name}: list: {error}")
        else:
            one.answer.result()
    return found


def not_enabled(runtime: Runtime, state: State) -> tuple[str, ...]:
    """The clouds that hold replicas of the service and are none of ours (any more), in words. Nothing can be done there."""
    places = Counter(replica.offer.location.provider for replica in state.replicas)
    return tuple(
        f"{place} is not enabled in this control plane (SAILPLANE_PROVIDERS), so {count} of the service's machines can"
        " neither be seen nor removed"
        for place, count in sorted(places.items())
        if place not in runtime.providers
    )
