"""The schedule and the cloud's events run the passes, and tell Lambda when these failed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from chalice.app import CloudWatchEvent

from chalicelib import passes
from chalicelib.api.triggers import PassesFailed, on_schedule
from chalicelib.errors import Invalid
from chalicelib.model import Hook, HookKind, Replica, ReplicaStatus
from tests.api.conftest import YAML, Api
from tests.fakes import FakeClock, FakeCloud, FakeRelay, Interposed, World
from tests.hooks.forge import FakeForge, Repositories

SPOT = {"instance-id": "i-0123456789abcdef0", "instance-action": "terminate"}
WARNING = "EC2 Spot Instance Interruption Warning"
REBALANCE = "EC2 Instance Rebalance Recommendation"
STATE_CHANGE = "EC2 Instance State-change Notification"


@pytest.fixture
def world() -> World:
    return World(cloud=FakeCloud(FakeClock(), "aws"))


def _event(detail_type: str, detail: Any, source: str = "aws.ec2") -> dict[str, Any]:
    return {
        "version": "0",
        "id": "e1",
        "account": "123456789012",
        "region": "us-east-1",
        "time": "2026-11-22T05:00:00Z",
        "resources": [],
        "source": source,
        "detail-type": detail_type,
        "detail": detail,
    }


class Context:
    """As much of Lambda's as handlers read."""

    aws_request_id = "r-1"

    def __init__(self, left_s: float) -> None:
        self.left_s = left_s

    def get_remaining_time_in_millis(self) -> int:
        return int(self.left_s * 1000)


def _tick(api: Api) -> None:
    api.client.lambda_.invoke("tick", _event("Scheduled Event", {}, "aws.events"))


def test_the_schedule_runs_the_passes(api: Api) -> None:
    """A service that wants two replicas has them asked for after one tick."""
    api.world.create()
    _tick(api)
    assert sum(api.world.cloud.started.values()) == 2


def test_functions_report_before_the_passes_look(api: Api) -> None:
    """The routers are asked first, while the clouds list their machines, and what they report then is what the passes see."""
    api.world.create()
    asked: list[tuple[int, list[str]]] = []
    runtime = api.world.runtime

    def ask() -> None:
        asked.append((sum(api.world.cloud.started.values()), list(runtime.asked)))

    asking = replace(runtime, ask_routers=ask)
    on_schedule(lambda: asking)(CloudWatchEvent(_event("Scheduled Event", {}, "aws.events"), None))
    assert asked == [(0, ["aws"])]
    assert sum(api.world.cloud.started.values()) == 2


def test_a_failed_pass_fails_the_function(api: Api) -> None:
    """So that the error metric sees it; the message names who failed and why."""
    api.world.create()
    api.world.cloud.down = True
    with pytest.raises(PassesFailed, match="cloud is down"):
        _tick(api)


@pytest.fixture
def relay(api: Api) -> FakeRelay:
    """The queue of the world's control plane, which is woken by functions."""
    found = FakeRelay()
    api.world.runtime = replace(api.world.runtime, relay=found)
    return found


def _deliver(api: Api, body: str) -> None:
    api.app.handler_map["relay"]({"Records": [{"body": body, "receiptHandle": ""}]}, Context(60.0))


def test_rounds_fill_the_minute(api: Api, relay: FakeRelay) -> None:
    """After the tick a message a round, each a probe interval later, for all services at once; before the next tick they end."""
    for name in ("one", "two"):
        api.world.create(name)
    api.world.tick(3)
    probed_at = []
    _tick(api)
    started = api.world.clock.now()
    while relay.sent:
        (body, delay_s), relay.sent = relay.sent[0], relay.sent[1:]
        assert relay.sent == []
        api.world.clock.advance(delay_s)
        probed_at.append(api.world.clock.now() - started)
        _deliver(api, body)
    assert probed_at == [float(second) for second in range(2, 59, 2)]  # the interval of `tests.fakes.spec`


def test_a_poked_service_that_is_new_has_rounds_of_its_own(api: Api, relay: FakeRelay) -> None:
    """No tick has seen it yet. One that is older is in the tick's rounds, and a second row of them would be for nothing."""
    api.world.create()
    _deliver(api, passes.Round.poke("svc").text)
    assert sum(api.world.cloud.started.values()) == 2
    ((body, delay_s),) = relay.sent
    assert (passes.Round.parse(body).due.keys(), delay_s) == ({"svc"}, 2)
    relay.sent.clear()
    api.world.clock.advance(180)
    _deliver(api, passes.Round.poke("svc").text)
    assert relay.sent == []


