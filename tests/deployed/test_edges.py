"""Edges on Google's and Azure's functions: the real SDKs against boxes that hold them to the clouds' contracts."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner, Result

from chalicelib.errors import SailplaneError
from infra.edge import build
from sailplane.cli import cli
from sailplane.deploy.edges.edge import EdgeFailed, Edges, State, Wanted, environment
from sailplane.local.home import Home, Running
from sailplane.local.processes import ProcessId
from tests.clouds.edges.line import Line
from tests.edge.fakes import BEARER, TOKEN, FakeControl, table
from tests.edge.platforms.runtimes import PLATFORMS

pytestmark = pytest.mark.deployed

CONTROL = "https://control.example"
ELSEWHERE = {"gcp": "europe-west4", "azure": "westeurope"}
HEADERS = {name.decode(): value.decode() for name, value in BEARER.items()}


@dataclass
class Rig:
    """One cloud in a box and the edges of a deployment on it, by what both clouds have in common."""

    cloud: str
    region: str
    box: Any
    edges_of: Callable[[str], Edges]

    @property
    def edges(self) -> Edges:
        return self.edges_of("acme-prod")

    @property
    def line(self) -> Line:
        line: Line = self.box.line
        return line

    def wanted(self, archive: bytes = b"one", control_url: str = CONTROL) -> Wanted:
        return Wanted(archive, environment(control_url, TOKEN, self.cloud, self.region))

    def deploy(self, archive: bytes = b"one") -> Any:
        return self.edges.deploy(self.region, self.wanted(archive), quietly)

    def running(self) -> dict[str, tuple[bytes, dict[str, str]]]:
        """What runs: for each function its zip and its environment."""
        if self.cloud == "gcp":
            box = self.box
            return {
                name: (box.artefact(name), function["serviceConfig"]["environmentVariables"])
                for name, function in box.functions.items()
                if box.is_public(name)
            }
        return {
            name: (self.box.artefacts[name], self.box.settings(name))
            for name in self.box.artefacts
            if name in self.box.apps
        }

    def archives(self) -> list[bytes]:
        return [archive for archive, _ in self.running().values()]


def quietly(_text: str) -> None:
    """Nobody watches."""


@contextmanager
def gcp() -> Iterator[Rig]:
    from sailplane.deploy.edges.gcp import GcpEdges  # noqa: PLC0415 the SDK, which a collecting worker need not load
    from tests.clouds.edges.gcp import PROJECT, FunctionsBox  # noqa: PLC0415 as above

    with FunctionsBox().running() as box:

        def edges_of(deployment: str) -> Edges:
            return GcpEdges(
                deployment=deployment, project=PROJECT, endpoint_url=box.endpoint_url, pause=lambda _s: None
            )

        yield Rig("gcp", "us-central1", box, edges_of)


@contextmanager
def azure() -> Iterator[Rig]:
    from sailplane.deploy.edges.azure import AzureEdges  # noqa: PLC0415 as above
    from tests.clouds.edges.azure import GROUP, SUBSCRIPTION, AppsBox  # noqa: PLC0415 as above

    with AppsBox().running() as box:

        def edges_of(deployment: str) -> Edges:
            return AzureEdges(
                deployment=deployment,
                subscription=SUBSCRIPTION,
                resource_group=GROUP,
                endpoint_url=box.endpoint_url,
                pause=lambda _s: None,
                poll_s=0.0,
            )

        yield Rig("azure", "eastus", box, edges_of)


RIGS = {"gcp": gcp, "azure": azure}


@pytest.fixture(params=list(RIGS))
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with RIGS[request.param]() as made:
        yield made


def test_what_was_uploaded_routes(rig: Rig, tmp_path: Path) -> None:
    """The zip that the cloud was given, in the environment it was given, run by the cloud's own runtime: a redirect."""
    control = FakeControl()
    control.table = table(("hello", "round_robin", "READY", ["http://198.51.100.1"]))
    with control.running():
        archive = build(rig.cloud, tmp_path).read_bytes()
        found = rig.edges.deploy(rig.region, rig.wanted(archive, control.url), quietly)
        assert (found.state, found.region) == (State.READY, rig.region)
        assert found.url.startswith("https://")
        [(uploaded, env)] = rig.running().values()
        with zipfile.ZipFile(io.BytesIO(uploaded)) as content:
            content.extractall(tmp_path / "unpacked")
        with PLATFORMS[rig.cloud](tmp_path / "unpacked", env) as call:
            answer = call("POST", "/hello/v1/chat/completions?x=%2F", HEADERS, b"{}")
    assert answer.status == 307
    assert answer.headers["location"].startswith("http://198.51.100.1/")
    assert answer.headers["location"].endswith("/v1/chat/completions?x=%2F")
    assert env["SAILPLANE_LOCATION"] == f"{rig.cloud}/{rig.region}"
    assert "hello" in control.recorded


