"""What happens to each replica that exists."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import lifecycle
from chalicelib.actions import Action, DeleteService, Drain, Launch, Save, SaveService, Terminate, TerminateOrphan
from chalicelib.model import (
    RISK_AWARE,
    Backoff,
    CapacityType,
    EnginePhase,
    Instance,
    InstanceStatus,
    Limits,
    Mix,
    Observed,
    Plan,
    ProbeResult,
    Reason,
    Replica,
    ReplicaStatus,
    Requirement,
    ScalerState,
    Service,
    State,
)
from tests.fakes import START, offer, on_spot, spec

LIMITS = Limits()
NOW = START + 10_000
READY, STARTING = ReplicaStatus.READY, ReplicaStatus.STARTING


def service(target: int = 1, **changes: Any) -> Service:
    made = lifecycle.new_service("svc", "u1d0", spec(min_replicas=0, max_replicas=5, target_qps_per_replica=1), START)
    return replace(made, scaler=ScalerState(target), **changes)


def replica(status: ReplicaStatus, generation: int = 1, *, age_s: float = 1.0, **changes: Any) -> Replica:
    made = lifecycle.new_replica(
        service(), slot=generation, generation=generation, offer=offer(), requirement=Requirement(), boot_nonce="n",
        now=NOW - age_s,
    )  # fmt: skip
    return replace(made, status=status, version=1, instance_id="i-1", url="http://10.0.0.1", **changes)


def instance(of: Replica, **changes: Any) -> Instance:
    made = Instance("local", "i-1", of.id, of.service, InstanceStatus.RUNNING, of.created_at, of.url)
    return replace(made, **changes)


def answer(of: Replica, **changes: Any) -> ProbeResult:
    made = ProbeResult(of.id, NOW, identified=True, ready=True, engine=EnginePhase.RUNNING)
    return replace(made, **changes)


def decide(
    of: Service,
    replicas: list[Replica],
    instances: list[Instance] | None = None,
    probes: list[ProbeResult] | None = None,
    *,
    lag_s: float = 0.0,
    routed: tuple[str, ...] = (),
) -> tuple[Action, ...]:
    """`instances=None`: the cloud did not answer."""
    observed = Observed(
        listed_at={"local": NOW},
        listing_lag_s={"local": lag_s},
        instances={} if instances is None else {"local": tuple(instances)},
        probes={probe.replica_id: probe for probe in probes or []},
    )
    specs = {1: of.spec, of.spec_version: of.spec}
    return lifecycle.decide_reconcile(State(of, tuple(replicas)), specs, observed, LIMITS, NOW, routed=routed).actions


def test_a_healthy_replica_is_left_alone() -> None:
    """Wanted, listed, ready: nothing to do."""
    one = replica(ReplicaStatus.READY)
    assert decide(service(), [one], [instance(one)], [answer(one)]) == ()


def test_a_launch_is_not_asked_for_for_ever() -> None:
    """After `pending_s` without an outcome the replica is removed by its tag."""
    (gone,) = decide(service(), [replica(ReplicaStatus.PENDING, age_s=181)], [])
    assert isinstance(gone, Terminate)
    assert gone.reason is Reason.LOST


def test_a_silent_cloud_proves_nothing() -> None:
    """A cloud that could not be listed and agents that do not answer: no replica is given up for lost."""
    assert decide(service(), [replica(ReplicaStatus.READY)], None) == ()


def test_a_machine_that_answers_is_not_lost() -> None:
    """A listing that leaves out a machine which answers with the right identity is not believed."""
    one = replica(ReplicaStatus.READY)
    assert decide(service(), [one], [], [answer(one)]) == ()


def test_a_young_machine_may_be_missing_from_the_list() -> None:
    """Within the provider's listing lag a machine that is not listed is not lost; after it, it is."""
    assert decide(service(), [replica(ReplicaStatus.STARTING, age_s=5)], [], lag_s=60) == ()
    old = replica(ReplicaStatus.READY, age_s=61)
    (lost,) = decide(service(), [old], [], [answer(old, identified=False)], lag_s=60)
    assert isinstance(lost, Terminate)


