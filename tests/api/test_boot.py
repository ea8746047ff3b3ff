"""What machines say: a boot token is good for one machine and one replica, a notice comes from the replica itself."""

from __future__ import annotations

import ast
import base64
import io
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chalice.test import HTTPResponse

import replica_agent
from chalicelib import identity, lifecycle, passes
from chalicelib.api import boot as routes
from chalicelib.model import EngineSpec, Replica, ReplicaStatus, Requirement, RoutingSpec, ServiceSpec
from chalicelib.ports import Commit
from chalicelib.providers.boot import AGENT_PORT
from tests.api.conftest import SETTINGS, Api, assert_problem
from tests.fakes import FakeRelay, Interposed, World, offer, spec

MACHINE, OTHER_MACHINE = "1" * 32, "2" * 32
ENGINE = EngineSpec(port=8080, setup="install", run="serve", envs=(("PASSWORD", "the user's"),))


@pytest.fixture
def replica(api: Api) -> Replica:
    return _create(api)


def _create(api: Api, wanted: ServiceSpec | None = None, requirement: Requirement | None = None) -> Replica:
    """A service with one replica whose launch has been written down and no more."""
    settings = replace(SETTINGS, control_url="https://control.example")
    api.world.runtime = replace(api.world.runtime, settings=settings)
    routing = RoutingSpec(engine_key_env="PASSWORD")
    service = api.world.create("svc", wanted or replace(spec(), engine=ENGINE, routing=routing))
    made = lifecycle.new_replica(
        service,
        slot=0,
        generation=7,
        offer=replace(offer("gcp"), accelerator="L4", accelerator_count=2),
        requirement=requirement or Requirement(),
        boot_nonce="nonce-0",
        now=api.world.clock.now(),
    )
    _write(api, made)
    return api.world.replicas()[0]


def _write(api: Api, replica: Replica) -> None:
    api.world.store.commit(replica.service, None, Commit(replicas=(replica,)))


def _boot(api: Api, replica: Replica, machine: str = MACHINE, **changed: str) -> HTTPResponse:
    token = identity.boot_token(SETTINGS.agent_key, replica.id, replica.boot_nonce)
    body = {"replica_id": replica.id, "boot_token": token, "machine_key": machine, **changed}
    return api.call("POST", "/v1/boot", body, key=None)


def _interrupt(api: Api, replica: Replica, *, key: str | None = None, **changed: object) -> HTTPResponse:
    token = identity.agent_token(SETTINGS.agent_key, replica.id, replica.boot_nonce)
    body = {"boot_nonce": replica.boot_nonce, "kind": "INTERRUPTION", "at": api.world.clock.now() + 30, **changed}
    path = f"/v1/replicas/{replica.id}/interruption"
    return api.call("POST", path, body, key=token if key is None else key)


def test_a_machine_is_told_what_to_run(api: Api, replica: Replica) -> None:
    """Everything the agent reads, but what only the machine knows."""
    told = _boot(api, replica).json_body
    assert told["config"] == {
        "cloud": "gcp",
        "control_url": "https://control.example",
        "replica_id": "svc-u1d0-0-7",
        "service": "svc",
        "boot_nonce": "nonce-0",
        "agent_token": identity.agent_token(SETTINGS.agent_key, replica.id, "nonce-0"),
        "access": "required",
        "edge_url": SETTINGS.edge_url,
        "grant_keys": identity.grant_keys(SETTINGS.router_tokens, replica.id, "nonce-0"),
        "engine_key": "the user's",
        "engine_key_env": "PASSWORD",
        "secrets_url": "",
        "port": AGENT_PORT,
        "engine_port": 8080,
        "image": "",
        "setup": "install",
        "run": "serve",
        "env": {
            "PASSWORD": "the user's",
            "PIP_BREAK_SYSTEM_PACKAGES": "1",
            **{
                f"{prefix}_{name}": value
                for prefix in ("SKYPILOT", "SAILPLANE")
                for name, value in {
                    "NUM_GPUS_PER_NODE": "2",
                    "NODE_RANK": "0",
                    "NUM_NODES": "1",
                    "NODE_IPS": "127.0.0.1",
                    "SERVE_REPLICA_ID": "7",
                }.items()
            },
        },
        "drain_timeout_s": 30.0,
    }
    assert "aiohttp==" in told["requirements"]


