"""A private registry that the container's image is pulled from, as SkyPilot's variables name it.

docker keeps what it logs in with in its configuration, so it gets one of its own, which is gone when the image has been pulled.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_VARIABLES = ("SERVER", "USERNAME", "PASSWORD")


@dataclass(frozen=True, slots=True)
class Registry:
    """Who may pull from where."""

    server: str
    username: str
    password: str = field(repr=False)
    configuration: Path  # a directory that nobody but us reads, and no container sees

    @classmethod
    def named_in(cls, env: Mapping[str, str], directory: Path) -> Registry | None:
        """The registry of the variables, kept in `directory` for as long as it is needed; None where none is named."""
        server, username, password = (env.get(f"SKYPILOT_DOCKER_{name}", "") for name in _VARIABLES)
        return cls(server, username, password, directory / "registry") if server and username and password else None

    def image(self, name: str) -> str:
        """The image's whole name: as in SkyPilot, it may be given without the server."""
        return name if name.startswith(f"{self.server}/") else f"{self.server}/{name}"

    def docker(self) -> list[str]:
        """Docker with our configuration."""
        return ["docker", "--config", str(self.configuration)]

    def login(self) -> list[str]:
        """The command that takes the password on standard input."""
        self.configuration.mkdir(mode=0o700, exist_ok=True)
        return [*self.docker(), "login", "--username", self.username, "--password-stdin", self.server]

    def forget(self) -> None:
        """Remove the password from the disk."""
        shutil.rmtree(self.configuration, ignore_errors=True)
