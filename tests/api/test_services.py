"""Services through the API: created whole or not at all, changed under version, shut down, explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from chalicelib.errors import NoCapacity, Unreachable
from chalicelib.model import CapacityType, Event, Hook, Reason, Service, SpecVersion, Unavailable
from chalicelib.ports import Commit
from chalicelib.store.memory import MemoryStore
from tests.api.conftest import YAML, Api, assert_problem
from tests.fakes import START, FakeMarket, FakeSchedule, World, offer

NEW = {"name": "hello", "yaml": YAML}
CAPPED = "replica_policy: {min_replicas: 2, max_spot_price_ratio: 0.5}"


def _interfering(world: World, times: int) -> None:
    """Let a pass change the service just before the next writes of its owner."""
    left = [times]

    class Store(MemoryStore):
        def _touch(self, name: str) -> None:
            if left[0]:
                left[0] -= 1
                state = self.load(name)
                assert state is not None
                super().commit(name, None, Commit(service=replace(state.service, was_ready=True)))

        def add_version(
            self, service: Service, spec: SpecVersion, events: Sequence[Event] = (), *, hook: Hook | None = None
        ) -> Service:
            self._touch(service.name)
            return super().add_version(service, spec, events, hook=hook)

        def commit(self, name: str, lease: Any, commit: Commit) -> None:
            self._touch(name)
            super().commit(name, lease, commit)

    world.store = Store(world.clock)
    world.runtime = replace(world.runtime, store=world.store)


class Unscheduled(FakeSchedule):
    """Cannot be turned on."""

    def on(self) -> None:
        raise Unreachable("events of AWS does not answer")


def test_creating_turns_the_schedule_on_first(api: Api) -> None:
    """So that there is never a service that nobody wakes for; when it cannot be, the answer is 503 and nothing is there."""
    for awake, status, there in ((Unscheduled(), 503, ()), (FakeSchedule(), 201, ("hello",))):
        api.world.runtime = replace(api.world.runtime, schedule=awake)
        assert api.post("/v1/services", NEW).status_code == status
        assert api.world.store.service_names() == there
    assert awake.is_on


def test_a_service_is_created_and_asked_for_at_once(api: Api) -> None:
    """201 with the service as it stands; its first pass is asked for, and runs it."""
    response = api.post("/v1/services", NEW)
    assert response.status_code == 201
    created = response.json_body
    assert (created["name"], created["status"], created["version"], created["target"]) == ("hello", "STARTING", 1, 2)
    assert created["endpoint"] == "http://127.0.0.1:7490/hello"
    assert (created["ready"], created["replicas"], created["updating"]) == (0, [], False)
    assert api.poked == ["hello"]
    api.world.tick(4)
    shown = api.get("/v1/services/hello").json_body
    assert (shown["status"], shown["ready"], len(shown["replicas"])) == ("READY", 2, 2)


def test_a_replica_is_shown_with_where_it_runs_and_what_it_costs(api: Api) -> None:
    """Instants are ISO 8601 in UTC."""
    api.post("/v1/services", NEW)
    api.world.tick(4)
    replica = api.get("/v1/services/hello").json_body["replicas"][0]
    assert replica["id"].startswith("hello-")
    assert (replica["status"], replica["reason"], replica["provider"], replica["region"]) == (
        "READY",
        None,
        "local",
        "here",
    )
    assert (replica["instance_type"], replica["accelerators"], replica["capacity_type"]) == ("box", "", "ON_DEMAND")
    assert replica["price_usd_per_hour"] == 1.0
    assert replica["url"].startswith("http://10.0.0.")
    assert replica["created_at"].endswith("Z")
    assert START < datetime.fromisoformat(replica["ready_at"]).timestamp() <= api.world.clock.now()


def test_all_services_are_listed(api: Api) -> None:
    """By name; none is no error."""
    assert api.get("/v1/services").json_body["services"] == []
    for name in ("b", "a"):
        api.post("/v1/services", {**NEW, "name": name})
    assert [service["name"] for service in api.get("/v1/services").json_body["services"]] == ["a", "b"]


def test_terminated_replicas_stay_listed_for_an_hour(api: Api) -> None:
    """After the live ones, with the reason; then they are left out."""
    api.post("/v1/services", NEW)
    api.world.tick(4)
    lost = api.world.state("hello").replicas[0]
    del api.world.cloud.machines[lost.id]
    api.world.tick(5)
    replicas = api.get("/v1/services/hello").json_body["replicas"]
    assert [replica["status"] for replica in replicas] == ["READY", "READY", "TERMINATED"]
    assert (replicas[2]["id"], replicas[2]["reason"]) == (lost.id, "LOST")
    api.world.clock.advance(3600)
    assert len(api.get("/v1/services/hello").json_body["replicas"]) == 2


def test_a_service_has_no_part_in_the_replicas_of_an_earlier_one_of_its_name(api: Api) -> None:
    """They are another life's, and their failures are not blamed on it; what happened to them is in the events."""
    api.post("/v1/services", NEW)
    api.world.tick(4)
    api.call("DELETE", "/v1/services/hello")
    api.world.tick(20)
    assert len(api.world.store.history("hello")) == 2
    assert api.post("/v1/services", NEW).json_body["replicas"] == []
    api.world.tick(4)
    replicas = api.get("/v1/services/hello").json_body["replicas"]
    assert [replica["status"] for replica in replicas] == ["READY", "READY"]


