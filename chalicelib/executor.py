"""The one place that changes the world: carries out a `Decision`, crash-safely.

Every action is intent → cloud call → outcome, and every write is one transaction fenced by the service's lease. A crash
between any two lines leaves a record from which the next pass finishes the job: what is called again is idempotent
(launch by the replica's id, terminate by nature), what is written again meets its version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

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
from chalicelib.errors import LaunchError, LaunchRefused, QuotaExceeded, Unreachable
from chalicelib.identity import agent_token, boot_token
from chalicelib.lifecycle import moved
from chalicelib.model import (
    Event,
    Instance,
    LaunchRequest,
    Lease,
    Offer,
    Reason,
    Replica,
    ReplicaStatus,
    ServiceSpec,
    State,
    Unavailable,
)
from chalicelib.ports import Commit, Provider, Runtime

# How long a refusal is remembered. Spot capacity comes and goes within minutes; quota needs a person.
_REMEMBERED_S = {Reason.NO_CAPACITY: 60.0, Reason.QUOTA: 600.0, Reason.LAUNCH_REFUSED: 600.0}


class Execution:
    """Carries out decisions on one service under one lease, keeping `state` equal to what is stored.

    `failures` collects what could not be done and will be done again by the next pass. `Fenced` and `Conflict` are not
    among them: they mean that somebody else has moved on, so they end the pass.
    """

    def __init__(self, runtime: Runtime, lease: Lease, state: State) -> None:
        self.state = state
        self.failures: list[str] = []
        self.finished = False  # the service is deleted, there is nothing left to decide about
        self._runtime = runtime
        self.lease = lease
        self._farewells: list[Callable[[], None]] = []

    def execute(self, decision: Decision) -> None:
        """Carry out every action in order.

        Raises:
            Fenced: the lease was lost; nothing more may be touched.
            Conflict: the service was changed by its owner meanwhile.
            Unreachable: the store did not answer.
        """
        for action in decision.actions:
            self._do(action)

    def finish(self) -> None:
        """Tell agents and clouds who leaves, as recorded before.

        Either may take a minute to answer, so it comes after the routers and the replacements.
        """
        for farewell in self._farewells:
            farewell()

    def _do(self, action: Action) -> None:
        match action:
            case Launch():
                self._launch(action)
            case Save(replica=replica):
                self._commit(f"replica.{replica.status.lower()}", action.why, replica=replica)
            case SaveService(service=service):
                service = replace(service, version=self.state.service.version)
                self._write(Commit(service=service, events=self._events("service", action.why)))
            case Drain():
                self._drain(action)
            case Terminate():
                self._terminate(action)
            case TerminateOrphan(instance=instance):
                self._write(Commit(events=self._events("orphan.terminating", action.why, instance.replica_id)))
                self._note(remove_orphan(self._runtime, instance))
            case Publish(table=table):
                events = self._events("routes", action.why) if action.why else ()
                self._write(Commit(table=table, events=events))
            case DeleteService(service=service):
                self._runtime.store.delete_service(self.lease, service, self._events("service.deleted", action.why))
                self.finished = True

    def _launch(self, action: Launch) -> None:
        replica = action.replica
        if self._runtime.clock.now() >= self.lease.expires_at:
            self.failures.append(f"{replica.id}: put off to the next pass, this one took longer than its lease lasts")
            return
        if replica.version == 0:
            service = replace(self.state.service, last_generation=replica.generation)
            events = self._events("replica.pending", action.why, replica.id)
            self._write(Commit(service=service, replicas=(replica,), events=events))
            replica = replace(replica, version=1)
        provider = self._provider(replica)
        try:
            if provider is None:
                raise LaunchRefused(
                    f"provider {replica.offer.location.provider!r} is not enabled in this control plane"
                )
            instance = provider.launch(self._request(replica))
        except LaunchError as error:
            self._refused(replica, error)
        except Unreachable as error:
            # Not known whether a machine was started: the replica stays PENDING and is asked for again.
            self.failures.append(f"{replica.id}: launch: {error}")
        else:
            started = replace(replica, instance_id=instance.id, url=instance.url)
            started = moved(started, ReplicaStatus.PROVISIONING, self._runtime.clock.now())
            why = f"{replica.id}: {replica.offer.location} gave {replica.offer.instance_type} ({instance.id})"
            self._commit("replica.provisioning", why, replica=started)

    def _refused(self, replica: Replica, error: LaunchError) -> None:
        now = self._runtime.clock.now()
        ended = moved(replica, ReplicaStatus.TERMINATED, now, reason=error.reason, error=str(error))
        refusal = _unavailable(replica.offer, error, now)
        why = f"{replica.id}: {replica.offer.location}: {error.reason}: {error}"
        events = self._events("replica.terminated", why, replica.id)
        self._write(Commit(replicas=(ended,), unavailable=(refusal,), events=events))

    def _drain(self, action: Drain) -> None:
        draining = moved(action.replica, ReplicaStatus.DRAINING, self._runtime.clock.now(), reason=action.reason)
        self._commit("replica.draining", action.why, replica=draining)
        self._farewells.append(partial(self._runtime.prober.drain, draining))

    def _terminate(self, action: Terminate) -> None:
        replica = action.replica
        if replica.status is not ReplicaStatus.TERMINATING:
            now = self._runtime.clock.now()
            leaving = moved(replica, ReplicaStatus.TERMINATING, now, reason=action.reason)
            self._commit("replica.terminating", action.why, replica=leaving)
        self._farewells.append(partial(self._remove, replica))

    def _remove(self, replica: Replica) -> None:
        provider = self._provider(replica)
        if provider is None:
            place = replica.offer.location.provider
            self.failures.append(f"{replica.id}: provider {place!r} is not enabled, so its machine cannot be removed")
            return
        try:
            provider.terminate(replica.id, replica.instance_id)
        except Unreachable as error:
            self.failures.append(f"{replica.id}: terminate: {error}")

    def _commit(self, kind: str, why: str, *, replica: Replica) -> None:
        self._write(Commit(replicas=(replica,), events=self._events(kind, why, replica.id)))

    def _write(self, commit: Commit) -> None:
        self._runtime.store.commit(self.lease.service, self.lease, commit)
        self.state = _applied(self.state, commit)

    def _request(self, replica: Replica) -> LaunchRequest:
        spec = self._spec(replica)
        key = self._runtime.settings.agent_key
        return LaunchRequest(
            replica=replica,
            engine=spec.engine,
            agent_token=agent_token(key, replica.id, replica.boot_nonce),
            boot_token=boot_token(key, replica.id, replica.boot_nonce),
            drain_timeout_s=spec.drain_timeout_s,
        )

    def _spec(self, replica: Replica) -> ServiceSpec:
        if replica.spec_version == self.state.service.spec_version:
            return self.state.service.spec
        return self._runtime.store.spec(replica.service, replica.spec_version).spec

    def _provider(self, replica: Replica) -> Provider | None:
        return self._runtime.providers.get(replica.offer.location.provider)

    def _events(self, kind: str, why: str, replica_id: str = "") -> tuple[Event, ...]:
        return (Event(self._runtime.clock.now(), kind, why, replica_id),)

    def _note(self, failure: str) -> None:
        if failure:
            self.failures.append(failure)


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


def _unavailable(offer: Offer, error: LaunchError, now: float) -> Unavailable:
    """Capacity blocks this type in this zone, quota the region, a refusal the whole provider."""
    place, reason = offer.location, error.reason
    narrow = reason is Reason.NO_CAPACITY
    return Unavailable(
        provider=place.provider,
        region="" if isinstance(error, LaunchRefused) else place.region,
        zone=place.zone if narrow else "",
        instance_type=offer.instance_type if narrow else "",
        capacity_type=offer.capacity_type if narrow or isinstance(error, QuotaExceeded) else "",
        reason=reason,
        message=str(error),
        since=now,
        until=now + _REMEMBERED_S[reason],
    )