def test_a_machine_is_not_missing_from_a_list_older_than_its_launch() -> None:
    """A launch may take minutes: what was listed before the cloud's answer says nothing about the machine."""
    slow = replica(ReplicaStatus.PROVISIONING, age_s=100)
    silence = [answer(slow, identified=False)]
    assert decide(service(), [replace(slow, status_since=NOW)], [], silence) == ()
    lost, _backoff = decide(service(), [replace(slow, status_since=NOW - 1)], [], silence)
    assert isinstance(lost, Terminate)
    asked = replace(slow, status=ReplicaStatus.TERMINATING, instance_id="", status_since=NOW - 59)
    (again,) = decide(service(0), [asked], [], lag_s=60)
    assert isinstance(again, Terminate), "the last attempt to launch it may be younger than the list"


def test_a_machine_that_was_long_in_coming_is_young_all_the_same() -> None:
    """The lag counts from when the machine was there, not from the intent to launch it, which may be minutes older."""
    late = replica(ReplicaStatus.READY, age_s=200, ready_at=NOW - 59)
    silence = [answer(late, identified=False)]
    assert decide(service(), [late], [], silence, lag_s=60) == ()
    (lost,) = decide(service(), [replace(late, ready_at=NOW - 61)], [], silence, lag_s=60)
    assert isinstance(lost, Terminate)


def test_who_was_not_asked_is_not_silent() -> None:
    """A replica that became known after the probes were sent out is not lost because it gave no answer to them."""
    assert decide(service(), [replica(ReplicaStatus.READY, age_s=61)], []) == ()


def test_a_vanished_machine_is_lost_or_preempted() -> None:
    """Neither listed nor answering: LOST on demand, PREEMPTED on spot; its removal is asked for in any case."""
    on_demand = replica(ReplicaStatus.READY)
    spot = replace(on_demand, offer=replace(offer(), capacity_type=CapacityType.SPOT))
    for one, reason in ((on_demand, Reason.LOST), (spot, Reason.PREEMPTED)):
        (gone,) = decide(service(), [one], [instance(one, status=InstanceStatus.GONE)])
        assert isinstance(gone, Terminate)
        assert gone.reason is reason


def test_a_notice_drains() -> None:
    """An interruption notice, from the cloud's list or from the agent, takes the replica out of routing."""
    one = replica(ReplicaStatus.READY)
    for instances, probes in (
        ([instance(one, interruption_at=NOW + 120)], [answer(one)]),
        ([instance(one)], [answer(one, interruption_at=NOW + 30)]),
    ):
        (drain,) = decide(service(), [one], instances, probes)
        assert isinstance(drain, Drain)
        assert drain.reason is Reason.INTERRUPTED


def test_an_interrupted_machine_s_engine_is_not_blamed() -> None:
    """A machine that is being shut down stops its engine too: the reason is the interruption, and nobody backs off."""
    one = replica(ReplicaStatus.READY)
    exited = answer(one, ready=False, engine=EnginePhase.EXITED, exit_code=143)
    (drain,) = decide(service(), [one], [instance(one, interruption_at=NOW + 30)], [exited])
    assert isinstance(drain, Drain)
    assert drain.reason is Reason.INTERRUPTED


@pytest.mark.parametrize(
    ("log_tail", "why"),
    [
        (
            "pulling\n[sailplane] There is no secret 'hf': sailplane secrets set hf\n",
            "There is no secret 'hf': sailplane secrets set hf",
        ),
        ("", "its agent does not say why"),
    ],
)
def test_an_engine_that_was_never_run_fails_with_its_agents_reason(log_tail: str, why: str) -> None:
    """In one line, which `status` shows, instead of a code that no engine has ended with."""
    one = replica(ReplicaStatus.STARTING)
    refused = answer(one, ready=False, engine=EnginePhase.EXITED, log_tail=log_tail)
    ended, _ = decide(service(), [one], [instance(one)], [refused])
    assert isinstance(ended, Terminate)
    assert (ended.reason, ended.replica.error) == (Reason.ENGINE_EXITED, f"the engine was not started: {why}")


def test_an_exited_engine_ends_its_replica_with_its_last_words() -> None:
    """ENGINE_EXITED carries exit code and log; the service backs off 10 s, then 20 s, never more than 600 s."""
    one = replica(ReplicaStatus.STARTING)
    exited = answer(one, ready=False, engine=EnginePhase.EXITED, exit_code=3, log_tail="no such model")
    ended, backoff = decide(service(), [one], [instance(one)], [exited])
    assert isinstance(ended, Terminate)
    assert ended.reason is Reason.ENGINE_EXITED
    assert "code 3" in ended.replica.error
    assert "no such model" in ended.replica.error
    assert isinstance(backoff, SaveService)
    assert backoff.service.backoff.retry_at == NOW + 10
    for failures, delay_s in ((1, 20), (5, 320), (6, 600), (5000, 600)):
        failing = service(backoff=replace(service().backoff, failures=failures))
        *_, again = decide(failing, [one], [instance(one)], [exited])
        assert isinstance(again, SaveService)
        assert again.service.backoff.retry_at == NOW + delay_s