def test_knocking_at_a_service_that_starts_adds_no_rounds(api: Api, relay: FakeRelay) -> None:
    """Every router asks for a pass every 3 s as long as nobody answers; rounds for each would keep the queue busy for hours."""
    api.world.create()
    for _ in range(30):
        _deliver(api, passes.Round.poke("svc").text)
    assert len(relay.sent) == 2  # one each for what was launched, and for what was then seen


def test_a_round_whose_minute_is_over_does_nothing(api: Api, relay: FakeRelay) -> None:
    """What waited in the queue for too long, or for the schedule to be on again, is the next tick's."""
    api.world.create()
    _deliver(api, passes.Round({"svc": 0.0}, api.world.clock.now() - 1.0).text)
    assert sum(api.world.cloud.started.values()) == 0
    assert relay.sent == []


def test_rounds_ask_a_cloud_only_for_those_in_transition(api: Api, relay: FakeRelay) -> None:
    """At rest a round is a probe: a list takes half a second in 17 regions. A machine that is lost is looked for at once."""
    api.world.create()
    api.world.tick(3)
    lists: list[str] = []
    asked = Interposed(api.world.cloud, lists.append)
    api.world.runtime = replace(api.world.runtime, providers={"aws": asked})
    turn = passes.Round({"svc": 0.0}, api.world.clock.now() + 50).text
    _deliver(api, turn)
    assert lists == []
    api.world.clock.advance(10)
    api.world.cloud.machines.popitem()
    _deliver(api, turn)
    assert lists.count("before list_instances") == 1
    assert len(relay.sent) == 2


def _pushed(api: Api, text: str = YAML) -> FakeForge:
    """The forge of a webhook by which `svc` follows a branch whose head has not been looked at."""
    forge = FakeForge(Repositories())
    forge.repositories.push("acme/app", "main", {"service.yaml": text})
    api.world.runtime = replace(api.world.runtime, forges={HookKind.GITHUB: forge})
    now = api.world.clock.now()
    hook = Hook("0123456789", HookKind.GITHUB, "svc", now, "acme/app", "main", "service.yaml", look_at=now)
    api.world.store.create_hook(hook)
    return forge


def test_a_push_is_deployed_when_it_is_asked_for(api: Api, relay: FakeRelay) -> None:
    """By the message that its delivery sends: the service is made, and its machines are asked for in the same round."""
    forge = _pushed(api)
    _deliver(api, passes.Round.poke("svc").text)
    assert sum(api.world.cloud.started.values()) == 2
    asked = forge.asked
    api.world.clock.advance(600)
    _deliver(api, passes.Round({"svc": 0.0}, until=api.world.clock.now() + 60).text)
    assert forge.asked == asked, "rounds between two ticks have nothing to ask a forge"
    assert relay.sent


def test_a_push_is_found_by_the_tick(api: Api, relay: FakeRelay) -> None:
    """Though nobody asked for it; and a forge, or a file, that is no good fails no other service's pass."""
    api.world.create("other")
    forge = _pushed(api)
    _tick(api)
    assert api.world.store.service_names() == ("other", "svc")
    forge.down = True
    api.world.clock.advance(600)
    _tick(api)
    forge.down = False
    forge.repositories.push("acme/app", "main", {"service.yaml": "no"})
    api.world.clock.advance(600)
    _tick(api)
    assert relay.sent
    assert [event.kind for event in api.world.store.events("svc", kind="hook")] == ["hook.refused"]


def test_a_service_that_is_gone_has_no_more_rounds(api: Api, relay: FakeRelay) -> None:
    """Nor has a message that comes twice, or late, done any harm."""
    _deliver(api, passes.Round({"gone": 0.0}, api.world.clock.now() + 50).text)
    assert relay.sent == []


def test_a_round_that_failed_is_counted_and_goes_on(api: Api, relay: FakeRelay) -> None:
    """The next message is sent before the failure is raised into the function's error metric."""
    api.world.create()
    api.world.cloud.down = True
    with pytest.raises(PassesFailed):
        _deliver(api, passes.Round({"svc": 0.0}, api.world.clock.now() + 50).text)
    assert len(relay.sent) == 1


