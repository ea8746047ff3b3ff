"""The local provider: real processes that are started once, found again, and gone when they are gone."""

from __future__ import annotations

import http.client
import json
import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from chalicelib.errors import LaunchRefused, NoCapacity, NotFound
from chalicelib.model import CapacityType, EngineSpec, Instance, InstanceStatus, LaunchRequest
from chalicelib.providers.local import processes, workdir
from chalicelib.providers.local.compute import LocalProvider
from chalicelib.providers.local.machine import Machine
from chalicelib.providers.local.offers import offers
from tests.fakes import FakeClock
from tests.providers.conftest import LocalCloud
from tests.providers.contract import KeepsLog, ProviderContract, launch_request
from tests.providers.crashing_launch import REPLICA_ID
from tests.waiting import until


class TestLocal(ProviderContract, KeepsLog):
    """The contract, with real agents."""


def test_ten_launches_at_once_start_one_process(thin_cloud: LocalCloud) -> None:
    """Whoever asks, however often: one machine, and the same one for all."""
    request = launch_request(thin_cloud.offer)
    callers = [thin_cloud.another_process() for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        instances = list(pool.map(lambda caller: caller.launch(request), callers))
    assert len(set(instances)) == 1
    assert len(thin_cloud.agents_of(request.replica.id)) == 1
    assert _lives(thin_cloud, request.replica.id) == 1


def test_a_launch_killed_before_any_effect_is_completed_by_the_next(thin_cloud: LocalCloud) -> None:
    """SIGKILL before each of its effects in turn; launching again ends with exactly one agent that ever lived."""
    command = [sys.executable, "-m", "tests.providers.crashing_launch", str(thin_cloud.root), thin_cloud.python]
    drill = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    effects = int(drill.stdout)
    assert effects > 15

    def complete(effect: int) -> LocalCloud:
        cloud = thin_cloud.at(thin_cloud.root / str(effect))
        assert cloud.provider.launch(launch_request(cloud.offer, REPLICA_ID)).status is InstanceStatus.RUNNING
        return cloud

    with ThreadPoolExecutor(4) as pool:
        clouds = list(pool.map(complete, range(1, effects + 1)))

    # An agent of the killed launch that comes second takes a second to leave.
    until(lambda: all(len(cloud.agents_of(REPLICA_ID)) == 1 for cloud in clouds))
    assert [_lives(cloud, REPLICA_ID) for cloud in clouds] == [1] * effects
    assert {len(cloud.provider.list_instances()) for cloud in clouds} == {1}
    assert {path.name for cloud in clouds for path in cloud.root.iterdir()} == {
        ".admission.lock",
        ".listing.lock",
        REPLICA_ID,
    }


def test_a_machine_that_died_does_not_live_again(thin_cloud: LocalCloud) -> None:
    """Launching again after the agent's death returns the dead machine: the replacement is another replica."""
    request = launch_request(thin_cloud.offer)
    thin_cloud.provider.launch(request)
    os.kill(thin_cloud.agents_of(request.replica.id)[0], signal.SIGKILL)
    until(lambda: thin_cloud.is_dead(request.replica.id))

    again = thin_cloud.provider.launch(request)

    assert (again.status, again.url, again.preempted) == (InstanceStatus.GONE, "", False)
    assert _lives(thin_cloud, request.replica.id) == 1


def test_a_machine_given_up_before_it_began_never_begins(thin_cloud: LocalCloud) -> None:
    """Terminate between directory and process; an agent that starts later leaves at once."""
    request = launch_request(thin_cloud.offer)
    launched = thin_cloud.provider.launch(request)
    machine = Machine(thin_cloud.root / launched.id)
    thin_cloud.provider.terminate(launched.id, "")
    (machine.directory / "agent.lock").write_text("")
    (machine.directory / "lives").unlink()

    late = subprocess.run(
        [thin_cloud.python, "-P", "-m", "_", "--config", machine.directory / "agent.json"], check=False
    )

    assert late.returncode == 3
    assert not (machine.directory / "lives").exists()
    assert machine.status() is InstanceStatus.GONE


def test_an_interrupted_launch_is_listed_as_pending(thin_cloud: LocalCloud) -> None:
    """So that it counts against capacity, and an orphan can be found and removed."""
    request = launch_request(thin_cloud.offer)
    thin_cloud.provider._admit(Machine(thin_cloud.root / request.replica.id), request)
    (pending,) = thin_cloud.another_process().list_instances()
    assert (pending.status, pending.replica_id, pending.url) == (InstanceStatus.PENDING, request.replica.id, "")
    thin_cloud.provider.terminate(pending.replica_id, "")
    assert [each.status for each in thin_cloud.provider.list_instances()] == [InstanceStatus.GONE]


def test_replicas_survive_the_control_plane_and_are_found_again(cloud: LocalCloud) -> None:
    """The launching process ends; the machine serves on and another process finds it."""
    script = (
        "import os, sys, pathlib\n"
        "from tests.providers.contract import *\n"
        "from tests.providers.conftest import _local_cloud\n"
        "local = _local_cloud(pathlib.Path(sys.argv[1]), sys.executable)\n"
        "local.provider.launch(launch_request(local.offer, 'hello-aaaa-0-1'))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(cloud.root.parent)], check=False)
    (found,) = cloud.provider.list_instances()
    assert (found.replica_id, found.status) == ("hello-aaaa-0-1", InstanceStatus.RUNNING)
    assert _ask(found, "/_sailplane/probe").status == 401


def test_capacity_counts_the_living(thin_cloud: LocalCloud) -> None:
    """Two machines fit; the third does not until one is gone; no limit means no limit."""
    provider = thin_cloud.provider
    provider.set_capacity(2)
    first, *_ = [provider.launch(launch_request(thin_cloud.offer)) for _ in range(2)]
    with pytest.raises(NoCapacity, match="room for 2 replicas"):
        provider.launch(launch_request(thin_cloud.offer))
    assert len(provider.list_instances()) == 2
    provider.terminate(first.replica_id, first.id)
    provider.launch(launch_request(thin_cloud.offer))
    provider.set_capacity(None)
    provider.launch(launch_request(thin_cloud.offer))


def test_a_preemption_is_announced_and_then_happens(cloud: LocalCloud) -> None:
    """Notice first, listed with its instant; at that instant every process is gone, and the cloud says it took it."""
    cloud.clock.time = time.time()  # the agent lives by the real clock
    launched = cloud.provider.launch(launch_request(cloud.offer))
    cloud.provider.preempt(launched.replica_id, notice_s=1.0)
    (warned,) = cloud.provider.list_instances()
    assert (warned.status, warned.interruption_at) == (InstanceStatus.RUNNING, cloud.clock.now() + 1.0)
    until(lambda: cloud.is_dead(launched.id))
    cloud.clock.advance(1.0)
    (taken,) = cloud.provider.list_instances()
    assert (taken.status, taken.preempted) == (InstanceStatus.GONE, True)
    assert processes.processes_of(cloud.root / launched.id, None) == []


def test_terminating_after_a_notice_is_no_preemption(thin_cloud: LocalCloud) -> None:
    """Whoever acts first is to blame, for good."""
    launched = thin_cloud.provider.launch(launch_request(thin_cloud.offer))
    thin_cloud.provider.preempt(launched.replica_id, notice_s=30)
    thin_cloud.provider.terminate(launched.replica_id, launched.id)
    thin_cloud.clock.advance(60)
    (gone,) = thin_cloud.provider.list_instances()
    assert (gone.status, gone.preempted) == (InstanceStatus.GONE, False)


def test_a_machine_can_die_without_notice(cloud: LocalCloud) -> None:
    """Everything at once, and nobody says why."""
    engine = EngineSpec(port=8080, run="sleep 300 & sleep 300")
    launched = cloud.provider.launch(launch_request(cloud.offer, engine=engine))
    until(lambda: len(processes.processes_of(cloud.root / launched.id, None)) >= 4)
    cloud.provider.kill(launched.replica_id)
    assert processes.processes_of(cloud.root / launched.id, None) == []
    (gone,) = cloud.provider.list_instances()
    assert (gone.status, gone.preempted) == (InstanceStatus.GONE, False)


def test_only_a_running_machine_can_be_taken(thin_cloud: LocalCloud) -> None:
    """`NotFound` by name for one that never was, and for one that is gone."""
    launched = thin_cloud.provider.launch(launch_request(thin_cloud.offer))
    thin_cloud.provider.terminate(launched.replica_id, launched.id)
    for replica_id in (launched.replica_id, "hello-0000-0-9"):
        with pytest.raises(NotFound, match=replica_id):
            thin_cloud.provider.preempt(replica_id, 30)
        with pytest.raises(NotFound, match=replica_id):
            thin_cloud.provider.kill(replica_id)


def test_a_daemon_of_the_engine_goes_too(cloud: LocalCloud) -> None:
    """Terminate reaches a process that left group and session, by the tag in its environment."""
    leave = "os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0)"
    daemon = f'import os, time; {leave}; open("daemon.pid", "w").write(str(os.getpid())); time.sleep(300)'
    run = f"{sys.executable} -c '{daemon}'; sleep 300"
    launched = cloud.provider.launch(launch_request(cloud.offer, engine=EngineSpec(port=8080, run=run)))
    directory = cloud.root / launched.id
    note = directory / "workdir" / "daemon.pid"
    pid = int(until(lambda: note.read_text() if note.exists() else ""))
    assert os.getsid(pid) != (Machine(directory).life or {})["pid"]
    cloud.provider.terminate(launched.replica_id, launched.id)
    assert processes.processes_of(directory, None) == []
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_an_engine_without_the_tag_goes_too(cloud: LocalCloud) -> None:
    """A program started with an empty environment is known by its session and directory."""
    run = f"exec env -i {sys.executable} -c 'import time; time.sleep(300)'"
    launched = cloud.provider.launch(launch_request(cloud.offer, engine=EngineSpec(port=8080, run=run)))
    directory, session = cloud.root / launched.id, (Machine(cloud.root / launched.id).life or {})["pid"]

    def untagged() -> list[int]:
        tagged = {process.pid for process in processes.processes_of(directory, None)}
        members = {process.pid: process for process in processes.processes_of(directory, session)}
        return [pid for pid, process in members.items() if pid not in tagged and "sleep(300)" in str(process.cmdline())]

    (pid,) = until(untagged)
    cloud.provider.terminate(launched.replica_id, launched.id)
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_only_processes_of_the_machine_are_killed(thin_cloud: LocalCloud) -> None:
    """The owner's shell that stands in the directory, and another replica, live on."""
    first, second = (thin_cloud.provider.launch(launch_request(thin_cloud.offer)) for _ in range(2))
    with subprocess.Popen(["sleep", "60"], cwd=thin_cloud.root / first.id) as shell:
        thin_cloud.provider.terminate(first.replica_id, first.id)
        assert shell.poll() is None
        shell.kill()
    assert len(thin_cloud.agents_of(second.id)) == 1


def test_nothing_of_the_control_plane_leaks_into_a_replica(cloud: LocalCloud) -> None:
    """Environment: a shell's basics, what SkyPilot promises, the service's own, and nothing else. Files: owner only."""
    host = {**os.environ, "AWS_SECRET_ACCESS_KEY": "hush", "SAILPLANE_AGENT_KEY": "hush", "PYTHONPATH": "/x"}
    provider = LocalProvider(cloud.root, "test", sys.executable, host, cloud.clock)
    engine = EngineSpec(
        port=8080, run="env > seen.draft; mv seen.draft seen; sleep 300", envs=(("MODEL", "a 'b'\n\"c\""),)
    )
    request = launch_request(cloud.offer, engine=engine)
    launched = provider.launch(request)
    directory = cloud.root / launched.id
    path = directory / "workdir" / "seen"
    seen = until(lambda: path.read_text() if path.exists() else "")

    names = {line.partition("=")[0] for line in seen.splitlines() if "=" in line}
    prefixed = {"NUM_GPUS_PER_NODE", "NODE_RANK", "NUM_NODES", "NODE_IPS", "SERVE_REPLICA_ID"}
    allowed = {f"{prefix}_{name}" for prefix in ("SKYPILOT", "SAILPLANE") for name in prefixed}
    allowed |= {"PATH", "HOME", "USER", "LANG", "TMPDIR", "MODEL", "PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"}
    allowed |= {"SAILPLANE_PORT", "SAILPLANE_REPLICA_ID", "SAILPLANE_SERVICE", processes.TAG, "PYTHONUNBUFFERED"}
    assert names <= allowed
    assert f"SAILPLANE_REPLICA_ID={request.replica.id}\n" in seen
    assert "MODEL=a 'b'\n\"c\"\n" in seen
    assert "hush" not in seen
    assert request.agent_token not in seen
    assert stat.S_IMODE((directory / "agent.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("setup", "run", "port"),
    [
        ("", "serve --port $SAILPLANE_PORT", 0),
        ("echo ${SAILPLANE_PORT} > port", "serve", 0),
        ("", "serve --port 8080", 8080),
        ("", "echo $MY_SAILPLANE_PORTS", 8080),
    ],
)
def test_an_engine_that_asks_for_its_port_gets_a_free_one(
    thin_cloud: LocalCloud, setup: str, run: str, port: int
) -> None:
    """Several replicas share this machine; one that does not ask is expected on the port its owner wrote."""
    launched = thin_cloud.provider.launch(
        launch_request(thin_cloud.offer, engine=EngineSpec(port=8080, setup=setup, run=run))
    )
    assert json.loads((thin_cloud.root / launched.id / "agent.json").read_text())["engine_port"] == port


def test_the_workdir_is_copied(thin_cloud: LocalCloud, tmp_path: Path) -> None:
    """Each replica has its own, without history, environments and pipes; links stay links."""
    source = tmp_path / "project"
    (source / "package").mkdir(parents=True)
    (source / ".git").mkdir()
    (source / "package" / "server.py").write_text("serve()")
    (source / "link").symlink_to("package/server.py")
    os.mkfifo(source / "pipe")
    launched = thin_cloud.provider.launch(_with_workdir(thin_cloud, source))
    copy = thin_cloud.root / launched.id / "workdir"
    assert {path.name for path in copy.iterdir()} == {"package", "link"}
    assert (copy / "link").is_symlink()
    assert (copy / "package" / "server.py").read_text() == "serve()"


def test_a_workdir_around_the_replicas_is_copied_without_them(thin_cloud: LocalCloud) -> None:
    """$SAILPLANE_HOME may lie inside the project."""
    launched = thin_cloud.provider.launch(_with_workdir(thin_cloud, thin_cloud.root.parent))
    assert not (thin_cloud.root / launched.id / "workdir" / "instances").exists()


def test_a_workdir_around_the_replicas_may_be_reached_by_a_link(thin_cloud: LocalCloud, tmp_path: Path) -> None:
    """By whatever path: a copy does not contain itself."""
    link = tmp_path / "link"
    link.symlink_to(thin_cloud.root.parent)
    launched = thin_cloud.provider.launch(_with_workdir(thin_cloud, link))
    assert not (thin_cloud.root / launched.id / "workdir" / "instances").exists()


def test_a_workdir_among_the_replicas_is_refused(thin_cloud: LocalCloud) -> None:
    """It would contain its own copy."""
    with pytest.raises(LaunchRefused, match="where replicas are kept"):
        thin_cloud.provider.launch(_with_workdir(thin_cloud, thin_cloud.root))


def test_a_missing_workdir_is_refused_and_leaves_nothing(thin_cloud: LocalCloud, tmp_path: Path) -> None:
    """The path is named, and no directory of a replica stays behind."""
    with pytest.raises(LaunchRefused, match="nowhere is not a directory"):
        thin_cloud.provider.launch(_with_workdir(thin_cloud, tmp_path / "nowhere"))
    assert thin_cloud.provider.list_instances() == ()
    assert {path.name for path in thin_cloud.root.iterdir()} == {".admission.lock", ".listing.lock"}


def test_a_huge_workdir_is_refused_before_it_is_copied(tmp_path: Path) -> None:
    """The message says how large, what the limit is and what to do."""
    source = tmp_path / "project"
    source.mkdir()
    with (source / "weights").open("wb") as weights:
        weights.truncate(3 * 2**20)  # sparse
    with pytest.raises(LaunchRefused, match=r"holds 3 MB, more than the 2 MB .* let `setup` fetch"):
        workdir.copy(source, tmp_path / "copy", tmp_path / "never", limit_bytes=2 * 2**20)
    assert not (tmp_path / "copy").exists()


def test_files_that_cannot_be_copied_are_told_in_one_line(tmp_path: Path) -> None:
    """However many: the message goes into the replica's record, and DynamoDB's records end at 400 KB."""
    source = tmp_path / "project"
    depth = source
    longest = os.pathconf("/", "PC_PATH_MAX")
    while len(str(depth)) < longest - 300:
        depth /= "d" * 100
    depth.mkdir(parents=True)
    for number in range(50):
        (depth / f"file{number}").touch()
    target = tmp_path / ("t" * 200) / ("t" * 200)
    target.parent.mkdir(parents=True)
    with pytest.raises(LaunchRefused, match=r"cannot be copied, .*File name too long") as refused:
        workdir.copy(source, target, tmp_path / "never")
    assert len(str(refused.value)) < 20_000


def test_an_agent_that_cannot_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    """A broken interpreter refuses the launch, says what it said, and leaves nothing."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no module named replica_agent >&2\nexit 1\n")
    broken.chmod(0o700)
    provider = LocalProvider(tmp_path / "instances", "test", str(broken), os.environ, FakeClock())
    request = launch_request(offers(1.0, 1.0)[0])
    with pytest.raises(LaunchRefused, match="exit code 1: no module named replica_agent"):
        provider.launch(request)
    assert provider.list_instances() == ()
    missing = LocalProvider(tmp_path / "instances", "test", str(tmp_path / "missing"), os.environ, FakeClock())
    with pytest.raises(LaunchRefused, match="missing"):
        missing.launch(request)


def test_the_gone_are_forgotten_after_an_hour(thin_cloud: LocalCloud) -> None:
    """Until then they are listed and their logs can be read; the next launch after it clears them away."""
    old = thin_cloud.provider.launch(launch_request(thin_cloud.offer))
    thin_cloud.provider.terminate(old.replica_id, old.id)
    thin_cloud.clock.advance(3599)
    thin_cloud.provider.launch(launch_request(thin_cloud.offer))
    assert old.id in {each.id for each in thin_cloud.provider.list_instances()}
    thin_cloud.clock.advance(2)
    thin_cloud.provider.launch(launch_request(thin_cloud.offer))
    assert old.id not in {each.id for each in thin_cloud.provider.list_instances()}


def test_the_laptops_offers_cost_nothing() -> None:
    """On demand and as spot, so that a service that asks for spot runs too; sizes are this machine's unless given."""
    given = offers(vcpus=4, memory_gib=16)
    assert {(each.capacity_type, each.vcpus, each.memory_gib, each.price_usd_per_hour) for each in given} == {
        (CapacityType.ON_DEMAND, 4, 16, 0),
        (CapacityType.SPOT, 4, 16, 0),
    }
    assert str(given[0].location) == "local/laptop"
    assert all(each.vcpus >= 1 and each.memory_gib > 0 for each in offers())


def _with_workdir(cloud: LocalCloud, source: Path) -> LaunchRequest:
    request = launch_request(cloud.offer)
    return replace(request, engine=replace(request.engine, workdir=str(source)))


def _lives(cloud: LocalCloud, replica_id: str) -> int:
    """How many agents have ever lived in the replica's directory."""
    return len((cloud.root / replica_id / "lives").read_text().splitlines())


def _ask(instance: Instance, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(instance.url.removeprefix("http://"), timeout=10)
    connection.request("POST", path)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response