def test_a_refused_launch_is_the_reason_for_no_replica(api: Api) -> None:
    """While a cloud refuses, the message says which refusal it was; when it no longer does, the message is the usual one."""
    api.world.cloud.refusal = NoCapacity("no box left")
    api.post("/v1/services", NEW)
    api.world.tick(3)
    assert "NO_CAPACITY: no box left" in api.get("/v1/services/hello").json_body["message"]
    api.world.cloud.refusal = None
    api.world.tick(70)
    assert api.get("/v1/services/hello").json_body["message"] == "2 of 2 ready"


@pytest.mark.parametrize("name", ["", "v1", "healthz", "Hello", "1up", "-a", "a-", "a_b", "a" * 41, "a/b", "a\n"])
def test_a_name_that_no_path_or_label_takes_is_refused(api: Api, name: str) -> None:
    """The rule is one for the edge's path, cloud labels and our own reserved word."""
    document = assert_problem(api.post("/v1/services", {**NEW, "name": name}), 422)
    assert [problem["path"] for problem in document["problems"]] == ["name"]
    assert api.world.store.service_names() == ()


def test_a_name_in_use_is_refused(api: Api) -> None:
    """409, and the first service stays as it was."""
    api.post("/v1/services", NEW)
    document = assert_problem(api.post("/v1/services", {**NEW, "yaml": YAML.replace("2\n", "1\n")}), 409)
    assert "hello" in document["detail"]
    assert api.get("/v1/services/hello").json_body["target"] == 2


def test_everything_wrong_with_a_yaml_is_told_at_once(api: Api) -> None:
    """Path, reason, hint and line of each problem, and nothing is created."""
    yaml = YAML.replace("replicas: 2", "replica: 2").replace("cpus: 2+", "acelerators: L4")
    document = assert_problem(api.post("/v1/services", {**NEW, "yaml": yaml}), 422)
    assert document["type"] == "urn:sailplane:problem:spec"
    found = {problem["path"]: problem for problem in document["problems"]}
    assert {"service.replica", "resources.acelerators"} <= found.keys()
    assert found["service.replica"]["line"] == 3
    assert "replicas" in found["service.replica"]["hint"] + found["service.replica"]["reason"]
    assert api.world.store.service_names() == ()
    assert api.poked == []


def test_an_env_without_a_value_is_named_and_can_be_given(api: Api) -> None:
    """`envs` of the request override the file's."""
    yaml = YAML + "envs:\n  HF_TOKEN: null\n"
    assert "HF_TOKEN" in assert_problem(api.post("/v1/services", {**NEW, "yaml": yaml}), 422)["detail"]
    assert api.post("/v1/services", {**NEW, "yaml": yaml, "envs": {"HF_TOKEN": "t"}}).status_code == 201
    assert dict(api.world.state("hello").service.spec.engine.envs)["HF_TOKEN"] == "t"