def test_a_failure_of_the_old_version_is_not_held_against_the_new_one() -> None:
    """Back-off counts failures of the current version only."""
    old = replica(ReplicaStatus.READY, fingerprint="old")
    exited = answer(old, ready=False, engine=EnginePhase.EXITED, exit_code=1)
    assert [type(action) for action in decide(service(), [old], [instance(old)], [exited])] == [Terminate]


def test_readiness_follows_the_probe() -> None:
    """STARTING becomes READY, READY becomes NOT_READY with the reason, and back; the error goes when it is over."""
    one = replica(ReplicaStatus.STARTING, error="nothing listens yet")

    def after(of: Replica, probe: ProbeResult) -> Replica:
        decision = lifecycle.decide_readiness(State(service(), (of,)), Observed(probes={of.id: probe}), NOW)
        return next(action.replica for action in decision.actions if isinstance(action, Save))

    ready = after(one, answer(one))
    assert (ready.status, ready.ready_at, ready.error) == (ReplicaStatus.READY, NOW, "")
    failing = after(ready, answer(ready, ready=False, detail="HTTP 500"))
    assert (failing.status, failing.error) == (ReplicaStatus.NOT_READY, "HTTP 500")
    again = after(replace(failing, ready_at=START), answer(failing))
    assert (again.status, again.ready_at, again.error) == (ReplicaStatus.READY, START, "")
    stranger = after(ready, answer(ready, identified=False))
    assert stranger.status is ReplicaStatus.NOT_READY


def test_an_answer_from_before_the_last_change_changes_nothing() -> None:
    """A pass that was held up has heard "not ready" before another one found the replica READY: it stays so."""
    of = replica(ReplicaStatus.READY, age_s=5)
    old = answer(of, at=NOW - 6, ready=False)
    state = State(service(was_ready=True), (of,))
    assert lifecycle.decide_readiness(state, Observed(probes={of.id: old}), NOW).actions == ()


def test_readiness_has_deadlines() -> None:
    """STARTING ends after initial_delay_s, NOT_READY after failure_threshold_s, each with what the probe met."""
    for status, age_s, reason in (
        (ReplicaStatus.STARTING, 61, Reason.INITIAL_DELAY_EXCEEDED),
        (ReplicaStatus.NOT_READY, 21, Reason.UNHEALTHY),
    ):
        late = replica(status, age_s=age_s)
        in_time = replica(status, age_s=age_s - 2)
        ended, _ = decide(
            service(), [late], [instance(late)], [answer(late, ready=False, detail="GET /health answered 500")]
        )
        assert isinstance(ended, Terminate)
        assert ended.reason is reason
        assert "(GET /health answered 500)" in ended.replica.error
        assert not decide(service(), [in_time], [instance(in_time)], [answer(in_time, ready=False)])


def test_one_silence_is_not_a_long_one() -> None:
    """A pass that is held up for longer than failure_threshold_s after its probes condemns nobody by them."""
    silent = replica(ReplicaStatus.NOT_READY, age_s=40)
    heard = answer(silent, at=NOW - 40, identified=False, ready=False)
    assert decide(service(), [silent], [instance(silent)], [heard]) == ()
    assert decide(service(), [silent], [instance(silent)], [replace(heard, at=NOW)]) != ()


def test_a_machine_that_boots_is_judged_as_of_the_question() -> None:
    """In a pass that was held up the agent had more time than it needed; and its address is noted however late it comes."""
    of = replica(ReplicaStatus.PROVISIONING, age_s=LIMITS.provisioning_s + 60)
    silent = answer(of, at=NOW - 90, identified=False)
    assert decide(service(), [of], [instance(of)], [silent]) == ()
    (noted,) = decide(service(), [of], [instance(of, url="http://10.0.0.2")], [replace(silent, at=NOW)])
    assert isinstance(noted, Save)
    assert noted.replica.url == "http://10.0.0.2"


