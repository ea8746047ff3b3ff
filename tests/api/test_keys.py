"""Endpoint keys over the API: told once, listed without their texts, revoked, replaced."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest

from chalicelib import identity
from chalicelib.errors import Unreachable
from chalicelib.model import EndpointKey
from tests.api.conftest import ROUTER_TOKEN, Api, assert_problem
from tests.fakes import START
from tests.sealed import opened

DAY_S = 86_400.0


def _make(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post("/v1/keys", {"services": ["svc"], **fields})
    assert answer.status_code == 201, answer.body
    made: dict[str, Any] = answer.json_body
    return made


def _keys(api: Api) -> dict[str, EndpointKey]:
    return {key.id: key for key in api.world.store.endpoint_keys()}


def _seconds(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()


def test_a_key_is_told_once(api: Api) -> None:
    """Its text is in the answer that made it; what is kept, and listed, is its hash and its rights."""
    made = _make(api, name="laptop", expires_in_s=60, rate_per_s=0.5, concurrency=2)
    assert re.fullmatch(rf"sp_{made['id']}_[A-Za-z0-9_-]{{43}}", made["key"])
    assert _keys(api)[made["id"]] == EndpointKey(
        id=made["id"],
        name="laptop",
        hash=identity.endpoint_key_hash(made["key"]),
        services=("svc",),
        created_at=START,
        expires_at=START + 60,
        rate_per_s=0.5,
        concurrency=2,
        version=1,
    )
    listed = api.get("/v1/keys")
    assert listed.json_body["keys"] == [{name: value for name, value in made.items() if name != "key"}]
    assert made["key"] not in listed.body.decode()
    assert identity.endpoint_key_hash(made["key"]) not in listed.body.decode()


def test_two_keys_share_nothing(api: Api) -> None:
    """Neither id nor text, though all else be the same."""
    first, second = _make(api), _make(api)
    assert first["id"] != second["id"]
    assert first["key"] != second["key"]


def test_a_key_has_no_limits_unless_given(api: Api) -> None:
    """It does not expire, and no rate or number holds it back; nobody has used it."""
    made = _make(api, services=["a", "b", "a"])
    limits = ("expires_at", "rate_per_s", "concurrency", "last_used_at")
    assert [made[name] for name in limits] == [None] * 4
    assert (made["name"], made["services"]) == ("", ["a", "b"])


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"services": []}, "services"),
        ({"services": ["Not A Name"]}, "services.0"),
        ({"services": ["v1"]}, "services.0"),
        ({"services": ["**"]}, "services.0"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"expires_in_s": 0}, "expires_in_s"),
        ({"rate_per_s": 0}, "rate_per_s"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"key": "my own"}, "key"),
    ],
)
def test_a_key_that_cannot_be_is_refused(api: Api, change: dict[str, Any], path: str) -> None:
    """422 with the place; nothing is made."""
    document = assert_problem(api.post("/v1/keys", {"services": ["svc"], **change}), 422)
    assert any(problem["path"].startswith(path) for problem in document["problems"])
    assert _keys(api) == {}


def test_a_revoked_key_is_gone(api: Api) -> None:
    """It is not listed any more, and revoking it again says that there is none."""
    first, second = _make(api), _make(api)
    assert api.call("DELETE", f"/v1/keys/{first['id']}").json_body == {"id": first["id"], "name": first["name"]}
    assert [key["id"] for key in api.get("/v1/keys").json_body["keys"]] == [second["id"]]
    assert_problem(api.call("DELETE", f"/v1/keys/{first['id']}"), 404)


def test_a_mistyped_id_is_answered_with_the_nearest(api: Api) -> None:
    """Whoever revokes a key is in a hurry."""
    made = _make(api)
    wrong = made["id"][:-1] + ("x" if made["id"][-1] != "x" else "y")
    assert made["id"] in assert_problem(api.call("DELETE", f"/v1/keys/{wrong}"), 404)["detail"]


def test_a_rotated_key_lives_on_for_the_overlap(api: Api) -> None:
    """The new one has its rights and its lifetime from now on; the old one a day, or what is asked for."""
    old = _make(api, name="ci", expires_in_s=90 * DAY_S, rate_per_s=3, concurrency=4)
    api.world.clock.advance(10 * DAY_S)
    now = api.world.clock.now()
    new = api.post(f"/v1/keys/{old['id']}/rotate", {}).json_body
    assert new["key"] != old["key"]
    assert {name: new[name] for name in ("name", "services", "rate_per_s", "concurrency")} == {
        name: old[name] for name in ("name", "services", "rate_per_s", "concurrency")
    }
    assert _seconds(new["expires_at"]) == now + 90 * DAY_S
    keys = _keys(api)
    assert keys[old["id"]].expires_at == now + DAY_S
    assert keys[old["id"]].hash == identity.endpoint_key_hash(old["key"])
    api.post(f"/v1/keys/{new['id']}/rotate", {"overlap_s": 0})
    assert _keys(api)[new["id"]].expires_at == now


def test_a_rotation_never_prolongs_the_old_key(api: Api) -> None:
    """One that ends before the overlap does ends when it would have."""
    old = _make(api, expires_in_s=60)
    api.post(f"/v1/keys/{old['id']}/rotate", {"overlap_s": 3600})
    assert _keys(api)[old["id"]].expires_at == START + 60


def test_a_key_without_end_is_replaced_by_one_without_end(api: Api) -> None:
    """The old one gets an end now."""
    old = _make(api)
    new = api.post(f"/v1/keys/{old['id']}/rotate", {"overlap_s": 5}).json_body
    assert new["expires_at"] is None
    assert _keys(api)[old["id"]].expires_at == START + 5


def test_an_expired_key_is_not_rotated(api: Api) -> None:
    """Nor is one that is not there: a mistake in the id must not make a key."""
    old = _make(api, expires_in_s=60)
    api.world.clock.advance(60)
    assert_problem(api.post(f"/v1/keys/{old['id']}/rotate", {}), 422)
    assert_problem(api.post("/v1/keys/0000000000/rotate", {}), 404)
    assert list(_keys(api)) == [old["id"]]


def test_there_are_at_most_a_thousand_keys(api: Api) -> None:
    """Each is part of every table; the one too many is refused, by rotation too, and says what to do."""
    for number in range(1000):
        api.world.store.create_key(EndpointKey(f"{number:010}", "", "hash", ("svc",), START))
    assert "Revoke some first" in assert_problem(api.post("/v1/keys", {"services": ["svc"]}), 422)["detail"]
    assert_problem(api.post("/v1/keys/0000000000/rotate", {}), 422)


def test_the_service_s_view_says_whether_it_asks_for_keys(api: Api) -> None:
    """So that whoever shows it can say what to do next."""
    yaml = "service: {readiness_probe: /, ports: 80}\nrun: serve"
    assert api.post("/v1/services", {"name": "shut", "yaml": yaml}).json_body["access"] == "required"
    opened = yaml.replace("ports", "access: {keys: open}, ports")
    assert api.post("/v1/services", {"name": "wide", "yaml": opened}).json_body["access"] == "open"


@dataclass
class _Place:
    """`ports.Snapshots`: one text, or none to be had."""

    text: str = ""
    fails: bool = False

    def read(self) -> str:
        return self.text

    def write(self, text: str) -> None:
        if self.fails:
            raise Unreachable("the bucket does not answer")
        self.text = text


def test_routers_that_start_alone_know_of_every_change_of_keys(api: Api) -> None:
    """The snapshot is written before the answer: a key that is revoked opens nothing, even if the control plane dies now."""
    place = _Place()
    api.world.runtime = replace(api.world.runtime, snapshots=place)
    known = []
    first = _make(api)
    known.append(set(opened(place.text, ROUTER_TOKEN)["keys"]))
    second = api.post(f"/v1/keys/{first['id']}/rotate", {}).json_body
    known.append(set(opened(place.text, ROUTER_TOKEN)["keys"]))
    api.call("DELETE", f"/v1/keys/{first['id']}")
    known.append(set(opened(place.text, ROUTER_TOKEN)["keys"]))
    assert known == [{first["id"]}, {first["id"], second["id"]}, {second["id"]}]


def test_a_snapshot_that_cannot_be_written_costs_no_key(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """The key is made and told; the failure is in the log, and the next tick mends it."""
    api.world.runtime = replace(api.world.runtime, snapshots=_Place(fails=True))
    made = _make(api)
    assert list(_keys(api)) == [made["id"]]
    assert "the bucket does not answer" in caplog.text
    assert made["key"] not in caplog.text