def test_what_nobody_offers_is_refused_with_what_is_offered(api: Api) -> None:
    """NoFeasibleOffer carries suggestions; nothing is created."""
    yaml = YAML.replace("cpus: 2+", "cpus: 512+")
    document = assert_problem(api.post("/v1/services", {**NEW, "yaml": yaml}), 422)
    assert document["type"] == "urn:sailplane:problem:no-feasible-offer"
    assert document["suggestions"]
    assert api.world.store.service_names() == ()


def test_a_cap_on_spot_prices_that_nothing_meets_is_refused_as_by_plan(api: Api) -> None:
    """The control plane says the same of a file as `plan` does: which field keeps every offer out."""
    prices = (replace(offer(), capacity_type=CapacityType.SPOT, price_usd_per_hour=0.9), offer())
    api.world.runtime = replace(api.world.runtime, market=FakeMarket(prices))
    capped = YAML.replace("cpus: 2+", "use_spot: true\n  cpus: 2+").replace("replicas: 2", CAPPED)
    document = assert_problem(api.post("/v1/services", {**NEW, "yaml": capped}), 422)
    assert "max_spot_price_ratio" in document["detail"]
    assert api.world.store.service_names() == ()


def test_a_working_directory_is_refused_where_a_cloud_could_be_chosen(api: Api) -> None:
    """A cloud's machine cannot read the owner's files: nothing is created, and the problem names the field."""
    yaml = f"{YAML}\nworkdir: /srv/engine\n"
    prices = (offer("gcp"), offer("local", usd=0.5))
    world = api.world
    world.runtime = replace(
        world.runtime, market=FakeMarket(prices), providers={"gcp": world.cloud, "local": world.cloud}
    )
    document = assert_problem(api.post("/v1/services", {**NEW, "yaml": yaml}), 422)
    assert [problem["path"] for problem in document["problems"]] == ["workdir"]
    assert api.world.store.service_names() == ()


def test_a_cloud_out_of_capacity_does_not_forbid_a_service(api: Api) -> None:
    """What is feasible but refused for the moment is tried again by the passes."""
    now = api.world.clock.now()
    refusal = Unavailable("local", "", "", "", "", Reason.NO_CAPACITY, "none left", now, now + 600)
    api.world.store.commit("hello", None, Commit(unavailable=(refusal,)))
    assert api.post("/v1/services", NEW).status_code == 201


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"yaml": ""}, "yaml"),
        ({"yaml": "#" * 65_537}, "yaml"),
        ({"envs": {"A": "x" * 32_768}}, "envs"),
        ({"envs": {"A": None}}, "envs.A"),
        ({"envs": []}, "envs"),
    ],
)
def test_what_would_not_fit_a_record_is_refused(api: Api, change: dict[str, Any], path: str) -> None:
    """Before anything is parsed or written."""
    document = assert_problem(api.post("/v1/services", {**NEW, **change}), 422)
    assert path in {problem["path"] for problem in document["problems"]}


def test_what_is_given_and_not_acted_on_is_said(api: Api) -> None:
    """Nothing is silently ignored: the creation's event lists it."""
    yaml = YAML.replace("  ports: 8080", "  ports: 8080\n  tls:\n    keyfile: key\n    certfile: certificate")
    api.post("/v1/services", {**NEW, "yaml": yaml})
    (event,) = api.get("/v1/services/hello/events?kind=service.created").json_body["events"]
    assert "service.tls" in event["message"]


def test_a_budget_below_one_machine_is_refused(api: Api) -> None:
    """Nothing could ever be launched: nothing is created, and both figures are told."""
    yaml = YAML.replace("  ports: 8080", "  ports: 8080\n  budget:\n    max_usd_per_hour: 0.5")
    answer = api.post("/v1/services", {**NEW, "yaml": yaml})
    assert answer.status_code == 422
    assert "max_usd_per_hour is $0.5, and the first choice costs $1 an hour" in answer.json_body["detail"]
    assert api.get("/v1/services").json_body["services"] == []