def test_a_machine_is_given_the_agents_sources(api: Api, replica: Replica) -> None:
    """All of them, as a zip file that Python runs."""
    packed = zipfile.ZipFile(io.BytesIO(base64.b64decode(_boot(api, replica).json_body["agent"])))
    sources = {path.name: path.read_text() for path in Path(replica_agent.__path__[0]).glob("*.py")}
    for name, text in sources.items():
        assert packed.read(f"replica_agent/{name}").decode() == text
    assert set(packed.namelist()) == {"__main__.py", *(f"replica_agent/{name}" for name in sources)}


def test_the_token_is_good_for_one_machine(api: Api, replica: Replica) -> None:
    """A lost answer is repeated to the machine that had it; a stolen token is worth nothing any more."""
    first = _boot(api, replica)
    assert first.status_code == 200
    assert _boot(api, replica).json_body == first.json_body
    assert_problem(_boot(api, replica, OTHER_MACHINE), 403)
    assert _boot(api, replica).status_code == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"boot_token": "0" * 64},
        {"boot_token": f"{'0' * 32}.{'0' * 64}"},
        {"replica_id": "svc-u1d0-0-8"},
        {"replica_id": "no-a-0-1"},
        {"replica_id": "x"},
    ],
)
def test_wrong_tokens_and_unknown_replicas_are_answered_alike(
    api: Api, replica: Replica, changed: dict[str, str]
) -> None:
    """403 word for word, so that nobody finds out which replicas there are; and the token is not used up."""
    assert _stripped(_boot(api, replica, **changed)) == _stripped(_boot(api, replica, boot_token="wrong"))
    assert _boot(api, replica, OTHER_MACHINE).status_code == 200


def _stripped(response: HTTPResponse) -> tuple[dict[str, Any], Mapping[str, str]]:
    return assert_problem(response, 403), response.headers


def test_a_stranger_costs_no_look_into_the_store(api: Api, replica: Replica, world: World) -> None:
    """Nor does another replica's token: a partition of the table is read for one that was made for this very id."""
    looks: list[str] = []
    store: Any = Interposed(world.store, lambda moment: looks.append(moment) if moment.startswith("before") else None)
    world.runtime = replace(world.runtime, store=store)
    for changed in ({"boot_token": "wrong"}, {"boot_token": "0" * 32 + "." + "0" * 64}, {"replica_id": "svc-u1d0-0-8"}):
        assert_problem(_boot(api, replica, **changed), 403)
    assert looks == []
    earlier = identity.boot_token(SETTINGS.agent_key, replica.id, "another boot")
    assert_problem(_boot(api, replica, boot_token=earlier), 403)
    assert looks == ["before load"]


def test_secrets_are_compared_in_constant_time() -> None:
    """By construction: nothing in the module compares a token with == or `in`."""
    tree = ast.parse(Path(routes.__file__).read_text())
    compared = {
        ast.unparse(name) for node in ast.walk(tree) if isinstance(node, ast.Compare) for name in ast.walk(node)
    }
    assert not compared & {"body.boot_token", "expected", "bearer", "key"}


@pytest.mark.parametrize("status", list(ReplicaStatus))
def test_only_a_replica_that_is_to_boot_does(api: Api, replica: Replica, status: ReplicaStatus) -> None:
    """Before the launch's outcome is written too; never once it was ready, leaves or has left."""
    _write(api, lifecycle.moved(replica, status, api.world.clock.now()))
    may = status in (ReplicaStatus.PENDING, ReplicaStatus.PROVISIONING, ReplicaStatus.STARTING)
    assert _boot(api, replica).status_code == (200 if may else 403)