def test_a_drain_waits_for_routers_and_requests() -> None:
    """Removed when the routers have settled and nothing is in flight, or when its time is up; not before."""

    def after(age_s: float, **said: object) -> bool:
        one = replica(ReplicaStatus.DRAINING, age_s=age_s, reason=Reason.SCALED_DOWN, ready_at=START)
        return bool(decide(service(0), [one], [instance(one)], [answer(one, **said)]))

    assert not after(4, in_flight=0)
    assert after(6, in_flight=0)
    assert not after(6, in_flight=0, at=NOW - 2), "asked before the routers had settled"
    assert not after(6, identified=False), "silence does not mean that it has no requests"
    assert not after(34, in_flight=1), "a router may have sent a request 5 s into the drain, which has 30 s too"
    assert after(36, in_flight=1)


@given(st.floats(0, 5), st.floats(0, 30))
def test_a_drain_cuts_no_request_younger_than_its_timeout(arrived_s: float, lasted_s: float) -> None:
    """Routers may send one for 5 s into the drain: until it has lasted longer than 30 s, the machine stays."""
    draining = replica(ReplicaStatus.DRAINING, age_s=arrived_s + lasted_s, reason=Reason.SCALED_DOWN, ready_at=START)
    assert decide(service(0), [draining], [instance(draining)], [answer(draining, in_flight=1)]) == ()
    assert decide(service(0), [draining], [instance(draining)], [answer(draining, identified=False)]) == ()


def test_a_drain_begins_when_the_routers_are_told() -> None:
    """A pass that died between draining and publishing left it in the table: it is drained anew, not removed."""
    one = replica(ReplicaStatus.DRAINING, age_s=100, reason=Reason.REPLACED, ready_at=START)
    (anew,) = decide(service(0), [one], [instance(one)], [answer(one)], routed=(one.id,))
    assert isinstance(anew, Drain)
    assert anew.reason is Reason.REPLACED


def test_a_machine_that_was_taken_as_announced_is_not_drained_on() -> None:
    """Past the instant that the cloud named a silent agent is gone; before it, or while it answers, the drain goes on."""
    one = replica(ReplicaStatus.DRAINING, age_s=30, reason=Reason.INTERRUPTED, ready_at=START, interruption_at=NOW)
    silent, busy = answer(one, identified=False), answer(one, in_flight=1)
    (gone,) = decide(service(0), [one], [instance(one)], [silent])
    assert isinstance(gone, Terminate)
    assert gone.reason is Reason.INTERRUPTED
    assert decide(service(0), [one], [instance(one)], [busy]) == ()
    assert decide(service(0), [replace(one, interruption_at=NOW + 1)], [instance(one)], [silent]) == ()


def test_who_never_served_has_nothing_to_drain() -> None:
    """A machine drained before it was ever ready is removed at once, whatever its agent says."""
    one = replica(ReplicaStatus.DRAINING, reason=Reason.USER)
    (gone,) = decide(service(0), [one], [instance(one)])
    assert isinstance(gone, Terminate)


def test_terminating_ends_only_when_seen_gone() -> None:
    """While the machine is listed, or the list is older than the decision, removal is asked for again."""
    leaving = replica(ReplicaStatus.TERMINATING, age_s=5, reason=Reason.USER)
    (again,) = decide(service(0), [leaving], [instance(leaving)])
    assert isinstance(again, Terminate)
    (gone,) = decide(service(0), [leaving], [])
    assert isinstance(gone, Save)
    assert gone.replica.status is ReplicaStatus.TERMINATED
    assert gone.replica.reason is Reason.USER
    just_now = replace(leaving, status_since=NOW)
    (waiting,) = decide(service(0), [just_now], [])
    assert isinstance(waiting, Terminate)


def test_scale_down_gives_up_the_least_useful() -> None:
    """Those that serve nobody go first, then the newest; who may have requests is drained."""
    replicas = [
        replica(ReplicaStatus.READY, 1),
        replica(ReplicaStatus.READY, 2),
        replica(ReplicaStatus.STARTING, 3),
    ]
    actions = decide(service(1), replicas, [instance(r) for r in replicas], [answer(r) for r in replicas])
    assert [(type(a), a.replica.generation) for a in actions if isinstance(a, Drain | Terminate)] == [
        (Drain, 2),
        (Terminate, 3),
    ]


