"""What happens to each replica that exists? Interruptions, deaths, deadlines, scale-down, roll-out, shutdown, orphans.

Launching is decided in `launches`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from chalicelib.actions import (
    Action,
    Decision,
    DeleteService,
    Drain,
    Save,
    SaveService,
    Terminate,
    TerminateOrphan,
)
from chalicelib.lifecycle import budget
from chalicelib.lifecycle.launches import current_and_stale, valid_plan, wanted_mix
from chalicelib.lifecycle.records import moved
from chalicelib.model import (
    RISK_AWARE,
    Backoff,
    CapacityType,
    EnginePhase,
    Instance,
    InstanceStatus,
    Limits,
    Location,
    Mix,
    Observed,
    ProbeResult,
    Reason,
    Replica,
    ReplicaStatus,
    ScalingSpec,
    Service,
    ServiceSpec,
    State,
)
from chalicelib.optimizer import is_fallback
from chalicelib.scaler import best_first

# These may have requests in them and are drained; all others are removed at once.
_SERVED = (ReplicaStatus.READY, ReplicaStatus.NOT_READY)


def decide_reconcile(
    state: State,
    specs: Mapping[int, ServiceSpec],
    observed: Observed,
    limits: Limits,
    now: float,
    *,
    routed: Collection[str] = (),
) -> Decision:
    """What to do about every existing replica and every machine of this service at `now`.

    `specs` holds the spec versions that the replicas were launched from. A replica is judged by its own version's probe
    and drain limits, so that an update of these does not condemn machines already running. `routed` are the ids in the
    published table; it matters to replicas that are draining.
    """
    # The first of several with one name, of each cloud's.
    listed = {
        name: {instance.replica_id: instance for instance in reversed(found)}
        for name, found in observed.instances.items()
    }
    judged: dict[str, Action | None] = {}
    staying: list[Replica] = []
    for replica in state.replicas:
        spec, is_routed = specs[replica.spec_version], replica.id in routed
        instance = listed.get(replica.offer.location.provider, {}).get(replica.id)
        action = _Case(replica, spec, instance, observed, limits, now, is_routed).decide()
        judged[replica.id] = action
        if replica.status.is_active and not isinstance(action, Drain | Terminate):
            staying.append(replica)
    # Who has to leave is not saved in its old state.
    for leaving in _retire(budget.within(state, now), staying):
        judged[leaving.replica.id] = leaving
    actions = [action for action in judged.values() if action is not None]
    actions += _orphans(state, observed, limits, now)
    actions += _backoff(state, actions, limits, now)
    if state.service.deleting and not state.replicas:
        bill = f"${state.service.spend.usd_ever:,.2f} in all"
        actions.append(DeleteService(state.service, f"shut down: every machine has been seen gone; they cost {bill}"))
    return Decision(tuple(actions), tuple(action.why for action in actions))


def is_orphan(instance: Instance, limits: Limits, now: float) -> bool:
    """Whether a machine that no live record wants is to be removed: it still exists and is past its grace.

    Also one on its way out: a machine that finds its boot token used up switches itself off, and some clouds keep it so, and
    bill its disk, until it is removed.
    """
    return instance.status is not InstanceStatus.GONE and now - instance.created_at > limits.orphan_grace_s


@dataclass(frozen=True, slots=True)
class _Case:
    """One replica and all that is known about it."""

    replica: Replica
    spec: ServiceSpec
    instance: Instance | None  # as its cloud lists it
    observed: Observed
    limits: Limits
    now: float
    is_routed: bool

    def decide(self) -> Save | Drain | Terminate | None:
        match self.replica.status:
            case ReplicaStatus.PENDING:
                return self._interrupted() or self._pending()
            case ReplicaStatus.PROVISIONING:
                return self._interrupted() or self._dead() or self._provisioning()
            case ReplicaStatus.STARTING | ReplicaStatus.READY | ReplicaStatus.NOT_READY:
                # A machine on its way out stops its engine: that is no fault of the engine's.
                return self._interrupted() or self._exited() or self._dead() or self._overdue()
            case ReplicaStatus.DRAINING:
                return self._dead() or self._draining()
            case ReplicaStatus.TERMINATING:
                return self._terminating()
            case ReplicaStatus.TERMINATED:
                return None

    def _pending(self) -> Terminate | None:
        if self._age_s > self.limits.pending_s:
            return self._fail(Reason.LOST, f"the cloud gave no answer to the launch for {self.limits.pending_s:g} s")
        return None

    def _provisioning(self) -> Save | Terminate | None:
        instance = self.instance
        if instance and instance.url and instance.url != self.replica.url:
            return Save(replace(self.replica, url=instance.url), f"{self.replica.id}: the machine has its address")
        if self.replica.url and self._probe is None:
            return None  # its agent was not asked in this pass: another one has just written down where it is
        if self._lasted_s > self.limits.provisioning_s:
            detail = self._probe.detail if self._probe else "it has no address"
            error = f"its agent never answered in {self.limits.provisioning_s:g} s: {detail}"
            return self._fail(Reason.INITIAL_DELAY_EXCEEDED, error)
        return None

    def _exited(self) -> Terminate | None:
        probe = self._probe
        if not (probe and probe.identified and probe.engine is EnginePhase.EXITED):
            return None
        if probe.exit_code is None:  # its agent never ran it, and has said why
            why = probe.log_tail.rstrip().rpartition("\n")[2].removeprefix("[sailplane] ")
            return self._fail(
                Reason.ENGINE_EXITED, f"the engine was not started: {why or 'its agent does not say why'}"
            )
        tail = f":\n{probe.log_tail}" if probe.log_tail else " and wrote nothing"
        return self._fail(Reason.ENGINE_EXITED, f"the engine exited with code {probe.exit_code}{tail}")

    def _interrupted(self) -> Drain | None:
        if self._interruption_at is None:
            return None
        left_s = max(0.0, self._interruption_at - self.now)
        return Drain(
            self.replica, Reason.INTERRUPTED, f"{self.replica.id}: the cloud takes the machine in {left_s:.0f} s"
        )

    def _dead(self) -> Terminate | None:
        if not self._gone or (self._probe and self._probe.identified):
            return None
        if self.instance is None and self.replica.url and self._probe is None:
            return None  # its agent was not asked in this pass, so it may well answer
        taken = self.instance is not None and self.instance.preempted
        if taken or self.replica.offer.capacity_type is CapacityType.SPOT:
            return self._fail(Reason.PREEMPTED, "the cloud took the machine")
        return self._fail(Reason.LOST, "the machine died: the cloud does not list it and its agent does not answer")

    def _overdue(self) -> Terminate | None:
        probe = self.spec.probe
        detail = self._probe.detail if self._probe else "not probed"
        if self.replica.status is ReplicaStatus.STARTING and self._lasted_s > probe.initial_delay_s:
            error = f"not ready within initial_delay_seconds: {probe.initial_delay_s:g} ({detail})"
            return self._fail(Reason.INITIAL_DELAY_EXCEEDED, error)
        if self.replica.status is ReplicaStatus.NOT_READY and self._lasted_s > probe.failure_threshold_s:
            error = f"failed its readiness probe for more than {probe.failure_threshold_s:g} s ({detail})"
            return self._fail(Reason.UNHEALTHY, error)
        return None

    def _draining(self) -> Drain | Terminate | None:
        if self.is_routed:
            # Whoever drained it could not publish that any more: its drain begins when the routers are told.
            return _drain_again(self.replica)
        if self.replica.ready_at is None:
            return self._remove("it never served")
        # Until then a router may have sent it a request, and that one too has all of the drain's time.
        settled_at = self.replica.status_since + self.limits.routers_settle_s
        if self.now > settled_at + self.spec.drain_timeout_s:
            return self._remove(f"drained for {self.spec.drain_timeout_s:g} s, its time is up")
        if self._is_taken:
            return self._remove("the cloud took it, as it had announced")
        # Silence by itself proves nothing about its requests, nor does an answer from before the routers had settled.
        probe = self._probe
        if probe and probe.identified and probe.at > settled_at and probe.in_flight == 0:
            return self._remove("drained")
        return None

    def _terminating(self) -> Save | Terminate:
        # A listing made before the removal was decided proves nothing.
        if self._gone and self._listed_at > self.replica.status_since:
            return Save(moved(self.replica, ReplicaStatus.TERMINATED, self.now), f"{self.replica.id}: machine is gone")
        return self._remove("not seen gone yet")

    def _fail(self, reason: Reason, error: str) -> Terminate:
        return Terminate(replace(self.replica, error=error), reason, f"{self.replica.id}: {error}")

    def _remove(self, why: str) -> Terminate:
        return Terminate(self.replica, self.replica.reason or Reason.LOST, f"{self.replica.id}: {why}")

    @property
    def _age_s(self) -> float:
        return self.now - self.replica.status_since

    @property
    def _lasted_s(self) -> float:
        """As of the probe: in a pass that was held up in between, a single silence is not a long one."""
        return (self._probe.at if self._probe else self.now) - self.replica.status_since

    @property
    def _probe(self) -> ProbeResult | None:
        return self.observed.probes.get(self.replica.id)

    @property
    def _interruption_at(self) -> float | None:
        """The earliest instant that anybody has named."""
        notices = (self.replica, self.instance, self._probe)
        return min((one.interruption_at for one in notices if one and one.interruption_at is not None), default=None)

    @property
    def _is_taken(self) -> bool:
        """The instant that the cloud has named is past, and the agent was asked and is silent."""
        at, probe = self._interruption_at, self._probe
        return at is not None and at <= self.now and probe is not None and not probe.identified

    @property
    def _gone(self) -> bool:
        """The cloud was asked and does not have the machine.

        Not true when it could not be asked, nor for a machine so young that the cloud may not list it yet.
        """
        provider = self.replica.offer.location.provider
        if provider not in self.observed.instances:
            return False
        if self.instance is not None:
            return self.instance.status is InstanceStatus.GONE
        # A cloud takes its time to launch, minutes after the intent: only what was listed after its answer can be missing,
        # and who has served had been answered by then.
        since = self.replica.status_since if self.replica.ready_at is None else self.replica.ready_at
        return self._listed_at - since > self.observed.listing_lag_s.get(provider, 0.0)

    @property
    def _listed_at(self) -> float:
        return self.observed.listed_at[self.replica.offer.location.provider]


def _drain_again(replica: Replica) -> Drain:
    return Drain(replica, replica.reason or Reason.USER, f"{replica.id}: routers still have it, its drain begins now")


def _retire(service: Service, active: Sequence[Replica]) -> list[Drain | Terminate]:
    """Who of the active replicas has to go: all at shutdown, the old at roll-out, the least useful at scale-down."""
    if service.deleting:
        return [_give_up(replica, Reason.USER, "the service is shut down") for replica in active]
    current, stale = current_and_stale(service, active)
    spec, target = service.spec.scaling, service.scaler.target
    ready_now = sum(replica.status is ReplicaStatus.READY for replica in current)
    # An old replica that serves goes only when a new one is ready in its place, so that a broken version never takes
    # the old one down. One that never served is of no use to anyone.
    old = _least_useful(spec, stale, len(stale) - max(0, target - ready_now))
    old += [replica for replica in stale if replica.status not in _SERVED and replica not in old]
    reason, why = Reason.REPLACED, f"version {service.spec_version} replaces it"
    if target == 0:  # scaled to zero, or the month's money is spent: nothing comes in its place
        reason, why = Reason.SCALED_DOWN, "0 wanted"
    replaced = [_give_up(replica, reason, why) for replica in old]
    return replaced + _surplus(service, current, wanted_mix(service, active))


def _surplus(service: Service, current: Sequence[Replica], wanted: Mix) -> list[Drain | Terminate]:
    """The least useful of each kind of which there are too many.

    A change of the mix alone takes nobody away who serves before as many as the target are ready without: one that
    stands in goes when the spot replica is ready, not when it is asked for. `risk_aware` keeps everybody, those on their way
    too, until all that it wants are ready.
    """
    scaling = service.spec.scaling
    is_careful = service.spec.spot.placer == RISK_AWARE and service.scaler.target > 0
    standing_in = [replica for replica in current if is_fallback(service.spec, replica)]
    own = [replica for replica in current if replica not in standing_in and not replica.is_at_risk]
    at_risk = [replica for replica in current if replica not in standing_in and replica.is_at_risk]
    safe = sum(replica.status is ReplicaStatus.READY for replica in own)
    plan = valid_plan(service)
    surplus = _least_useful(scaling, standing_in, len(standing_in) - wanted.fallback)
    surplus += _least_useful(scaling, at_risk, safe + len(at_risk) - wanted.own)
    surplus += _least_useful(scaling, own, len(own) - wanted.own, plan.leaving if plan else ())
    ready = [replica for replica in surplus if replica.status is ReplicaStatus.READY]
    enough = wanted.total if is_careful else service.scaler.target
    spare = sum(replica.status is ReplicaStatus.READY for replica in current) - enough
    kept = surplus if is_careful and spare < 0 else ready[max(0, spare) :]
    return [_give_up(replica, Reason.SCALED_DOWN, f"{wanted} wanted") for replica in surplus if replica not in kept]


def _least_useful(
    spec: ScalingSpec, replicas: Sequence[Replica], count: int, leaving: Sequence[Location] = ()
) -> list[Replica]:
    """Those in zones that are to be left (`leaving`), one for each entry; then the scaler has counted on the others to stay."""
    ranked = best_first(spec, replicas)[::-1]
    first: list[Replica] = []
    for place in leaving:
        first += [replica for replica in ranked if replica.offer.location == place and replica not in first][:1]
    return [*first, *(replica for replica in ranked if replica not in first)][: max(0, count)]


def _give_up(replica: Replica, reason: Reason, why: str) -> Drain | Terminate:
    leave = Drain if replica.status in _SERVED else Terminate
    return leave(replica, reason, f"{replica.id}: {why}")


def _orphans(state: State, observed: Observed, limits: Limits, now: float) -> list[Action]:
    """Machines of this service that no live record wants.

    Clouds are listed before state is read, so a machine being launched right now always has its record; the grace is
    for a database restored from a backup.
    """
    known = {replica.id for replica in state.replicas}
    return [
        TerminateOrphan(instance, f"{instance.replica_id}: machine {instance.id} has no live record")
        for listed in observed.instances.values()
        for instance in listed
        if instance.service == state.service.name
        and instance.replica_id not in known
        and is_orphan(instance, limits, now)
    ]


def _backoff(state: State, actions: Sequence[Action], limits: Limits, now: float) -> list[Action]:
    """One failure more, however many replicas of the current version failed by their own fault in this pass.

    Forgiven after a time without another one, once a replica has been ready for long enough to show that the version works
    or nobody asks for any. A replica that is well proves nothing as long as those that join it keep failing.
    """
    service = state.service
    faults = [
        action
        for action in actions
        if isinstance(action, Drain | Terminate)
        and _is_fault(action)
        and action.replica.fingerprint == service.spec.fingerprint
    ]
    if faults:
        failures = service.backoff.failures + 1
        # The exponent is bounded so that months of failures do not overflow a float.
        delay_s = min(limits.backoff_cap_s, limits.backoff_base_s * 2.0 ** min(failures - 1, 30))
        why = f"failure {failures} in a row: the next launch in {delay_s:g} s"
        error = faults[0].replica.error or faults[0].why
        return [SaveService(replace(service, backoff=Backoff(failures, now + delay_s, error)), why)]
    forgiven_at = service.backoff.retry_at + limits.backoff_forgiven_after_s
    steady = service.scaler.target == 0 or any(
        replica.status is ReplicaStatus.READY
        and replica.fingerprint == service.spec.fingerprint
        and now - replica.status_since >= limits.backoff_forgiven_after_s
        for replica in state.replicas
    )
    if service.backoff.failures and steady and now >= forgiven_at:
        why = f"no failure for {limits.backoff_forgiven_after_s:g} s: earlier ones forgiven"
        return [SaveService(replace(service, backoff=Backoff()), why)]
    return []


def _is_fault(action: Drain | Terminate) -> bool:
    """Whether the service's own making is the likely cause, so that the next machine will probably end the same way.

    So is a machine that goes, without the cloud's notice, before its agent has ever answered: an image that cannot boot
    into a replica switches itself off, and would be bought again every minute.
    """
    replica = action.replica
    never_came = replica.status is ReplicaStatus.PROVISIONING and replica.interruption_at is None
    is_gone = action.reason in (Reason.LOST, Reason.PREEMPTED, Reason.INTERRUPTED)
    blamed = action.reason.blames_user_code and replica.status is not ReplicaStatus.TERMINATING
    return blamed or (never_came and is_gone)
