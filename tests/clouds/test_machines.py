"""A machine boots from its user data, becomes a replica, and goes without a trace."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from chalicelib import identity, lifecycle, passes
from chalicelib.bootstrap import SystemClock
from chalicelib.model import (
    EnginePhase,
    EngineSpec,
    LaunchRequest,
    ProbeResult,
    ProbeSpec,
    Replica,
    ReplicaStatus,
    Requirement,
    ScalingSpec,
)
from chalicelib.ports import Commit, Settings
from chalicelib.prober import HttpProber
from chalicelib.providers import boot
from chalicelib.providers.local.processes import processes_of
from edge_router.grants import NO_KEY, ONE, Grants, Use
from edge_router.quotas import Share
from edge_router.sealing import secrets
from edge_router.table import Replica as Routed
from tests.agent.running import ENGINE
from tests.api.serving import served
from tests.clouds.machines import Machines
from tests.fakes import FakeClock, FakeCloud, World, offer, spec
from tests.waiting import until

KEY = "agent-key-of-the-tests"
ROUTER_TOKEN = "router-token-of-the-tests"
SECRET = "password-of-the-service"


@dataclass
class Plane:
    """A control plane that machines can reach, and one replica's record in it."""

    world: World
    replica: Replica
    prober: HttpProber

    @property
    def cloud(self) -> str:
        return self.replica.offer.location.provider

    def user_data(self) -> str:
        settings = self.world.runtime.settings
        service = self.world.state().service.spec
        request = LaunchRequest(
            self.replica,
            service.engine,
            agent_token=identity.agent_token(KEY, self.replica.id, self.replica.boot_nonce),
            boot_token=identity.boot_token(KEY, self.replica.id, self.replica.boot_nonce),
            drain_timeout_s=service.drain_timeout_s,
        )
        return boot.user_data(self.cloud, settings.control_url, request)

    def probe(self, address: str) -> ProbeResult:
        replica = replace(self.replica, url=boot.agent_url(address))
        return self.prober.probe([(replica, ProbeSpec(path="/headers", timeout_s=5))], ScalingSpec())[replica.id]

    def grant(self, method: str, path: str) -> str:
        """As a router writes it."""
        to = Routed(self.replica.id, boot.agent_url("machine"), self.replica.boot_nonce)
        use = Use("svc", method.encode(), path.encode())
        grants = Grants(secrets(ROUTER_TOKEN))
        return grants.issue(to, use, key_id=NO_KEY, share=Share(), scope=ONE, now=time.time()).decode()

    def end_replica(self) -> None:
        replica = self.world.replicas()[0]
        gone = lifecycle.moved(replica, ReplicaStatus.TERMINATING, 0.0)
        self.world.store.commit("svc", None, Commit(replicas=(gone,)))


@pytest.fixture(params=["gcp"])
def plane(request: pytest.FixtureRequest) -> Iterator[Plane]:
    clock = FakeClock(SystemClock().now())
    world = World(cloud=FakeCloud(clock, name=request.param))
    engine = EngineSpec(
        port=8080, run=f"echo engine of $SAILPLANE_REPLICA_ID; {ENGINE}  # $SAILPLANE_PORT", envs=(("TOKEN", SECRET),)
    )
    service = world.create("svc", replace(spec(), engine=engine))
    replica = lifecycle.new_replica(
        service,
        slot=0,
        generation=1,
        offer=offer(request.param),
        requirement=Requirement(),
        boot_nonce="n0",
        now=clock.now(),
    )
    world.store.commit("svc", None, Commit(replicas=(replica,)))
    prober = HttpProber(KEY, SystemClock())
    with socket.create_server(("127.0.0.1", 0)) as listener, closing(prober):
        control_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        world.runtime = replace(
            world.runtime, settings=Settings(agent_key=KEY, router_tokens=(ROUTER_TOKEN,), control_url=control_url)
        )
        world.runtime = replace(world.runtime, poke=lambda name: _run_passes(world, name))
        with served(listener, world.runtime):
            yield Plane(world, replica, prober)


def _run_passes(world: World, name: str) -> None:
    """What a function does that is woken for a service."""
    passes.tick(world.runtime, frozenset({name}))


class Emulated:
    """The metadata service of one machine, of all three clouds at once: its address, when it has one, and its notice."""

    address = ""
    taken = False

    def __call__(  # noqa: PLR0911 - a line for each path
        self, method: str, path: str, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        body = self.address.encode()
        path = path.partition("?")[0]
        match method, path:
            case "PUT", "/latest/api/token" if "x-aws-ec2-metadata-token-ttl-seconds" in headers:
                return 200, {}, b"token-of-imds"
            case "GET", "/latest/meta-data/local-ipv4" if headers.get("x-aws-ec2-metadata-token") == "token-of-imds":
                return 200, {}, body
            case "GET", "/computeMetadata/v1/instance/network-interfaces/0/ip" if "metadata-flavor" in headers:
                return 200, {}, body
            case "GET", "/metadata/instance/network/interface/0/ipv4/ipAddress/0/privateIpAddress" if (
                "metadata" in headers
            ):
                return 200, {}, body
            case "GET", "/latest/meta-data/spot/instance-action" if self.taken:
                at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 120))
                return 200, {}, json.dumps({"action": "terminate", "time": at}).encode()
            case "GET", "/computeMetadata/v1/instance/preempted":
                return 200, {"ETag": "1"}, str(self.taken).upper().encode()
            case "GET", "/metadata/scheduledevents":
                event = {"EventType": "Preempt", "EventStatus": "Scheduled", "NotBefore": formatdate(usegmt=True)}
                return 200, {}, json.dumps({"Events": [event] if self.taken else []}).encode()
        return 404, {}, b""