def test_an_edge_is_found_until_it_is_removed(rig: Rig) -> None:
    """By find and in the list, as of its deployment only; removed, nothing of it is left in the cloud."""
    assert rig.edges.find(rig.region) is None
    assert rig.edges.edges() == ()
    found = rig.deploy()
    assert rig.edges.find(rig.region) == found
    assert rig.edges.edges() == (found,)
    assert rig.edges.is_current(found, rig.wanted())
    assert rig.edges_of("acme-test").edges() == ()
    assert rig.edges.remove(rig.region, quietly) is True
    assert rig.box.is_empty()
    assert rig.edges.remove(rig.region, quietly) is False


def test_regions_do_not_know_each_other(rig: Rig) -> None:
    """Two edges of one deployment: both are listed, and what is removed in one region is not missed in the other."""
    here, there = rig.deploy(), rig.edges.deploy(ELSEWHERE[rig.cloud], rig.wanted(b"two"), quietly)
    assert {each.region for each in rig.edges.edges()} == {here.region, there.region}
    rig.edges.remove(here.region, quietly)
    assert rig.edges.edges() == (there,)
    assert rig.archives() == [b"two"]
    if rig.cloud == "gcp":  # both are the same service account
        [function] = rig.box.functions.values()
        assert function["serviceConfig"]["serviceAccountEmail"] in rig.box.accounts
    rig.edges.remove(there.region, quietly)
    assert rig.box.is_empty()


def test_what_changed_is_brought_up_to_date(rig: Rig) -> None:
    """Another zip, or another environment, is not current; deployed, it replaces the old one under the same address."""
    first = rig.deploy(b"one")
    assert not rig.edges.is_current(first, rig.wanted(b"two"))
    assert not rig.edges.is_current(first, rig.wanted(b"one", "https://elsewhere.example"))
    second = rig.deploy(b"two")
    assert (second.url, second.name) == (first.url, first.name)
    assert second.content != first.content
    assert rig.archives() == [b"two"]
    assert rig.edges.is_current(second, rig.wanted(b"two"))


def calls_of(rig: Rig, act: Callable[[], object]) -> int:
    """How many calls `act` makes when nothing goes wrong."""
    rig.line.mend()
    act()
    return rig.line.calls


@pytest.mark.parametrize("how", ["cut_before", "cut_after"])
def test_interrupted_anywhere_and_run_again(rig: Rig, how: str) -> None:
    """Killed at each of its calls, before it reaches the cloud or after: the next run ends with one edge that serves."""
    count = calls_of(rig, rig.deploy)
    rig.edges.remove(rig.region, quietly)
    for call in range(1, count + 1):
        rig.line.mend()
        setattr(rig.line, how, call)
        with pytest.raises(SailplaneError):
            rig.deploy(b"one")
        rig.line.mend()
        found = rig.deploy(b"two")
        assert rig.edges.is_current(found, rig.wanted(b"two")), f"call {call}"
        assert rig.archives() == [b"two"]
        rig.edges.remove(rig.region, quietly)
        assert rig.box.is_empty(), f"call {call}"


@pytest.mark.parametrize("how", ["cut_before", "cut_after"])
def test_interrupted_anywhere_and_removed(rig: Rig, how: str) -> None:
    """What a killed run left behind is listed if it is anything, and removed without having been finished."""
    count = calls_of(rig, rig.deploy)
    rig.edges.remove(rig.region, quietly)
    for call in range(1, count + 1):
        rig.line.mend()
        setattr(rig.line, how, call)
        with pytest.raises(SailplaneError):
            rig.deploy()
        rig.line.mend()
        assert bool(rig.edges.edges()) is not rig.box.is_empty(), f"call {call}"
        rig.edges.remove(rig.region, quietly)
        assert rig.box.is_empty(), f"call {call}"