def test_a_replica_runs_the_version_it_was_launched_from(api: Api, replica: Replica) -> None:
    """Its owner's update in between is for the next one."""
    api.world.update(replace(spec("v2"), engine=replace(ENGINE, run="serve v2"), drain_timeout_s=99.0))
    config = _boot(api, replica).json_body["config"]
    assert (config["run"], config["drain_timeout_s"]) == ("serve", 30.0)


def test_an_engine_that_asks_for_its_port_gets_a_free_one(api: Api) -> None:
    """As on a laptop, so that one command runs everywhere."""
    replica = _create(api, replace(spec(), engine=replace(ENGINE, run="serve --port $SAILPLANE_PORT")))
    assert _boot(api, replica).json_body["config"]["engine_port"] == 0


@pytest.mark.parametrize(
    ("image_id", "image"), [("docker:vllm/vllm-openai:v1", "vllm/vllm-openai:v1"), ("ami-0123", "")]
)
def test_a_docker_image_is_the_agents_business(api: Api, image_id: str, image: str) -> None:
    """A machine image is the cloud's."""
    replica = _create(api, requirement=Requirement(image_id=image_id))
    assert _boot(api, replica).json_body["config"]["image"] == image


def test_without_an_agent_key_nobody_boots(api: Api, replica: Replica) -> None:
    """Tokens derived from an empty key could be derived by anybody."""
    api.world.runtime = replace(api.world.runtime, settings=replace(SETTINGS, agent_key=""))
    token = identity.boot_token("", replica.id, replica.boot_nonce)
    assert_problem(_boot(api, replica, boot_token=token), 403)
    assert_problem(_interrupt(api, replica, key=identity.agent_token("", replica.id, replica.boot_nonce)), 401)


