"""Run the passes: over one service under its lease, over all services with the clouds listed first."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from chalicelib.actions import Decision
from chalicelib.errors import Conflict, Fenced, LeaseHeld, SailplaneError, Unreachable
from chalicelib.executor import Execution, remove_orphan
from chalicelib.lifecycle import is_orphan
from chalicelib.model import Instance, Observed, State
from chalicelib.passes import autoscale, cadence, optimize, probe, publish, reconcile
from chalicelib.ports import Ids, Runtime

Pass = Callable[[Runtime, State, Observed, float], Decision]

# Shared by every runtime (Lambda, laptop, tests). The order is the protocol's: who is lost is unrouted and published
# before the replacement is asked for, because a cloud may take a minute to answer.
PASSES: tuple[tuple[str, Pass], ...] = (
    ("probe", probe.decide),
    ("autoscale", autoscale.decide),
    ("reconcile", reconcile.decide),
    ("publish", publish.decide),
    ("optimize", optimize.decide),
)


@dataclass(frozen=True, slots=True)
class Report:
    """How the passes over one service went. `next_at` (epoch seconds) is when it wants to be looked at again.

    `failures` is returned, not raised: Lambda turns it into its error metric, the laptop prints it, tests
    accept none. `service` is empty for what concerns the deployment as a whole.
    """

    service: str
    failures: tuple[str, ...]
    acted: bool
    next_at: float


def tick(runtime: Runtime, only: frozenset[str] | None = None) -> tuple[Report, ...]:
    """Run all passes over every service, or over the named ones; machines of services that are gone are removed.

    Clouds are listed before any state is read: what is listed and has no record then is nobody's.
    """
    started = runtime.clock.now()
    observed, failures = _list_clouds(runtime)
    try:
        names = runtime.store.service_names()
    except Unreachable as error:
        return (Report("", (*failures, f"store: {error}"), acted=False, next_at=started + 1.0),)
    reports = []
    for name in _in_turn(names, runtime.ids):
        if only is not None and name not in only:
            continue
        if runtime.clock.now() - started > runtime.settings.pass_budget_s:
            failures.append(f"{name}: put off to the next tick, this one used its {runtime.settings.pass_budget_s:g} s")
            continue
        reports.append(run(runtime, name, observed))
    if only is None:
        failures += _remove_strangers(runtime, observed, names)
    if failures:
        reports.append(Report("", tuple(failures), acted=False, next_at=runtime.clock.now() + 1.0))
    return tuple(reports)


def _in_turn(names: Sequence[str], ids: Ids) -> Sequence[str]:
    """From a random one on, so that it is not always the same services that a tick has no time left for."""
    first = int(ids.token(4), 16) % max(1, len(names))
    return (*names[first:], *names[:first])


def run(runtime: Runtime, name: str, observed: Observed) -> Report:
    """Run all passes over one service. Never raises: one service's trouble is not the next one's."""
    try:
        return _run(runtime, name, observed)
    except SailplaneError as error:
        return Report(name, (f"{type(error).__name__}: {error}",), acted=False, next_at=runtime.clock.now() + 1.0)
    except Exception:  # noqa: BLE001 the one boundary: a bug met in one service must not stop the others
        return Report(name, (traceback.format_exc(),), acted=False, next_at=runtime.clock.now() + 10.0)


def preview(runtime: Runtime, name: str) -> tuple[str, ...]:
    """What each pass would do now, and why; nothing is written or asked of a cloud. Empty for an unknown service."""
    observed, failures = _list_clouds(runtime)
    state = runtime.store.load(name)
    if state is None:
        return ()
    observed = replace(observed, probes=probe.observe(runtime, state))
    lines = [f"cloud: {failure}" for failure in failures]
    for title, decide in PASSES:
        decision = decide(runtime, state, observed, runtime.clock.now())
        lines += [f"{title}: {why}" for why in decision.why]
    return tuple(lines)


def _run(runtime: Runtime, name: str, observed: Observed) -> Report:
    """Decide first, take the lease only when there is something to do, then decide again on what is true under it.

    So a steady pass costs two reads (the service's partition and its table) and no write.
    """
    state = runtime.store.load(name)
    if state is None:
        return Report(name, (), acted=False, next_at=runtime.clock.now() + 1.0)
    observed = replace(observed, probes=probe.observe(runtime, state))
    execution: Execution | None = None
    ended = ""
    try:
        for _, decide in PASSES:
            current = execution.state if execution else state
            decision = decide(runtime, current, observed, runtime.clock.now())
            if not decision.actions:
                continue
            if execution is None:
                execution = _under_lease(runtime, name)
                decision = decide(runtime, execution.state, observed, runtime.clock.now())
            execution.execute(decision)
            if execution.finished:
                break
        if execution is not None:
            execution.finish()
    except (LeaseHeld, Conflict, Fenced) as moved_on:
        # Somebody else is at work on this service or has just changed it: what was decided here is out of date.
        ended = str(moved_on)
    if execution is not None and not execution.finished:
        runtime.store.release_lease(execution.lease)
    failures = tuple(execution.failures) if execution else ()
    last = execution.state if execution else state
    busy = bool(failures or ended)
    next_at = runtime.clock.now() + cadence.next_pass_s(last, failed=busy)
    return Report(name, failures, acted=execution is not None, next_at=next_at)


def _under_lease(runtime: Runtime, name: str) -> Execution:
    owner = f"{runtime.settings.deployment}-{runtime.ids.token(4)}"
    lease = runtime.store.acquire_lease(name, owner, runtime.settings.lease_ttl_s, runtime.clock.now())
    state = runtime.store.load(name)
    if state is None:
        runtime.store.release_lease(lease)
        raise Conflict(f"service {name!r} was deleted meanwhile")
    return Execution(runtime, lease, state)


def _list_clouds(runtime: Runtime) -> tuple[Observed, list[str]]:
    """Every machine of this deployment. A cloud that does not answer is left out, which concludes nothing about it."""
    listed_at = runtime.clock.now()
    instances: dict[str, tuple[Instance, ...]] = {}
    failures: list[str] = []
    for name, provider in runtime.providers.items():
        try:
            instances[name] = provider.list_instances()
        except Unreachable as error:
            failures.append(f"{name}: list: {error}")
    lags = {name: provider.listing_lag_s for name, provider in runtime.providers.items()}
    return Observed(listed_at=listed_at, listing_lag_s=lags, instances=instances), failures


def _remove_strangers(runtime: Runtime, observed: Observed, names: Iterable[str]) -> list[str]:
    """Machines with our tag whose service does not exist (any more)."""
    known, now = frozenset(names), runtime.clock.now()
    strangers = [
        instance
        for listed in observed.instances.values()
        for instance in listed
        if instance.service not in known and is_orphan(instance, runtime.settings.limits, now)
    ]
    return [failure for stranger in strangers if (failure := remove_orphan(runtime, stranger))]
