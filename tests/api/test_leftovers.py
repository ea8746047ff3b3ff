"""Residue: found, shown, removed, and nothing else with it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from chalicelib.bootstrap import Threads
from chalicelib.errors import Unreachable
from chalicelib.model import Leftover, LeftoverKind
from tests.api.conftest import Api, assert_problem
from tests.fakes import FakeCloud, World


@dataclass
class LitteredCloud(FakeCloud):
    """A cloud in which disks of replicas, and a firewall rule, lie about; something can happen while it is asked."""

    litter: list[Leftover] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    refuses: bool = False
    meanwhile: Any = None

    def leftovers(self, live: frozenset[str]) -> tuple[Leftover, ...]:
        if self.down:
            raise Unreachable("cloud is down")
        if self.meanwhile:
            self.meanwhile()
        return tuple(one for one in self.litter if (one.replica_id not in live if one.replica_id else not live))

    def remove(self, leftover: Leftover) -> None:
        if self.refuses:
            raise Unreachable("the disk is in use")
        self.removed.append(leftover.id)


def disk(id: str, replica_id: str = "gone-0000-0-1") -> Leftover:  # noqa: A002 the cloud's word for it
    return Leftover("local", LeftoverKind.DISK, id, "here", "its machine is gone", replica_id, 4.0)


FIREWALL = Leftover("local", LeftoverKind.FIREWALL, "fw", "here", "there is no service")


@pytest.fixture
def cloud(world: World) -> LitteredCloud:
    littered = LitteredCloud(world.clock)
    world.cloud = littered
    world.runtime = replace(world.runtime, providers={"local": littered})
    return littered


def shown(api: Api) -> list[str]:
    answer = json.loads(api.get("/v1/leftovers").body)
    return [one["id"] for one in answer["leftovers"]]


def remove(api: Api, *ids: str) -> dict[str, Any]:
    body = {"leftovers": [{"provider": "local", "id": id_} for id_ in ids]}
    answer: dict[str, Any] = json.loads(api.post("/v1/leftovers/remove", body).body)
    return answer


def test_residue_is_shown_with_its_price(api: Api, cloud: LitteredCloud) -> None:
    """Cloud, kind, place, whose it was, why nobody needs it, and what it costs a month."""
    cloud.litter = [disk("d1")]
    (one,) = json.loads(api.get("/v1/leftovers").body)["leftovers"]
    assert one == {
        "provider": "local",
        "kind": "disk",
        "id": "d1",
        "region": "here",
        "replica": "gone-0000-0-1",
        "why": "its machine is gone",
        "usd_per_month": 4.0,
    }


def test_what_a_replica_needs_is_no_residue(api: Api, world: World, cloud: LitteredCloud) -> None:
    """Nor what all replicas share, while there is any."""
    world.create()
    world.tick(2)
    cloud.litter = [disk("hers", world.replicas()[0].id), disk("d1"), FIREWALL]
    assert shown(api) == ["d1"]


def test_a_replica_launched_meanwhile_keeps_its_things(api: Api, world: World, cloud: LitteredCloud) -> None:
    """The clouds are asked before it is read again who lives."""
    world.create()
    newborn = "svc-u1d0-0-1"  # the first replica of the first service, see fakes.World
    cloud.litter = [disk("newborn's", newborn), FIREWALL]
    cloud.meanwhile = lambda: world.tick(1) if not world.replicas() else None
    assert shown(api) == []
    assert newborn in {replica.id for replica in world.replicas()}


def test_what_was_shown_is_removed_and_nothing_else(api: Api, world: World, cloud: LitteredCloud) -> None:
    """Neither what was not named nor what is needed by now, named or not."""
    world.create()
    world.tick(2)
    needed = world.replicas()[0].id
    cloud.litter = [disk("d1"), disk("d2"), disk("needed", needed)]
    assert remove(api, "d1", "needed", "nonsense") == {"leftovers": [], "unreachable": {}}
    assert cloud.removed == ["d1"]


def test_what_could_not_be_removed_is_said(api: Api, cloud: LitteredCloud) -> None:
    """It stays in the list, with the cloud's own reason."""
    cloud.litter, cloud.refuses = [disk("d1")], True
    answer = remove(api, "d1")
    assert [one["id"] for one in answer["leftovers"]] == ["d1"]
    assert answer["unreachable"] == {"local": "the disk is in use"}


def test_a_silent_cloud_is_named(api: Api, cloud: LitteredCloud) -> None:
    """Nothing found is not the same as nothing there."""
    cloud.down = True
    assert json.loads(api.get("/v1/leftovers").body) == {"leftovers": [], "unreachable": {"local": "cloud is down"}}


def test_only_the_owner_may_look(api: Api) -> None:
    """Residue names machines and places."""
    assert_problem(api.call("GET", "/v1/leftovers", key=None), 401)
    assert_problem(api.call("POST", "/v1/leftovers/remove", {"leftovers": []}, key="wrong"), 401)


def test_clouds_are_asked_side_by_side(api: Api, world: World) -> None:
    """One that does not answer for 10 s must not be added to the next: API Gateway waits for 29 s in all."""
    both = threading.Barrier(2)
    first, second = (LitteredCloud(world.clock, meanwhile=lambda: both.wait(5)) for _ in range(2))
    first.litter = [disk("d1")]
    world.runtime = replace(world.runtime, providers={"local": first, "other": second}, spawn=Threads())
    assert shown(api) == ["d1"]


def test_a_cloud_that_is_not_enabled_any_more_is_named(api: Api, world: World, cloud: LitteredCloud) -> None:
    """In doctor and in the service's message: its machines go on, unseen."""
    world.create()
    world.tick(2)
    world.runtime = replace(world.runtime, providers={})
    assert "local" in json.loads(api.get("/v1/leftovers").body)["unreachable"]
    assert "local is not enabled" in json.loads(api.get("/v1/services/svc").body)["message"]
    assert any("local is not enabled" in line for line in json.loads(api.get("/v1/services/svc/why").body)["now"])
    assert cloud.removed == []