def test_removal_interrupted_anywhere(rig: Rig) -> None:
    """And run again: nothing is left."""
    rig.deploy()
    count = calls_of(rig, lambda: rig.edges.remove(rig.region, quietly))
    for call in range(1, count + 1):
        rig.line.mend()
        rig.deploy()
        rig.line.mend()
        rig.line.cut_after = call
        with pytest.raises(SailplaneError):
            rig.edges.remove(rig.region, quietly)
        rig.line.mend()
        rig.edges.remove(rig.region, quietly)
        assert rig.box.is_empty(), f"call {call}"


def test_what_is_refused_leaves_nothing(rig: Rig) -> None:
    """Each call in turn is refused for lack of rights: nothing that was made stays."""
    count = calls_of(rig, rig.deploy)
    rig.edges.remove(rig.region, quietly)
    refused = 0
    for call in range(1, count + 1):
        rig.line.mend()
        rig.line.refused = call
        try:
            rig.deploy()
        except EdgeFailed:
            refused += 1
            assert rig.box.is_empty(), f"call {call}"
        else:  # Azure's SCM site is asked again: it refuses everybody while it starts
            assert rig.archives() == [b"one"]
            rig.edges.remove(rig.region, quietly)
    assert refused >= count - 3


def test_what_passes_is_waited_for(rig: Rig) -> None:
    """Each call in turn is answered by 503 once: it is made again, or, where it may not be, all is taken back."""
    count = calls_of(rig, rig.deploy)
    rig.edges.remove(rig.region, quietly)
    failed = 0
    for call in range(1, count + 1):
        rig.line.mend()
        rig.line.busy = call
        try:
            assert rig.deploy().state is State.READY
        except EdgeFailed:
            failed += 1
            assert rig.box.is_empty(), f"call {call}"
        rig.edges.remove(rig.region, quietly)
    assert failed <= {"gcp": 1, "azure": 0}[rig.cloud]  # Google's create: the first may have been taken


def test_a_refused_update_leaves_what_serves(rig: Rig) -> None:
    """Each call of an update in turn is refused: there is an edge all the time, and the next run brings it up to date."""
    rig.deploy(b"one")
    count = calls_of(rig, lambda: rig.deploy(b"two"))
    for call in range(1, count + 1):
        rig.deploy(b"one")
        rig.line.mend()
        rig.line.refused = call
        try:
            rig.deploy(b"two")
        except EdgeFailed:
            assert len(rig.archives()) == 1, f"call {call}"
        rig.line.mend()
        assert rig.edges.is_current(rig.deploy(b"two"), rig.wanted(b"two"))


def test_a_build_that_fails_leaves_nothing(rig: Rig) -> None:
    """The cloud's own words are shown, and the function that cannot serve is taken away again."""
    rig.box.build_error = "Build failed: no such thing as flask"
    with pytest.raises(EdgeFailed, match=r"no such thing as flask.* Nothing was left behind"):
        rig.deploy()
    assert rig.box.is_empty()


def test_a_build_that_fails_does_not_stop_an_edge(rig: Rig) -> None:
    """The old one serves; it does not count as up to date, so that the next run tries again."""
    rig.deploy(b"one")
    rig.box.build_error = "Build failed: out of luck"
    with pytest.raises(EdgeFailed, match="out of luck"):
        rig.deploy(b"two")
    found = rig.edges.find(rig.region)
    assert found is not None
    assert found.state is State.UNFINISHED
    assert not rig.edges.is_current(found, rig.wanted(b"two"))
    assert len(rig.running()) == 1
    rig.box.build_error = ""
    assert rig.edges.is_current(rig.deploy(b"two"), rig.wanted(b"two"))


def test_an_interrupted_update_is_still_an_edge(rig: Rig) -> None:
    """Broken off at each call, and then a build that fails: what served before all of that is not taken back."""
    rig.deploy(b"one")
    count = calls_of(rig, lambda: rig.deploy(b"two"))
    for call in range(1, count):
        rig.line.mend()
        rig.line.cut_after = call
        with pytest.raises(SailplaneError):
            rig.deploy(b"three")
        rig.line.mend()
        rig.box.build_error = "Build failed: out of luck"
        with pytest.raises(EdgeFailed, match="stays"):
            rig.deploy(b"four")
        assert len(rig.running()) == 1, f"call {call}"
        rig.box.build_error = ""
        rig.deploy(b"two")