def test_a_budget_and_what_is_spent_of_it_is_told(api: Api, world: World) -> None:
    """In the service's message, as of now."""
    limits = "max_usd_per_hour: 2.5\n    max_usd_per_month: 700"
    yaml = YAML.replace("  ports: 8080", f"  ports: 8080\n  budget:\n    {limits}")
    api.post("/v1/services", {**NEW, "yaml": yaml})
    world.tick(3, every_s=1800)
    told = api.get("/v1/services/hello").json_body["message"]
    assert "budget: $2.00 of $2.50 an hour and $2.00 of $700.00 this month" in told


def test_an_unknown_service_is_not_found_and_its_neighbours_named(api: Api) -> None:
    """On every route below a service."""
    api.post("/v1/services", NEW)
    for method, tail, body in (
        ("GET", "", None),
        ("PUT", "", {"yaml": YAML}),
        ("DELETE", "", None),
        ("GET", "/versions", None),
        ("GET", "/events", None),
        ("GET", "/why", None),
        ("GET", "/replicas/0-1/log", None),
        ("POST", "/replicas/0-1/drain", None),
        ("POST", "/replicas/0-1/kill", None),
        ("POST", "/replicas/0-1/preempt", None),
    ):
        document = assert_problem(api.call(method, f"/v1/services/helo{tail}", body), 404)
        assert document["detail"] == "There is no service 'helo'. Did you mean 'hello'?"


def test_an_update_is_the_next_version(api: Api) -> None:
    """Immutable versions, target within the new bounds, a pass asked for."""
    api.post("/v1/services", NEW)
    api.world.tick(4)
    api.poked.clear()
    yaml = YAML.replace("run: serve", "run: serve --faster").replace("replicas: 2", "replicas: 3")
    updated = api.call("PUT", "/v1/services/hello", {"yaml": yaml}).json_body
    assert (updated["version"], updated["target"], updated["updating"]) == (2, 3, True)
    assert api.poked == ["hello"]
    versions = api.get("/v1/services/hello/versions").json_body["versions"]
    assert [(version["number"], version["yaml"]) for version in versions] == [(1, YAML), (2, yaml)]
    api.world.tick(80)
    assert api.get("/v1/services/hello").json_body["updating"] is False


def test_an_update_turns_on_what_somebody_has_turned_off(api: Api) -> None:
    """By the rollback of an upgrade, or in the cloud's console: nobody would look at the service again."""
    api.post("/v1/services", NEW)
    schedule = FakeSchedule()
    api.world.runtime = replace(api.world.runtime, schedule=schedule)
    api.call("PUT", "/v1/services/hello", {"yaml": YAML.replace("replicas: 2", "replicas: 3")})
    assert schedule.is_on


def test_an_update_that_changes_nothing_writes_nothing(api: Api) -> None:
    """A comment more means the same service."""
    api.post("/v1/services", NEW)
    before = api.world.state("hello").service.version
    response = api.call("PUT", "/v1/services/hello", {"yaml": "# a comment\n" + YAML})
    assert (response.status_code, response.json_body["version"]) == (200, 1)
    assert api.world.state("hello").service.version == before


def test_a_refused_update_leaves_the_service_alone(api: Api) -> None:
    """Neither a broken YAML nor an infeasible one takes the running version down."""
    api.post("/v1/services", NEW)
    before = api.world.state("hello")
    for yaml in ("service: [", YAML.replace("cpus: 2+", "cpus: 512+")):
        assert_problem(api.call("PUT", "/v1/services/hello", {"yaml": yaml}), 422)
    assert api.world.state("hello") == before