@pytest.mark.parametrize(("left_s", "budget_s"), [(60.0, 50.0), (30.0, 25.0), (900.0, 50.0)])
def test_passes_end_before_the_function_does(api: Api, left_s: float, budget_s: float) -> None:
    """No pass is begun in the last sixth of the time that Lambda still gives; what is put off says how long there was."""
    api.world.create()
    late = _Late(api.world.clock, budget_s)
    api.world.runtime = replace(api.world.runtime, clock=late)
    with pytest.raises(PassesFailed, match=f"used its {budget_s:g} s"):
        api.app.handler_map["tick"](_event("Scheduled Event", {}, "aws.events"), Context(left_s))


class _Late:
    """A clock on which the passes' beginning has taken a second more than there is, after the tick's and the cloud's list's."""

    def __init__(self, clock: FakeClock, budget_s: float) -> None:
        self._instants = iter([clock.now()] * 3)
        self._late = clock.now() + budget_s + 1

    def now(self) -> float:
        return next(self._instants, self._late)


def _serving(api: Api) -> Replica:
    """One of two ready replicas."""
    api.world.create()
    api.world.tick(3)
    return api.world.replicas(ReplicaStatus.READY)[0]


def test_a_spot_warning_unroutes_and_replaces_at_once(api: Api) -> None:
    """Two minutes before the machine goes its replica is out of the table and another one asked for; told twice, once more."""
    taken = _serving(api)
    warning = _event(WARNING, {**SPOT, "instance-id": taken.instance_id})
    for _ in range(2):
        api.client.lambda_.invoke("interrupt", warning)
        assert taken.id not in api.world.routed()
        assert sum(api.world.cloud.started.values()) == 3
    (noted,) = [replica for replica in api.world.replicas() if replica.id == taken.id]
    assert noted.interruption_at == datetime(2026, 11, 22, 5, 2, tzinfo=UTC).timestamp()


def test_a_machine_that_is_gone_is_replaced_at_once(api: Api) -> None:
    """EC2 says that it ended and no longer lists it: nobody waits for the minute."""
    lost = _serving(api)
    del api.world.cloud.machines[lost.id]
    api.client.lambda_.invoke(
        "interrupt", _event(STATE_CHANGE, {"instance-id": lost.instance_id, "state": "terminated"})
    )
    assert lost.id not in api.world.routed()
    assert sum(api.world.cloud.started.values()) == 3


def test_a_recommendation_is_told_and_no_more(api: Api) -> None:
    """A machine at risk is not a machine lost."""
    risky = _serving(api)
    api.client.lambda_.invoke("interrupt", _event(REBALANCE, {"instance-id": risky.instance_id}))
    assert risky.id in api.world.routed()
    (told,) = api.world.store.events("svc", kind="replica.notice")
    assert told.replica == risky.id


@pytest.mark.parametrize(
    ("detail_type", "detail"),
    [
        (WARNING, SPOT),
        (REBALANCE, {"instance-id": "i-0123456789abcdef0"}),
        (STATE_CHANGE, {"instance-id": "i-01234567", "state": "terminated"}),
        (STATE_CHANGE, {"instance-id": "i-01234567", "state": "running"}),
    ],
)
def test_a_machine_of_somebody_else_s_is_no_reason_for_a_pass(
    api: Api, detail_type: str, detail: dict[str, str]
) -> None:
    """EventBridge tells of every machine in the account; so does one of ours that comes: its agent says so itself."""
    lost = _serving(api)
    del api.world.cloud.machines[lost.id]
    api.client.lambda_.invoke("interrupt", _event(detail_type, detail))
    assert lost.id in api.world.routed()


@pytest.mark.parametrize(
    "event",
    [
        _event(WARNING, SPOT) | {"time": "yesterday"},
        _event(WARNING, SPOT, source="mallory"),
        _event("EC2 AMI State Change", SPOT),
        _event(WARNING, {}),
        _event(WARNING, "text"),
        _event(WARNING, {"instance-id": "i-0123456789abcdef0", "instance-action": "explode"}),
        _event(WARNING, {"instance-id": "$(reboot)", "instance-action": "stop"}),
        _event(STATE_CHANGE, {"instance-id": "i-01234567", "state": "on-fire"}),
    ],
)
def test_an_event_of_another_shape_is_refused(api: Api, event: dict[str, Any]) -> None:
    """It says what is wrong, and no pass runs."""
    api.world.create()
    with pytest.raises(Invalid, match="no EC2 event that Sailplane acts on"):
        api.client.lambda_.invoke("interrupt", event)
    assert not api.world.cloud.started
