"""Run the passes: over one service under its lease, over all services side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from chalicelib import schedule
from chalicelib.actions import Decision
from chalicelib.errors import Conflict, Fenced, LeaseHeld, Unreachable
from chalicelib.executor import Execution, remove_orphan
from chalicelib.lifecycle import is_orphan
from chalicelib.model import Instance, Observed, State
from chalicelib.passes import autoscale, cadence, listing, optimize, probe, publish, reconcile
from chalicelib.passes.report import Report, guarded
from chalicelib.passes.snapshot import leave_snapshot
from chalicelib.ports import Asked, Ids, Runtime

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


def tick(
    runtime: Runtime,
    only: frozenset[str] | None = None,
    told: Callable[[Report], None] = lambda _report: None,
    *,
    lists_for_all: bool = True,
) -> tuple[Report, ...]:
    """Run all passes over every service, or over the named ones; machines of services that are gone are removed.

    Clouds are asked side by side, and services are looked at side by side: what waits for a slow cloud waits alone. `told`
    is called with a service's report when it is there, on any thread; all of them are returned at the end. Without
    `lists_for_all` no cloud is asked for its machines on behalf of services at rest, which must be named.
    """
    started = runtime.clock.now()
    asked = listing.ask(runtime) if lists_for_all else {}
    on_demand = None if lists_for_all else listing.OnDemand(runtime)
    try:
        names = tuple(sorted(only)) if only is not None else runtime.store.service_names()
    except Unreachable as error:
        nothing_done = Report("", (f"store: {error}",), acted=False, next_at=started + 1.0)
        told(nothing_done)
        return (nothing_done,)

    def look_at(name: str) -> Report:
        if runtime.clock.now() - started > runtime.settings.pass_budget_s:
            put_off = f"put off to the next tick, this one used its {runtime.settings.pass_budget_s:g} s"
            report = Report(name, (put_off,), acted=False, next_at=runtime.clock.now() + 1.0)
        else:
            report = run(runtime, name, asked, on_demand)
        told(report)
        return report

    looks = [runtime.spawn("passes", partial(look_at, name)) for name in _in_turn(names, runtime.ids)]
    reports = [look.result() for look in looks]
    failures = [*_as_a_whole(runtime, asked, names), leave_snapshot(runtime)] if only is None else []
    if any(failures):
        said = tuple(filter(None, failures))
        reports.append(Report("", said, acted=False, next_at=runtime.clock.now() + 1.0))
        told(reports[-1])
    return tuple(reports)


def _in_turn(names: Sequence[str], ids: Ids) -> Sequence[str]:
    """From a random one on, so that it is not always the same services that a tick has no time left for."""
    first = int(ids.token(4), 16) % max(1, len(names))
    return (*names[first:], *names[:first])


def run(runtime: Runtime, name: str, asked: Mapping[str, Asked], on_demand: listing.OnDemand | None = None) -> Report:
    """Run all passes over one service. Never raises: one service's trouble is not the next one's."""
    return guarded(runtime.clock, name, partial(_run, runtime, name, asked, on_demand))


def preview(runtime: Runtime, name: str) -> tuple[str, ...]:
    """What each pass would do now, and why; nothing is written or asked of a cloud. Empty for an unknown service."""
    asked = listing.ask(runtime)
    state = runtime.store.load(name)
    if state is None:
        return ()
    observed = replace(listing.observe(runtime, asked, asked), probes=probe.observe(runtime, state))
    troubles = (*listing.failures(runtime, asked), *listing.not_enabled(runtime, state))
    lines = [f"cloud: {trouble}" for trouble in troubles]
    for title, decide in PASSES:
        decision = decide(runtime, state, observed, runtime.clock.now())
        lines += [f"{title}: {why}" for why in decision.why]
    return tuple(lines)


def _run(runtime: Runtime, name: str, asked: Mapping[str, Asked], on_demand: listing.OnDemand | None) -> Report:
    """Decide first, take the lease only when there is something to do, then decide again on what is true under it.

    So a steady pass costs two reads (the service's partition and its table) and no write. Nothing is observed anew after the
    lease is taken: see `listing` for why state has to be read last.
    """
    state = runtime.store.load(name)
    if state is None:
        return Report(name, (), acted=False, next_at=math.inf)
    observed = _observe(runtime, state, asked)
    acts = _would_act(runtime, state, observed)
    if on_demand and (acts or not cadence.is_at_rest(state)):
        needed = _clouds_of(state)
        observed = replace(listing.observe(runtime, on_demand(needed), needed), probes=observed.probes)
        acts = _would_act(runtime, state, observed)
    execution: Execution | None = None
    ended = ""
    try:
        if acts:
            execution = _under_lease(runtime, name)
            # From the first on: what made one of them act may be news to those before it.
            for _, decide in PASSES:
                execution.execute(decide(runtime, execution.state, observed, runtime.clock.now()))
                if execution.finished:
                    break
        if execution is not None:
            execution.finish()
    except (LeaseHeld, Conflict, Fenced) as moved_on:
        # Somebody else is at work on this service or has just changed it: what was decided here is out of date.
        ended = str(moved_on)
    if execution is not None and not execution.finished:
        runtime.store.release_lease(execution.lease)
    rerouted = execution is not None and (execution.rerouted or execution.finished)
    failures = tuple(execution.failures) if execution else ()
    last = execution.state if execution else state
    busy = bool(failures or ended)
    next_at = runtime.clock.now() + cadence.next_pass_s(last, failed=busy)
    failures += listing.not_enabled(runtime, last)
    if rerouted and (failure := leave_snapshot(runtime)):
        failures += (failure,)
    return Report(name, failures, acted=execution is not None, next_at=next_at, is_held_up=bool(ended))


def _observe(runtime: Runtime, state: State, asked: Mapping[str, Asked]) -> Observed:
    """What the agents say and, while they were asked, the clouds in which the service has machines."""
    probes = probe.observe(runtime, state)
    return replace(listing.observe(runtime, asked, _clouds_of(state)), probes=probes)


def _clouds_of(state: State) -> set[str]:
    return {replica.offer.location.provider for replica in state.replicas}


def _would_act(runtime: Runtime, state: State, observed: Observed) -> bool:
    return any(decide(runtime, state, observed, runtime.clock.now()).actions for _, decide in PASSES)


def _under_lease(runtime: Runtime, name: str) -> Execution:
    owner = f"{runtime.settings.deployment}-{runtime.ids.token(4)}"
    lease = runtime.store.acquire_lease(name, owner, runtime.settings.lease_ttl_s, runtime.clock.now())
    state = runtime.store.load(name)
    if state is None:
        runtime.store.release_lease(lease)
        raise Conflict(f"service {name!r} was deleted meanwhile")
    return Execution(runtime, lease, state)


def _as_a_whole(runtime: Runtime, asked: Mapping[str, Asked], names: Collection[str]) -> list[str]:
    """Remove the machines with our tag whose service does not exist any more. What could not be seen or done, in words.

    A service that the store has never heard of is another matter: more likely than its machines the table is the wrong one,
    or a new or restored one, and then everything that runs would be removed. Its owner decides (`sailplane doctor --fix`).
    """
    observed = listing.observe(runtime, asked, asked)
    strangers = _strangers(runtime, observed, names)
    try:
        if strangers:  # a service may be younger than `names`, and its machines on a list that came later
            strangers = _strangers(runtime, observed, runtime.store.service_names())
        unheard_of = {name for name in {one.service for one in strangers} if not runtime.store.has_launched(name)}
    except Unreachable as error:
        return [f"store: {error}"]
    told = [
        f"machines of {name!r}, which this control plane's table has never heard of: is SAILPLANE_TABLE the right one?"
        " If they are not wanted, `sailplane doctor --fix` removes them."
        for name in sorted(unheard_of)
    ]
    strangers = [one for one in strangers if one.service not in unheard_of]
    removals = [runtime.spawn(one.provider, partial(remove_orphan, runtime, one)) for one in strangers]
    return [
        *listing.failures(runtime, asked),
        *told,
        *(failure for removal in removals if (failure := removal.result())),
        schedule.rest(runtime, names, observed),
    ]


def _strangers(runtime: Runtime, observed: Observed, names: Iterable[str]) -> list[Instance]:
    known, now = frozenset(names), runtime.clock.now()
    return [
        instance
        for listed in observed.instances.values()
        for instance in listed
        if instance.service not in known and is_orphan(instance, runtime.settings.limits, now)
    ]