@pytest.mark.parametrize(("method", "status"), [("PUT", 200), ("DELETE", 202)])
def test_an_owner_who_meets_a_pass_tries_again(world: World, method: str, status: int) -> None:
    """Twice the record changes under the owner's hands, and what the pass wrote stays."""
    _interfering(world, times=2)
    api = Api(world)
    api.post("/v1/services", NEW)
    assert api.call(method, "/v1/services/hello", {"yaml": YAML.replace("2\n", "1\n")}).status_code == status
    assert world.state("hello").service.was_ready


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_an_owner_who_meets_passes_without_end_is_told(world: World, method: str) -> None:
    """Three attempts, then 412 with nothing written."""
    _interfering(world, times=100)
    api = Api(world)
    api.post("/v1/services", NEW)
    assert_problem(api.call(method, "/v1/services/hello", {"yaml": YAML.replace("2\n", "1\n")}), 412)
    assert world.state("hello").service.spec_version == 1
    assert not world.state("hello").service.deleting


def test_a_service_is_shut_down_and_then_gone(api: Api) -> None:
    """202 at once, SHUTTING_DOWN meanwhile, asking twice is fine, then 404 with its events still there."""
    api.post("/v1/services", NEW)
    api.world.tick(4)
    api.poked.clear()
    for _ in range(2):
        response = api.call("DELETE", "/v1/services/hello")
        assert (response.status_code, response.json_body["status"]) == (202, "SHUTTING_DOWN")
    assert api.poked == ["hello", "hello"]
    assert_problem(api.call("PUT", "/v1/services/hello", {"yaml": YAML.replace("2\n", "1\n")}), 422)
    assert_problem(api.post("/v1/services", NEW), 409)
    api.world.tick(20)
    assert api.world.cloud.machines == {}
    assert_problem(api.get("/v1/services/hello"), 404)
    kinds = [event["kind"] for event in api.get("/v1/services/hello/events").json_body["events"]]
    assert (kinds[0], kinds[-1]) == ("service.created", "service.deleted")
    assert kinds.count("service.deleting") == 1
    assert api.get("/v1/services/hello/events?kind=nothing").json_body["events"] == []


def test_events_are_filtered_and_bounded(api: Api) -> None:
    """By instant, by the start of their kind, the newest so many."""
    api.post("/v1/services", NEW)
    api.world.tick(4)
    every = api.get("/v1/services/hello/events").json_body["events"]
    assert [event["at"] for event in every] == sorted(event["at"] for event in every)
    of_replicas = api.get("/v1/services/hello/events?kind=replica.").json_body["events"]
    assert of_replicas == [event for event in every if event["kind"].startswith("replica.")] != []
    assert api.get("/v1/services/hello/events?limit=1").json_body["events"] == every[-1:]
    after = every[0]["at"]
    later = api.get(f"/v1/services/hello/events?after={after}").json_body["events"]
    assert later == [event for event in every if event["at"] > after]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "after=yesterday", "after=2026-11-22", "kind=A%20B", "lim=1"]
)
def test_a_wrong_query_is_refused(api: Api, query: str) -> None:
    """An instant without a zone is ambiguous, an unknown parameter a typing error."""
    api.post("/v1/services", NEW)
    document = assert_problem(api.get(f"/v1/services/hello/events?{query}"), 422)
    assert [problem["path"] for problem in document["problems"]] == [query.partition("=")[0]]


def test_why_says_what_would_be_done_and_what_was(api: Api) -> None:
    """Now, the last decisions with their reasons, and the refusals that are remembered; asking changes nothing."""
    api.post("/v1/services", NEW)
    now = api.world.clock.now()
    refusal = Unavailable("local", "here", "a", "box", "", Reason.NO_CAPACITY, "none left", now, now + 60)
    api.world.store.commit("hello", None, Commit(unavailable=(refusal,)))
    why = api.get("/v1/services/hello/why").json_body
    assert any(line.startswith("optimize: hello-") for line in why["now"])
    assert [decision["kind"] for decision in why["decisions"]] == ["service.created"]
    (shown,) = why["unavailable"]
    assert (shown["zone"], shown["reason"], shown["message"]) == ("a", "NO_CAPACITY", "none left")
    assert not api.world.cloud.started
    assert api.world.state("hello").replicas == ()