def test_the_token_is_in_the_environment_and_nowhere_else(rig: Rig) -> None:
    """Not in labels, tags or names, not in what is shown, nor in an error of a cloud that repeats what it was sent."""
    said: list[str] = []
    found = rig.edges.deploy(rig.region, rig.wanted(), said.append)
    held = rig.box.functions if rig.cloud == "gcp" else rig.box.apps
    [thing] = held.values()
    outside = {name: value for name, value in thing.items() if name not in ("serviceConfig", "properties")}
    assert TOKEN not in json.dumps(outside) + repr(found) + "".join(said)
    assert TOKEN in json.dumps(thing)
    broken = Wanted(b"one", {**rig.wanted().env, "SAILPLANE_LOCATION": TOKEN})
    assert TOKEN not in repr(broken)
    rig.box.build_error = f"Invalid value: '{TOKEN}'"
    with pytest.raises(EdgeFailed) as caught:
        rig.edges.deploy(rig.region, broken, said.append)
    assert TOKEN not in str(caught.value)


def test_what_is_not_ours_is_not_touched(rig: Rig) -> None:
    """A function of the same name that lacks our label: neither changed nor removed."""
    rig.deploy()
    held = rig.box.functions if rig.cloud == "gcp" else rig.box.apps
    [thing] = held.values()
    thing["labels" if rig.cloud == "gcp" else "tags"] = {"owner": "somebody"}
    before = json.dumps(thing)
    for act in (rig.deploy, lambda: rig.edges.remove(rig.region, quietly)):
        with pytest.raises(EdgeFailed, match="is not Sailplane's"):
            act()
    assert json.dumps(next(iter(held.values()))) == before


def test_nothing_is_kept_warm(rig: Rig) -> None:
    """No call asks for an instance that is there while nobody asks, which would be paid for."""
    rig.deploy()
    sent = json.dumps([request.body for request in rig.box.requests])
    assert "alwaysReady" not in sent
    assert '"minInstanceCount": ' not in sent.replace('"minInstanceCount": 0', "")


def test_who_may_do_what_is_as_little_as_can_be(rig: Rig) -> None:
    """Google: an account of its own, with no role. Azure: no passwords for uploads, no public blobs, TLS only."""
    rig.deploy()
    if rig.cloud == "gcp":
        [(name, function)] = rig.box.functions.items()
        assert function["serviceConfig"]["serviceAccountEmail"] in rig.box.accounts
        assert next(iter(rig.box.policies.values()))["bindings"] == [
            {"role": "roles/run.invoker", "members": ["allUsers"]}
        ]
        assert rig.box.is_public(name)
    else:
        assert list(rig.box.passwords.values()) == [{"scm": False, "ftp": False}]
        [account] = rig.box.accounts.values()
        assert account["properties"]["allowBlobPublicAccess"] is False
        [app] = rig.box.apps.values()
        assert app["properties"]["httpsOnly"] is True


def test_new_things_are_not_known_everywhere_at_once(rig: Rig) -> None:
    """Google's service account, Azure's SCM site: asked for again until they are."""
    if rig.cloud == "gcp":
        rig.box.unknown_account = 5
    else:
        rig.box.scm_sleeps = 5
    assert rig.deploy().state is State.READY


