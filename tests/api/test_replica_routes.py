"""Single replicas through the API: found by the end of their id, read, drained, broken on purpose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from chalicelib.api.lookup import find
from chalicelib.errors import Invalid, NotFound
from chalicelib.model import Reason, Replica, ReplicaStatus
from tests.api.conftest import Api, assert_problem
from tests.fakes import FakeClock, FakeCloud, FakeProber, World


@dataclass
class BreakableCloud(FakeCloud):
    """A fake cloud that can be told to fail, and keeps logs."""

    log: str | None = None
    asked: list[tuple[str, str, float]] = field(default_factory=list)

    def preempt(self, replica_id: str, notice_s: float) -> None:
        self.asked.append(("preempt", replica_id, notice_s))
        self.interrupt(replica_id, notice_s)

    def kill(self, replica_id: str) -> None:
        if replica_id not in self.machines:
            raise NotFound(f"no machine of replica {replica_id} is running")
        self.asked.append(("kill", replica_id, 0.0))
        del self.machines[replica_id]

    def read_log(self, replica_id: str, instance_id: str, tail: int) -> str | None:
        del replica_id, instance_id
        return None if self.log is None else f"{self.log} of {tail}"


class TalkingProber(FakeProber):
    """Agents that show their log while their machine lives."""

    def read_log(self, replica: Replica, tail: int) -> str | None:
        machine = self._machine(replica)
        return f"agent's last {tail}" if machine and machine.answers else None


@pytest.fixture
def cloud() -> BreakableCloud:
    return BreakableCloud(FakeClock())


@pytest.fixture
def api(cloud: BreakableCloud) -> Api:
    """Two ready replicas of `svc`."""
    world = World(cloud=cloud)
    world.runtime = replace(world.runtime, prober=TalkingProber({"local": cloud}, cloud.clock))
    made = Api(world)
    world.create()
    world.tick(4)
    assert len(world.routed()) == 2
    return made


def _replica(api: Api) -> Replica:
    return api.world.replicas(ReplicaStatus.READY)[0]


def _suffix(replica: Replica) -> str:
    return f"{replica.slot}-{replica.generation}"


def test_a_drained_replica_is_unrouted_finished_and_replaced(api: Api) -> None:
    """202 at once; its agent is told; the next pass publishes without it and launches another."""
    replica = _replica(api)
    response = api.post(f"/v1/services/svc/replicas/{_suffix(replica)}/drain")
    assert (response.status_code, response.json_body) == (202, {"replica": replica.id, "action": "drain"})
    drained = next(one for one in api.world.replicas() if one.id == replica.id)
    assert (drained.status, drained.reason) == (ReplicaStatus.DRAINING, Reason.USER)
    assert api.world.cloud.machines[replica.id].draining
    assert api.poked == ["svc"]
    api.world.tick()
    assert replica.id not in api.world.routed()
    api.world.tick(15)
    assert len(api.world.routed()) == 2
    assert replica.id not in api.world.cloud.machines


def test_draining_twice_is_one_drain(api: Api) -> None:
    """The second request finds it leaving and changes nothing."""
    path = f"/v1/services/svc/replicas/{_replica(api).id}/drain"
    assert api.post(path).status_code == 202
    before = api.world.state()
    assert api.post(path).status_code == 202
    assert api.world.state() == before


def test_a_preempted_replica_gets_its_notice(api: Api, cloud: BreakableCloud) -> None:
    """30 s unless told otherwise, as GCP and Azure give."""
    replica = _replica(api)
    path = f"/v1/services/svc/replicas/{replica.id}/preempt"
    assert api.post(path).json_body == {"replica": replica.id, "action": "preempt"}
    assert api.post(f"{path}?notice_s=2.5").status_code == 202
    assert cloud.asked == [("preempt", replica.id, 30.0), ("preempt", replica.id, 2.5)]
    assert api.poked == ["svc", "svc"]
    for notice in ("-1", "601", "nan", "soon"):
        assert_problem(api.post(f"{path}?notice_s={notice}"), 422)


def test_a_killed_replica_is_gone(api: Api, cloud: BreakableCloud) -> None:
    """Killed once; a second time there is no machine to kill."""
    replica = _replica(api)
    path = f"/v1/services/svc/replicas/{replica.id}/kill"
    assert api.post(path).status_code == 202
    assert cloud.asked == [("kill", replica.id, 0.0)]
    assert_problem(api.post(path), 404)


def test_a_cloud_that_cannot_be_told_to_fail_says_so() -> None:
    """422 for preempt and kill on anything but the local provider."""
    api = Api(World())
    api.world.create()
    api.world.tick(4)
    for action in ("preempt", "kill"):
        document = assert_problem(api.post(f"/v1/services/svc/replicas/{_replica(api).id}/{action}"), 422)
        assert "cannot be told to fail" in document["detail"]
    assert len(api.world.cloud.machines) == 2


def test_a_log_comes_from_the_agent_or_else_from_the_provider(api: Api, cloud: BreakableCloud) -> None:
    """The agent is asked first; when it is silent the cloud's copy does; with neither, 404 says so."""
    replica = _replica(api)
    path = f"/v1/services/svc/replicas/{_suffix(replica)}/log"
    assert api.get(f"{path}?tail=7").json_body == {"replica": replica.id, "log": "agent's last 7"}
    assert api.get(path).json_body["log"] == "agent's last 100"
    cloud.machines[replica.id].answers = False
    assert "has no log" in assert_problem(api.get(path), 404)["detail"]
    cloud.log = "cloud's copy"
    assert api.get(f"{path}?tail=7").json_body["log"] == "cloud's copy of 7"
    for tail in ("0", "10001", "all"):
        assert_problem(api.get(f"{path}?tail={tail}"), 422)


def test_the_log_of_a_replica_that_is_gone_can_still_be_read(api: Api, cloud: BreakableCloud) -> None:
    """That is when its owner wants it most."""
    replica = _replica(api)
    del cloud.machines[replica.id]
    api.world.tick(5)
    assert replica.id not in {one.id for one in api.world.replicas()}
    cloud.log = "last words"
    assert api.get(f"/v1/services/svc/replicas/{_suffix(replica)}/log").json_body["log"] == "last words of 100"


def test_an_unknown_replica_is_not_found_and_the_others_listed(api: Api) -> None:
    """So that the right one can be copied."""
    document = assert_problem(api.post("/v1/services/svc/replicas/9-9/drain"), 404)
    assert all(replica.id in document["detail"] for replica in api.world.replicas())


def test_the_end_of_an_id_must_be_whole_and_unique(api: Api) -> None:
    """`1` is no end of `…-0-11`, several matches are refused by name, and a full id beats an end."""
    template = _replica(api)
    replicas = [replace(template, id=one) for one in ("svc-ab-0-11", "svc-ab-1-1", "svc-ab-2-1", "1-1")]
    assert find("svc", replicas, "0-11").id == "svc-ab-0-11"
    assert find("svc", replicas, "1-1").id == "1-1"
    with pytest.raises(Invalid, match="svc-ab-1-1, svc-ab-2-1"):
        find("svc", replicas, "1")
    with pytest.raises(NotFound):
        find("svc", replicas, "b-0-11")