def test_an_agent_that_was_not_asked_is_not_said_to_be_silent() -> None:
    """Its address was written down by another pass after this one had asked the others; the next one will ask it."""
    found = replica(ReplicaStatus.PROVISIONING, age_s=901)
    assert found.url
    assert decide(service(), [found], [instance(found)], []) == ()
    nowhere = replace(found, url="")
    ended, _backoff = decide(service(), [nowhere], [replace(instance(found), url="")], [])
    assert isinstance(ended, Terminate)


def test_an_agent_that_never_comes_is_held_against_the_service() -> None:
    """Machines that never answer are not bought for ever at full speed: that is a start that failed, with back-off."""
    late = replica(ReplicaStatus.PROVISIONING, age_s=901)
    ended, backoff = decide(service(), [late], [instance(late)], [answer(late, identified=False)])
    assert isinstance(ended, Terminate)
    assert ended.reason is Reason.INITIAL_DELAY_EXCEEDED
    assert isinstance(backoff, SaveService)


def test_failures_are_forgiven_after_a_time_without_any() -> None:
    """A replica that has been well all along does not excuse those that join it; ten minutes without a failure do."""
    steady = replica(ReplicaStatus.READY, age_s=5000)
    seen = ([instance(steady)], [answer(steady)])
    recent = service(backoff=Backoff(3, NOW - 599, "no such model"))
    assert decide(recent, [steady], *seen) == ()
    (forgiven,) = decide(replace(recent, backoff=Backoff(3, NOW - 600, "no such model")), [steady], *seen)
    assert isinstance(forgiven, SaveService)
    assert forgiven.service.backoff == Backoff()


def test_failures_are_forgiven_at_zero() -> None:
    """A service that sleeps does not wake as FAILED, nor without the protection of a first start, months later."""
    (forgiven,) = decide(service(0, backoff=Backoff(1, NOW - 600, "no such model")), [], [])
    assert isinstance(forgiven, SaveService)
    assert forgiven.service.backoff == Backoff()


def test_a_service_that_wakes_with_a_ready_replica_has_been_ready() -> None:
    """Woken before its last replica was drained: without a new start to wait for, it may be scaled down again."""
    one = replica(ReplicaStatus.READY)
    woken = State(service(was_ready=False), (one,))
    (saved,) = lifecycle.decide_readiness(woken, Observed(probes={one.id: answer(one)}), NOW).actions
    assert isinstance(saved, SaveService)
    assert saved.service.was_ready


def test_shutdown_leaves_nobody() -> None:
    """`down` drains who serves, removes the others, repeats no launch, and forgets the service only when all are gone."""
    leaving = service(2, deleting=True)
    replicas = [replica(ReplicaStatus.READY, 1), replica(ReplicaStatus.PENDING, 2)]
    actions = decide(leaving, replicas, [instance(replicas[0])], [answer(replicas[0])])
    assert [type(action) for action in actions] == [Drain, Terminate]
    (forgotten,) = decide(leaving, [], [])
    assert isinstance(forgotten, DeleteService)


def test_a_broken_version_never_takes_the_old_one_down() -> None:
    """Old replicas that serve stay until as many new ones are READY."""
    old = [replica(ReplicaStatus.READY, n, fingerprint="old") for n in (1, 2)]
    new = replica(ReplicaStatus.STARTING, 3)
    everyone = [*old, new]
    seen = ([instance(r) for r in everyone], [answer(r) for r in everyone])
    assert decide(service(2), everyone, *seen) == ()
    ready = replace(new, status=ReplicaStatus.READY)
    (drain,) = decide(service(2), [*old, ready], *seen)
    assert isinstance(drain, Drain)
    assert drain.reason is Reason.REPLACED


def test_who_goes_while_nobody_is_wanted_is_not_replaced() -> None:
    """A roll-out that is scaled to zero, or that the month's budget ends, is told as what it is."""
    old = replica(ReplicaStatus.READY, 1, fingerprint="old")
    (drain,) = decide(service(0), [old], [instance(old)], [answer(old)])
    assert isinstance(drain, Drain)
    assert (drain.reason, drain.why) == (Reason.SCALED_DOWN, f"{old.id}: 0 wanted")