def test_a_stranger_is_not_let_in(rig: Rig) -> None:
    """The boxes want the credentials, and what they do not know they refuse."""
    base = "http://" + rig.box.address
    for url, headers, status in (
        (f"{base}/v2/projects/boxed/locations/us-central1/functions/x", {}, 401),
        (f"{base}/nowhere", {"Authorization": f"Bearer {rig.box.endpoint_url[7:].partition('@')[0]}"}, 404),
    ):
        with pytest.raises(OSError, match=str(status)):
            urlopen(Request(url, headers=headers))  # noqa: S310 our own box


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Of a local stack that runs, as far as files tell."""
    home = Home(tmp_path / "home")
    home.make()
    this = ProcessId.of(os.getpid())
    home.publish(Running(this, this, api_url="http://127.0.0.1:7480", edge_url="http://127.0.0.1:7490"))
    return home


def run(rig: Rig, home: Home, command: str, *arguments: str) -> Result:
    """`sailplane edge …` at the box."""
    place = ["--cloud", rig.cloud, "--location", rig.region] if command != "list" else []
    where = {
        "gcp": ["--gcp-project", "boxed", "--gcp-endpoint", rig.box.endpoint_url],
        "azure": [
            *("--azure-subscription", "00000000-0000-0000-0000-000000000001"),
            *("--azure-resource-group", "sailplane", "--azure-endpoint", rig.box.endpoint_url),
        ],
    }[rig.cloud]
    env = {"SAILPLANE_HOME": str(home.root)}
    return CliRunner().invoke(cli, ["edge", command, *place, *where, *arguments], env=env)


def test_from_the_command_line(rig: Rig, home: Home) -> None:
    """The plan with its price, the edge, nothing to do the second time, the list, nothing left; never the token."""
    rig.box.looks = 0
    asked = run(rig, home, "deploy")
    assert (asked.exit_code, "Add --yes" in asked.stderr) == (2, True)
    assert rig.box.is_empty()
    made = run(rig, home, "deploy", "--yes")
    assert made.exit_code == 0, made.output
    assert "While nobody asks it: $0.00 a month" in made.stderr
    assert f"{rig.cloud}/{rig.region}: serves." in made.stderr
    [(archive, env)] = rig.running().values()
    assert zipfile.is_zipfile(io.BytesIO(archive))
    assert env["SAILPLANE_CONTROL_URL"] == "http://127.0.0.1:7480"
    assert env["SAILPLANE_ROUTER_TOKEN"] == home.secrets().router_token
    written = len([each for each in rig.box.requests if each_method(each) not in ("GET", "HEAD")])
    again = run(rig, home, "deploy", "--yes", "--json")
    assert json.loads(again.stdout)["changed"] is False
    assert len([each for each in rig.box.requests if each_method(each) not in ("GET", "HEAD")]) == written
    listed = run(rig, home, "list")
    assert [line.split()[:3] for line in listed.stdout.splitlines()[1:]] == [[rig.cloud, rig.region, "ready"]]
    removed = run(rig, home, "remove", "--yes", "--json")
    assert json.loads(removed.stdout)["removed"] is True
    assert rig.box.is_empty()
    assert "has no edge there" in run(rig, home, "list").stdout
    for result in (made, again, listed, removed):
        assert home.secrets().router_token not in result.output


def each_method(request: Any) -> str:
    return str(getattr(request, "http_method", None) or request.method)


def test_a_cloud_cannot_reach_this_machine(rig: Rig, home: Home) -> None:
    """Unless the cloud stands on it too: whoever has a tunnel says so."""
    where = {"gcp": ["--gcp-project", "p"], "azure": ["--azure-subscription", "s", "--azure-resource-group", "g"]}
    arguments = ["edge", "deploy", "--cloud", rig.cloud, "--location", rig.region, *where[rig.cloud]]
    result = CliRunner().invoke(cli, arguments, env={"SAILPLANE_HOME": str(home.root)})
    assert result.exit_code == 2
    assert "No cloud can reach the control plane on this machine" in result.stderr
    result = CliRunner().invoke(cli, [*arguments, "--control-url", "ftp://x"], env={"SAILPLANE_HOME": str(home.root)})
    assert "expected http(s)://host" in result.stderr


def test_public_access_that_was_taken_away_is_given_back() -> None:
    """An edge that nobody may ask is unfinished, however well it was built."""
    with gcp() as rig:
        rig.deploy()
        rig.box.policies.clear()
        found = rig.edges.find(rig.region)
        assert found is not None
        assert found.state is State.UNFINISHED
        assert rig.deploy().state is State.READY


def test_boxes_are_strict() -> None:
    """What the contracts do not have is refused in the cloud's words, before anything is done."""
    with gcp() as rig:
        sent = ask(rig, "POST", "/v1/projects/boxed/serviceAccounts", {"accountId": "sailplane", "roles": ["owner"]})
        assert "Unknown name \"roles\" at 'resource'" in sent
        assert rig.box.is_empty()
    with azure() as rig:
        path = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/sailplane/providers/Microsoft.Web"
        plan = {"location": "eastus", "sku": {"name": "FC1", "tier": "FlexConsumption"}, "properties": {"linux": True}}
        sent = ask(rig, "PUT", f"{path}/serverfarms/x?api-version=2025-05-01", plan)
        assert "Could not find member 'linux' on object" in sent
        assert rig.box.is_empty()


def ask(rig: Rig, method: str, path: str, body: Mapping[str, Any]) -> str:
    """The refusal of a request that no SDK would send."""
    token = rig.box.endpoint_url[7:].partition("@")[0]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = Request(f"http://{rig.box.address}{path}", json.dumps(body).encode(), headers, method=method)
    with pytest.raises(OSError, match="400") as refused:
        urlopen(request)  # noqa: S310 our own box
    return str(json.loads(refused.value.read())["error"]["message"])  # type: ignore[attr-defined]  # an HTTPError