def _booted(machines: Machines, plane: Plane, machine_id: str = "m-1", *, taken: bool = False) -> str:
    metadata = Emulated()
    metadata.taken = taken
    metadata.address = machines.boot(machine_id, plane.user_data(), metadata)
    return metadata.address


EACH_CLOUD = pytest.mark.parametrize("plane", ["aws", "gcp", "azure"], indirect=True)


@EACH_CLOUD
def test_a_machine_becomes_the_replica(machines: Machines, plane: Plane, tmp_path: Path) -> None:
    """From user data to a ready engine behind the agent, with the right identity; destroyed, no process is left."""
    address = _booted(machines, plane)
    until(lambda: plane.probe(address).ready)
    seen = plane.probe(address)
    assert (seen.identified, seen.engine) == (True, EnginePhase.RUNNING)
    assert httpx.get(f"{boot.agent_url(address)}/headers").status_code == 401
    assert httpx.get(f"{boot.agent_url(address)}/~{plane.grant('GET', '/headers')}/headers").status_code == 200
    until(lambda: f"engine of {plane.replica.id}" in machines.console("m-1"))
    assert machines.is_running("m-1")

    machines.destroy("m-1")
    assert not processes_of(tmp_path / "machines" / "m-1", None)
    assert not plane.probe(address).identified
    assert not machines.is_running("m-1")
    assert SECRET not in machines.console("m-1")
    machines.destroy("m-1")


@EACH_CLOUD
def test_a_notice_reaches_the_control_plane(machines: Machines, plane: Plane) -> None:
    """From the machine's metadata through its agent; the passes run because of it, long before they would by themselves."""
    address = _booted(machines, plane, taken=True)
    until(lambda: plane.world.cloud.started)
    until(lambda: plane.probe(address).interruption_at)


def test_a_second_machine_with_the_same_ticket_switches_itself_off(machines: Machines, plane: Plane) -> None:
    """Whoever copies the user data comes too late, and is not kept at the owner's cost."""
    address = _booted(machines, plane)
    until(lambda: plane.probe(address).identified)
    _booted(machines, plane, "m-2")
    until(lambda: not machines.is_running("m-2"))
    assert "Another machine has booted" in machines.console("m-2")
    assert plane.probe(address).identified


def test_a_machine_that_comes_too_late_switches_itself_off(machines: Machines, plane: Plane, tmp_path: Path) -> None:
    """Its replica was given up meanwhile."""
    plane.end_replica()
    _booted(machines, plane)
    until(lambda: not machines.is_running("m-1"))
    assert "HTTP" not in machines.console("m-1")
    assert not (tmp_path / "machines" / "m-1" / "opt").exists()
    until(lambda: not processes_of(tmp_path / "machines" / "m-1", None))


def test_a_machine_whose_agent_has_died_switches_itself_off(machines: Machines, plane: Plane, tmp_path: Path) -> None:
    """It would only cost; the engine and its children go too."""
    address = _booted(machines, plane)
    until(lambda: plane.probe(address).ready)
    members = processes_of(tmp_path / "machines" / "m-1", None)
    next(each for each in members if "agent.pyz" in " ".join(each.cmdline())).kill()
    until(lambda: not machines.is_running("m-1"))
    until(lambda: not processes_of(tmp_path / "machines" / "m-1", None))


def test_an_engine_on_the_agents_port_is_told_so(machines: Machines, plane: Plane) -> None:
    """The one port that is open is the agent's; the engine's owner learns it from the replica's error."""
    engine = EngineSpec(port=boot.AGENT_PORT, run="python -m http.server")
    plane.world.update(replace(spec(), engine=engine))
    plane.world.store.commit("svc", None, Commit(replicas=(replace(plane.world.replicas()[0], spec_version=2),)))
    address = _booted(machines, plane)
    until(lambda: plane.probe(address).engine is EnginePhase.EXITED)
    assert f"port {boot.AGENT_PORT} of this machine is taken" in plane.probe(address).log_tail


def test_machines_have_addresses_of_their_own(machines: Machines, tmp_path: Path) -> None:
    """Also among hypervisors, which run side by side when tests do."""
    other = Machines(tmp_path / "others")
    with closing(other):
        addresses = [each.boot(f"m-{n}", "", Emulated()) for each in (machines, other) for n in range(5)]
    assert len(set(addresses)) == 10
    assert len({address.rpartition(".")[0] for address in addresses}) == 2
    assert machines.is_running("m-0"), "a machine without a program is still a machine"


def test_a_machine_sees_its_own_metadata_only(machines: Machines) -> None:
    """Under an unguessable path, and as long as it runs."""
    machines.boot("m-1", 'echo "$SAILPLANE_METADATA_URL"', lambda *_: (200, {}, b"mine"))
    url = until(lambda: machines.console("m-1").strip())
    assert httpx.get(f"{url}/anything").text == "mine"
    assert httpx.get(f"{url[:-1]}/anything").status_code == 404
    machines.destroy("m-1")
    assert httpx.get(f"{url}/anything").status_code == 404