@pytest.mark.parametrize("field", ["boot_token", "machine_key", "replica_id"])
@pytest.mark.parametrize("value", ["", "x" * 1000, "Not An Id!"])
def test_nonsense_is_refused_and_not_repeated(
    api: Api, replica: Replica, field: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No token, right or wrong, stands in a problem or a log."""
    caplog.set_level(logging.DEBUG)
    response = _boot(api, replica, **{field: value})
    assert response.status_code in (403, 422)
    token = identity.boot_token(SETTINGS.agent_key, replica.id, replica.boot_nonce)
    told = response.body.decode() + caplog.text
    assert token not in told
    assert not value or value not in told


def test_the_body_is_bounded(api: Api, replica: Replica) -> None:
    """4 KB, for strangers may send it."""
    assert_problem(_boot(api, replica, boot_token="x" * 5000), 413)
    assert_problem(_interrupt(api, replica, boot_nonce="x" * 5000), 413)


def test_a_notice_is_handed_to_those_who_may_launch(api: Api, replica: Replica) -> None:
    """It is on record when the agent is answered, and passes are asked for: whoever answers the internet launches nothing."""
    response = _interrupt(api, replica, kind="INTERRUPTION")
    assert (response.status_code, response.json_body) == (202, {"replica": replica.id})
    assert [event.kind for event in api.world.store.events("svc", kind="replica.notice")] == ["replica.notice"]
    assert (api.poked, len(api.world.cloud.started)) == (["svc"], 0)
    passes.tick(api.world.runtime, frozenset(api.poked), lists_for_all=False)
    assert replica.id not in api.world.cloud.started
    assert len(api.world.cloud.started) == 2, "the replica that was missing, and the one in place of the interrupted"


def test_a_notice_that_comes_while_others_are_at_work_is_acted_on_after_them(api: Api, replica: Replica) -> None:
    """Who has the lease decided before; the message that comes 2 s later is a row of rounds of its own, a minute long."""
    relay = FakeRelay()
    api.world.runtime = replace(api.world.runtime, relay=relay)
    assert _interrupt(api, replica, kind="INTERRUPTION").status_code == 202
    lease = api.world.store.acquire_lease("svc", "another", 30.0, api.world.clock.now())
    passes.tick(api.world.runtime, frozenset(api.poked), lists_for_all=False)
    api.world.store.release_lease(lease)
    assert not api.world.cloud.started
    ((body, delay_s),) = relay.sent
    now = api.world.clock.now()
    again = passes.Round.parse(body)
    assert (delay_s, again.names(now), again.until - now) == (2, {"svc"}, passes.TICK_S)
    passes.tick(api.world.runtime, again.names(now), lists_for_all=False)
    assert len(api.world.cloud.started) == 2


def test_a_rebalance_recommendation_is_told(api: Api, replica: Replica) -> None:
    """Nothing is certain yet, so nothing is done but to write it down."""
    assert _interrupt(api, replica, kind="REBALANCE").status_code == 202
    assert [event.kind for event in api.world.store.events("svc", kind="replica.notice")] == ["replica.notice"]
    assert not api.world.cloud.started


def test_a_notice_that_says_nothing_new_costs_nothing(api: Api, replica: Replica) -> None:
    """Said again, or an instant of it that creeps: whoever can read one replica's token would multiply its requests by 27."""
    relay = FakeRelay()
    api.world.runtime = replace(api.world.runtime, relay=relay)
    at = api.world.clock.now() + 100
    for each in (0, 0, 0.001, 5, -5, 20):
        assert _interrupt(api, replica, at=at - each).status_code == 202
    assert (len(api.poked), len(relay.sent), _notices(api)) == (2, 2, 2), "at first, and 20 s earlier"
    for each in range(20, 300):
        assert _interrupt(api, replica, at=at - each).status_code == 202
    assert len(relay.sent) == 10, "what has passed is now"


def test_a_rebalance_recommendation_is_told_once_an_hour(api: Api, replica: Replica) -> None:
    """Each is an event that is kept for a week."""
    for _ in range(20):
        assert _interrupt(api, replica, kind="REBALANCE").status_code == 202
    assert _notices(api) == 1
    api.world.clock.advance(3601.0)
    assert _interrupt(api, replica, kind="REBALANCE").status_code == 202
    assert _notices(api) == 2


def _notices(api: Api) -> int:
    return len(api.world.store.events("svc", kind="replica.notice"))


@pytest.mark.parametrize("key", ["", "wrong", "schlüssel", SETTINGS.admin_key, SETTINGS.router_tokens[0]])
def test_a_notice_needs_the_replicas_own_token(api: Api, replica: Replica, key: str) -> None:
    """401, without a look into the store."""
    api.world.runtime = replace(api.world.runtime, store=None)  # type: ignore[arg-type]  # to touch it would be an error
    assert_problem(_interrupt(api, replica, key=key), 401)
    token = identity.agent_token(SETTINGS.agent_key, replica.id, replica.boot_nonce)
    assert_problem(_interrupt(api, replica, key=token, boot_nonce="another"), 401)


@pytest.mark.parametrize("at_s", [-3601.0, 3601.0, 1e9])
def test_an_implausible_instant_is_refused(api: Api, replica: Replica, at_s: float) -> None:
    """A machine whose clock is wrong must not be believed."""
    assert_problem(_interrupt(api, replica, at=api.world.clock.now() + at_s), 422)


@pytest.mark.parametrize("changed", [{"kind": "ENDED"}, {"at": "soon"}, {"at": "nan"}, {"at": None}])
def test_a_senseless_notice_is_refused(api: Api, replica: Replica, changed: dict[str, Any]) -> None:
    """The end of a machine is not its agent's to tell."""
    assert_problem(_interrupt(api, replica, **changed), 422)


def test_a_replica_that_has_ended_has_no_notices(api: Api, replica: Replica) -> None:
    """404: there is nothing to do any more, and the agent stops telling."""
    _write(api, lifecycle.moved(replica, ReplicaStatus.TERMINATED, api.world.clock.now()))
    assert_problem(_interrupt(api, replica), 404)
