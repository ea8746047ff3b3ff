"""The one place that changes the world: carries out a `Decision`, crash-safely.

Every action is intent → cloud call → outcome, and every write is one transaction fenced by the service's lease. A crash
between any two lines leaves a record from which the next pass finishes the job: what is called again is idempotent
(launch by the replica's id, terminate by nature), what is written again meets its version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial

from chalicelib import optimizer
from chalicelib.actions import (
    Action,
    Decision,
    DeleteService,
    Drain,
    Launch,
    Publish,
    Save,
    SaveService,
    Terminate,
    TerminateOrphan,
)
from chalicelib.errors import LaunchError, LaunchRefused, Retry, Unauthorized, Unreachable
from chalicelib.launching import launch_request
from chalicelib.lifecycle import budget, disproved, is_worth_avoiding, moved, refusal
from chalicelib.model import (
    CapacityType,
    Event,
    Instance,
    LaunchRequest,
    Lease,
    Reason,
    Replica,
    ReplicaStatus,
    Service,
    ServiceSpec,
    State,
    Unavailable,
    ZoneMemory,
)
from chalicelib.optimizer import zones
from chalicelib.ports import Commit, Provider, Runtime
from chalicelib.words import lasting

# How many launches' intents go into one transaction, which holds 100 items: three for each, the service and the lease.
_INTENTS_AT_ONCE = 32
# A cloud's words may hold a time or a trace id, and would be written anew each second.
_WORDS_KEPT_S = 60.0


class Execution:
    """Carries out decisions on one service under one lease, keeping `state` equal to what is stored.

    Clouds and agents are called side by side, off the pass's thread, and whatever is written is written on it. A call that
    outlives its pass (fenced, killed, frozen by Lambda) does what a crash after the call does: its replica is found
    PENDING and asked for again by its id, or is gone and its machine an orphan.

    `failures` collects what could not be done and will be done again by the next pass. `Fenced` and `Conflict` are not
    among them: they mean that somebody else has moved on, so they end the pass.
    """

    def __init__(self, runtime: Runtime, lease: Lease, state: State) -> None:
        self.state = state
        self.failures: list[str] = []
        self.finished = False  # the service is deleted, there is nothing left to decide about
        self.rerouted = False  # routers have been given other replicas
        self._runtime = runtime
        self.lease = lease
        # Whom they wait for, what there is to say, and the replica whose machine it is to end, if it is.
        self._farewells: list[tuple[str, Callable[[], str], str]] = []
        self._defects: list[Future[Instance]] = []  # launches that raised what they should not
        self._known: Sequence[Unavailable] | None = None  # refusals

    def execute(self, decision: Decision) -> None:
        """Carry out every action in order; launches come last, all together.

        Raises:
            Fenced: the lease was lost; nothing more may be touched.
            Conflict: the service was changed by its owner meanwhile.
            Unreachable: the store did not answer.
        """
        for action in decision.actions:
            if not isinstance(action, Launch):
                self._do(action)
        self._launch([action for action in decision.actions if isinstance(action, Launch)])

    def finish(self) -> None:
        """Tell agents and clouds who leaves, as recorded before.

        Either may take a minute to answer, so it comes after the routers and the replacements. Raises what a launch raised
        that is neither a refusal nor to be tried again, a defect of ours: it held nobody else up.
        """
        calls = [(self._runtime.spawn(lane, say), leaving) for lane, say, leaving in self._farewells]
        said = [(call.result(), leaving) for call, leaving in calls]
        self.failures += [failure for failure, _ in said if failure]
        self._note_removals({leaving: failure for failure, leaving in said if leaving})
        for launch in self._defects:
            launch.result()

    def _do(self, action: Action) -> None:
        match action:
            case Save(replica=replica):
                events = self._events(f"replica.{replica.status.lower()}", action.why, replica.id)
                self._write(Commit(service=self._zone_served(replica), replicas=(replica,), events=events))
            case SaveService(service=service):
                # What is known of zones may have changed since this was decided, by an earlier action of the same decision.
                service = replace(service, version=self.state.service.version, zones=self.state.service.zones)
                self._write(Commit(service=service, events=self._events("service", action.why)))
            case Drain():
                self._drain(action)
            case Terminate():
                self._terminate(action)
            case TerminateOrphan(instance=instance):
                self._write(Commit(events=self._events("orphan.terminating", action.why, instance.replica_id)))
                self._farewells.append((instance.provider, partial(remove_orphan, self._runtime, instance), ""))
            case Publish(table=table):
                events = self._events("routes", action.why) if action.why else ()
                self._write(Commit(table=table, events=events))
                self.rerouted = self.rerouted or bool(events)
            case DeleteService(service=service):
                self._runtime.store.delete_service(self.lease, service, self._events("service.deleted", action.why))
                self.finished = True

    def _launch(self, actions: Sequence[Launch]) -> None:
        calls: dict[Future[Instance], Replica] = {}
        for replica in self._intended(actions):
            ask = partial(self._ask_for, self._request(replica))
            calls[self._runtime.spawn(replica.offer.location.provider, ask)] = replica
        for call, replica in _as_they_come(calls):
            match call.exception():
                case None:
                    self._started(replica, call.result())
                case LaunchError() as error:
                    self._refused(replica, error)
                case Retry() as error:
                    # Not known whether a machine was started: the replica stays PENDING and is asked for again.
                    self.failures.append(f"{replica.id}: launch: {error}")
                case _:
                    self._defects.append(call)

    def _intended(self, actions: Sequence[Launch]) -> list[Replica]:
        """The replicas to launch, each of them recorded."""
        new = [action for action in actions if action.replica.version == 0]
        for first in range(0, len(new), _INTENTS_AT_ONCE):
            batch = new[first : first + _INTENTS_AT_ONCE]
            replicas = tuple(action.replica for action in batch)
            service = replace(self.state.service, last_generation=max(replica.generation for replica in replicas))
            events = [self._events("replica.pending", action.why, action.replica.id) for action in batch]
            self._write(Commit(service=service, replicas=replicas, events=tuple(event for (event,) in events)))
        return [replace(action.replica, version=max(action.replica.version, 1)) for action in actions]

    def _ask_for(self, request: LaunchRequest) -> Instance:
        """Beside the pass: writes nothing."""
        if self._runtime.clock.now() >= self.lease.expires_at:
            raise Retry("put off to the next pass, this one took longer than its lease lasts")
        provider = self._provider(request.replica)
        if provider is None:
            place = request.replica.offer.location.provider
            raise Unauthorized(f"provider {place!r} is not enabled in this control plane")
        return provider.launch(request)

    def _started(self, replica: Replica, instance: Instance) -> None:
        now = self._runtime.clock.now()
        started = replace(replica, instance_id=instance.id, url=instance.url)
        started = moved(started, ReplicaStatus.PROVISIONING, now)
        why = f"{replica.id}: {replica.offer.location} gave {replica.offer.instance_type} ({instance.id})"
        ended = disproved(replica, self._refusals(now))
        events = self._events("replica.provisioning", why, replica.id)
        self._write(Commit(service=self._zone_accepted(started), replicas=(started,), disproved=ended, events=events))

    def _refused(self, replica: Replica, error: LaunchError) -> None:
        now = self._runtime.clock.now()
        ended = moved(replica, ReplicaStatus.TERMINATED, now, reason=error.reason, error=str(error))
        refused = refusal(
            replica,
            error.reason,
            str(error),
            self._refusals(now),
            now,
            is_of_cloud=isinstance(error, Unauthorized),
            is_regional=isinstance(error, LaunchRefused) and error.is_regional,
        )
        what = _described(refused)
        why = f"{replica.id}: {replica.offer.location}: {error.reason}: {error}; {what} for {lasting(refused.until - now)}"
        events = self._events("replica.terminated", why, replica.id)
        lost = self._zone_lost(replica, error.reason)
        self._write(Commit(service=lost, replicas=(ended,), unavailable=self._news(refused), events=events))

    def _refusals(self, now: float) -> Sequence[Unavailable]:
        """Read once a pass, and only when a launch has its outcome or a machine was taken."""
        if self._known is None:
            self._known = self._runtime.store.refusals(now)
        return self._known

    def _news(self, refused: Unavailable) -> tuple[Unavailable, ...]:
        """Nothing to write when it is remembered already: all services would write to the same item."""
        return () if refused in self._refusals(refused.since) else (refused,)

    def _drain(self, action: Drain) -> None:
        draining = moved(action.replica, ReplicaStatus.DRAINING, self._runtime.clock.now(), reason=action.reason)
        self._leave(action, draining)
        self._farewells.append(("agents", partial(self._say_drain, draining), ""))

    def _say_drain(self, replica: Replica) -> str:
        self._runtime.prober.drain(replica)
        return ""  # silence is no failure

    def _terminate(self, action: Terminate) -> None:
        replica = action.replica
        if replica.status is not ReplicaStatus.TERMINATING:
            now = self._runtime.clock.now()
            self._leave(action, moved(replica, ReplicaStatus.TERMINATING, now, reason=action.reason))
        self._farewells.append((replica.offer.location.provider, partial(self._remove, replica), replica.id))

    def _leave(self, action: Drain | Terminate, leaving: Replica) -> None:
        """Record who leaves. Where its cloud has taken it, or never answered, the next one will fare no better."""
        now, before, reason = self._runtime.clock.now(), action.replica, action.reason
        unavailable: tuple[Unavailable, ...] = ()
        service: Service | None = None
        if is_worth_avoiding(before, reason):
            unavailable = self._news(refusal(before, reason, action.why, self._refusals(now), now))
            service = self._zone_lost(before, reason)
        events = self._events(f"replica.{leaving.status.lower()}", action.why, leaving.id)
        self._write(Commit(service=service, replicas=(leaving,), unavailable=unavailable, events=events))

    def _remove(self, replica: Replica) -> str:
        provider = self._provider(replica)
        if provider is None:
            place = replica.offer.location.provider
            return f"{replica.id}: provider {place!r} is not enabled, so its machine cannot be removed"
        try:
            provider.terminate(replica.id, replica.instance_id)
        except Unreachable as error:
            return f"{replica.id}: terminate: {error}"
        return ""

    def _note_removals(self, outcomes: Mapping[str, str]) -> None:
        """Keep what holds up the end of machines, by their replicas, for whoever waits for it; empty = nothing does any more."""
        now = self._runtime.clock.now()
        changed = [
            replace(replica, removal_error=outcomes[replica.id], removal_failed_at=now)
            for replica in self.state.replicas
            if outcomes.get(replica.id, replica.removal_error) != replica.removal_error
            and (not outcomes[replica.id] or now - replica.removal_failed_at >= _WORDS_KEPT_S)
        ][:_INTENTS_AT_ONCE]
        told = [each for each in changed if each.removal_error]
        events = [self._events("replica.terminating", each.removal_error, each.id) for each in told]
        if changed:
            self._write(Commit(replicas=tuple(changed), events=tuple(event for (event,) in events)))

    def _zone_lost(self, replica: Replica, reason: Reason) -> Service | None:
        """The service with what the loss of a spot machine, or its refusal, says about the zone; None when it says nothing."""
        service, providers = self.state.service, tuple(sorted(self._runtime.providers))
        spot, loss = service.spec.spot, ZoneMemory(replica.offer.location, self._runtime.clock.now(), reason)
        if replica.offer.capacity_type is not CapacityType.SPOT or not zones.are_remembered(spot):
            return None
        request = optimizer.Request(service.spec.resources, providers, spot=spot)
        candidates = optimizer.spot_zones(request, self._runtime.market.offers(providers))
        return self._knowing(zones.lost(service.zones, loss, candidates, spot))

    def _zone_accepted(self, replica: Replica) -> Service | None:
        if replica.offer.capacity_type is not CapacityType.SPOT:
            return None
        return self._knowing(zones.accepted(self.state.service.zones, replica.offer.location))

    def _zone_served(self, replica: Replica) -> Service | None:
        """The service once a new spot replica has become ready in its zone; None when that is no news."""
        is_first = replica.status is ReplicaStatus.READY and replica.ready_at == replica.status_since
        if not is_first or replica.offer.capacity_type is not CapacityType.SPOT:
            return None
        return self._knowing(zones.ready(self.state.service.zones, replica.offer.location))

    def _knowing(self, known: tuple[ZoneMemory, ...]) -> Service | None:
        service = self.state.service
        return None if known == service.zones else replace(service, zones=known)

    def _write(self, commit: Commit) -> None:
        service = budget.settled(self.state, commit.service, commit.replicas, self._runtime.clock.now())
        commit = replace(commit, service=service)
        self._runtime.store.commit(self.lease.service, self.lease, commit)
        self.state = _applied(self.state, commit)
        if self._known is not None:
            changed = {one.scope for one in (*commit.unavailable, *commit.disproved)}
            self._known = [*(one for one in self._known if one.scope not in changed), *commit.unavailable]

    def _request(self, replica: Replica) -> LaunchRequest:
        return launch_request(replica, self._spec(replica), self._runtime.settings)

    def _spec(self, replica: Replica) -> ServiceSpec:
        if replica.spec_version == self.state.service.spec_version:
            return self.state.service.spec
        return self._runtime.store.spec(replica.service, replica.spec_version).spec

    def _provider(self, replica: Replica) -> Provider | None:
        return self._runtime.providers.get(replica.offer.location.provider)

    def _events(self, kind: str, why: str, replica_id: str = "") -> tuple[Event, ...]:
        return (Event(self._runtime.clock.now(), kind, why, replica_id),)


def remove_orphan(runtime: Runtime, instance: Instance) -> str:
    """Ask for the removal of a machine without a record; the failure in words, or empty."""
    try:
        runtime.providers[instance.provider].terminate(instance.replica_id, instance.id)
    except Unreachable as error:
        return f"{instance.replica_id}: orphan {instance.id}: {error}"
    return ""


def _applied(state: State, commit: Commit) -> State:
    """`state` as it is stored after `commit`."""
    service = state.service
    if commit.service is not None:
        service = replace(commit.service, version=commit.service.version + 1)
    written = {replica.id: replace(replica, version=replica.version + 1) for replica in commit.replicas}
    known = [written.pop(replica.id, replica) for replica in state.replicas]
    live = _live([*known, *written.values()])
    return replace(state, service=service, replicas=tuple(live))


def _live(replicas: Iterable[Replica]) -> list[Replica]:
    return [replica for replica in replicas if replica.status is not ReplicaStatus.TERMINATED]


def _described(refused: Unavailable) -> str:
    place = "/".join(part for part in (refused.provider, refused.region, refused.zone) if part)
    what = f"{refused.instance_type} in {place}" if refused.instance_type else place
    return f"{what} is not asked again" + (" for this version" if refused.fingerprint else "")


def _as_they_come(calls: dict[Future[Instance], Replica]) -> Iterator[tuple[Future[Instance], Replica]]:
    """Calls as they end; those that have ended together in the order in which they were made."""
    open_calls = dict(calls)
    while open_calls:
        wait(open_calls, return_when=FIRST_COMPLETED)
        for call in [call for call in open_calls if call.done()]:
            yield call, open_calls.pop(call)
