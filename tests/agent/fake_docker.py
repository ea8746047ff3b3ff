"""Docker for tests: it takes the command lines that docker's own would take, and runs them on this machine.

Its containers are directories beside it, named like the containers, and as in docker what `exec` starts is not ended with the
command that started it, but with the container.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

CONTAINERS = Path(__file__).parent / "containers"  # a test copies this file next to where they shall be


def run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in ("--rm", "--interactive"):
        parser.add_argument(flag, action="store_true", required=True)
    for option in ("--name", "--user", "--network", "--ipc", "--workdir", "--entrypoint"):
        parser.add_argument(option, required=True)
    parser.add_argument("--gpus")
    parser.add_argument("--volume", action="append", required=True)
    parser.add_argument("image")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    told = parser.parse_args(arguments)
    if told.image == "no/such:image":
        sys.stderr.write("docker: Error response from daemon: manifest for no/such:image not found\n")
        return 125
    volumes = [tuple(volume.split(":")) for volume in told.volume]
    assert all(outside == inside and Path(outside).is_dir() for outside, inside in volumes), volumes
    assert any(told.workdir == inside for _, inside in volumes)
    sys.stderr.write(f"Unable to find image '{told.image}' locally\n")
    container = CONTAINERS / told.name
    container.mkdir(parents=True)
    (container / "arguments").write_text("\n".join(arguments))
    (container / "workdir").write_text(told.workdir)
    # The container is the daemon's, not this command's, whose death it sees as the end of its input.
    daemon = [sys.executable, __file__, "contain", told.name, told.entrypoint, *told.command]
    return subprocess.run(daemon, check=False, env=_image_env(), cwd=told.workdir, start_new_session=True).returncode


def login(configuration: Path, arguments: list[str]) -> int:
    username, server = arguments[1], arguments[3]
    assert arguments == ["--username", username, "--password-stdin", server], arguments
    assert configuration.stat().st_mode & 0o777 == 0o700
    if (password := sys.stdin.read()) == "wrong":
        sys.stderr.write("Error response from daemon: unauthorized: incorrect username or password\n")
        return 1
    (configuration / "config.json").write_text(f"{username}:{password}@{server}")
    return 0


def contain(name: str, command: list[str]) -> int:
    """What docker's daemon does: run the container's first process, and end everything in it with that one."""
    container = CONTAINERS / name
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        _signal(container, signal.SIGKILL)
        container.rename(container.with_suffix(".removed"))


def execute(arguments: list[str]) -> int:
    told = [each.removeprefix("--env=") for each in arguments if each.startswith("--env=")]
    name, *command = arguments[len(told) :]
    container = CONTAINERS / name
    if command == ["bash", "-c", "kill -TERM -1"]:
        _signal(container, signal.SIGTERM)
        return 0
    workdir = (container / "workdir").read_text()
    env = _image_env() | {name: os.environ[name] for name in told}
    process = subprocess.Popen(command, env=env, cwd=workdir, start_new_session=True)
    (container / f"{process.pid}.pid").touch()
    return process.wait()


def _image_env() -> dict[str, str]:
    """An image has an environment of its own; of the machine's nothing is in it but, here, what finds the test's processes."""
    return {name: os.environ[name] for name in ("PATH", "SAILPLANE_INSTANCE_DIR")}


def _signal(container: Path, number: signal.Signals) -> None:
    for path in container.glob("*.pid"):
        with suppress(ProcessLookupError):
            os.killpg(int(path.stem), number)


if __name__ == "__main__":
    if sys.argv[1] == "--config":
        configuration = Path(sys.argv[2])
        del sys.argv[1:3]
        if sys.argv[1] == "login":
            sys.exit(login(configuration, sys.argv[2:]))
        (CONTAINERS.parent / "logged-in-as").write_text((configuration / "config.json").read_text())
    if sys.argv[1] == "run":
        sys.exit(run(sys.argv[2:]))
    if sys.argv[1] == "contain":
        sys.exit(contain(sys.argv[2], sys.argv[3:]))
    assert sys.argv[1] == "exec", sys.argv
    sys.exit(execute(sys.argv[2:]))
