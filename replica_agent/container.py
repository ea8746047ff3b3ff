"""The container that `setup` and `run` are executed in when the service names a docker image.

One container for both, so that `run` finds what `setup` installed. Its first process waits for the end of its input, which
the agent holds: however the agent dies, docker ends the container, and `--rm` removes it.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from replica_agent.registry import Registry

_FIRST_PROCESS = ': > "$0" && read -r _'
_MODE = 0o600
_EVERYBODY = "kill -TERM -1"  # within a container: all but its first process


class Container:
    """How docker is told. The user's words are in files only: a command line can be read by everybody on the machine.

    Args:
        image: what docker pulls, unless it has it.
        name: the replica's id, so that people recognise it.
        directory: the agent's own; the container sees its folder `container`, which holds scripts and their environment.
        workdir: where setup and run start, shared with the container.
        env: for setup and run. Not docker's `--env-file`, whose values cannot hold a line break.
        secrets: variables whose values docker takes from its own environment, because no file may hold them.
        registry: where the image is pulled from; None = where anybody may.
    """

    def __init__(  # noqa: PLR0917 - one place makes it
        self,
        image: str,
        name: str,
        directory: Path,
        workdir: Path,
        env: Mapping[str, str],
        secrets: Collection[str],
        registry: Registry | None,
    ) -> None:
        self.registry = registry
        self.scripts = directory / "container"
        self._image = registry.image(image) if registry else image
        self._name = name
        self._workdir = workdir
        self._env = env
        self._secrets = sorted(secrets)

    @property
    def is_up(self) -> bool:
        return self._up.exists()

    @property
    def _up(self) -> Path:
        return self.scripts / "up"

    def start(self) -> list[str]:
        """The command that runs for as long as the container, its progress in pulling the image on standard error."""
        self.scripts.mkdir(mode=0o700, exist_ok=True)
        environment = self.scripts / "environment"
        environment.touch(_MODE)
        environment.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in self._env.items()))
        has_gpus = self._env.get("SAILPLANE_NUM_GPUS_PER_NODE", "0") != "0"
        return [
            *(self.registry.docker() if self.registry else ["docker"]),
            *("run", "--rm", "--interactive", "--name", self._name, "--user", "0", "--network", "host"),
            # Engines on several GPUs share more memory than docker's 64 MB; the machine is theirs alone.
            *("--ipc", "host"),
            *(("--gpus", "all") if has_gpus else ()),
            *("--volume", f"{self.scripts}:{self.scripts}", "--volume", f"{self._workdir}:{self._workdir}"),
            *("--workdir", str(self._workdir), "--entrypoint", "bash"),
            *(self._image, "-c", _FIRST_PROCESS, str(self._up)),
        ]

    def execute(self, script: Path) -> list[str]:
        """The command that runs one of the scripts in the container."""
        program = 'source "$0" && exec bash "$1"'
        told = [f"--env={name}" for name in self._secrets]
        files = [str(self.scripts / "environment"), str(script)]
        return ["docker", "exec", *told, self._name, "bash", "-c", program, *files]

    def terminate(self) -> list[str]:
        """The command that asks everything in the container to end: docker passes no signal on to what `exec` started."""
        return ["docker", "exec", self._name, "bash", "-c", _EVERYBODY]