def test_orphans_are_removed_after_their_grace() -> None:
    """A machine of this service without a live record goes, but not before the grace, nor one of another service."""
    stranger = replica(ReplicaStatus.READY, 9)
    old = instance(stranger, created_at=NOW - 61)
    for due in (old, replace(old, status=InstanceStatus.STOPPING)):  # switched off, which some clouds keep for ever
        (gone,) = decide(service(0), [], [due])
        assert isinstance(gone, TerminateOrphan)
    for spared in (
        replace(old, created_at=NOW - 59),
        replace(old, service="other"),
        replace(old, status=InstanceStatus.GONE),
    ):
        assert decide(service(0), [], [spared]) == ()


STATUSES = [status for status in ReplicaStatus if status is not ReplicaStatus.TERMINATED]


@given(
    st.lists(st.tuples(st.sampled_from(STATUSES), st.booleans(), st.booleans()), max_size=8),
    st.integers(0, 4),
    st.booleans(),
)
def test_at_most_one_action_a_replica(
    population: list[tuple[ReplicaStatus, bool, bool]], target: int, deleting: bool
) -> None:
    """No replica is told two things in one decision, and at shutdown none is launched."""
    replicas = [
        replica(status, n, fingerprint="v1" if current else "old", age_s=70)
        for n, (status, current, _) in enumerate(population, start=1)
    ]
    instances = [instance(r) for r, (_, _, listed) in zip(replicas, population, strict=True) if listed]
    actions = decide(service(target, deleting=deleting), replicas, instances)
    named = [action.replica.id for action in actions if isinstance(action, Launch | Save | Drain | Terminate)]
    assert len(named) == len(set(named))
    assert not (deleting and any(isinstance(action, Launch) for action in actions))


def test_machines_that_never_come_are_bought_ever_more_slowly() -> None:
    """An image that cannot boot switches itself off before its agent answers, on spot and on demand."""
    one = replica(ReplicaStatus.PROVISIONING, age_s=30)
    for capacity_type in CapacityType:
        bought = replace(one, offer=replace(one.offer, capacity_type=capacity_type))
        actions = decide(service(), [bought], [], [answer(bought, identified=False)])
        (saved,) = [action for action in actions if isinstance(action, SaveService)]
        assert saved.service.backoff.failures == 1
    stopping = instance(one, status=InstanceStatus.STOPPING, interruption_at=NOW)
    assert any(isinstance(action, SaveService) for action in decide(service(), [one], [stopping]))


def test_a_machine_that_goes_with_notice_while_it_boots_is_nobodys_fault() -> None:
    """The cloud said so: the replacement is not put off."""
    one = replica(ReplicaStatus.PROVISIONING, age_s=30, interruption_at=NOW + 20)
    (drained,) = decide(service(), [one], [instance(one)])
    assert isinstance(drained, Drain)


@pytest.mark.parametrize(
    ("own", "standing_in", "planned", "leaving"),
    [
        ([READY, READY, READY], [STARTING], 3, 1),  # all that is planned is ready: who was on the way is not needed
        ([READY, READY, STARTING], [STARTING], 3, 0),  # nor would it be, were the third spot replica sure to come
        ([READY, READY, READY, STARTING], [READY], 4, 0),  # more are ready than the target, but not yet the insurance
        ([READY, READY, READY, READY], [READY], 4, 1),
        ([READY, READY, STARTING], [READY, READY], 3, 1),  # one of two can go: the other one stands in
    ],
)
def test_a_risk_aware_plan_takes_nobody_away_before_it_is_fulfilled(
    own: list[ReplicaStatus], standing_in: list[ReplicaStatus], planned: int, leaving: int
) -> None:
    """Ready and on the way alike: replicas beyond the plan go only when those left, ready ones, are as many as planned."""
    wanted = on_spot(spec(max_replicas=9), placer=RISK_AWARE, dynamic_ondemand_fallback=True)
    of = service(3, spec=wanted, plan=Plan(3, Mix(planned)))
    replicas = [
        replace(replica(status, number, fingerprint=wanted.fingerprint), offer=replace(offer(), capacity_type=kind))
        for number, (status, kind) in enumerate(
            [*((one, CapacityType.SPOT) for one in own), *((one, CapacityType.ON_DEMAND) for one in standing_in)]
        )
    ]
    actions = decide(of, replicas, [instance(one) for one in replicas], [answer(one) for one in replicas])
    gone = [action.replica for action in actions if isinstance(action, Drain | Terminate)]
    assert len(gone) == leaving
    assert {one.offer.capacity_type for one in gone} <= {CapacityType.ON_DEMAND}
