"""What the agent is told: one JSON file, mode 0600, because it holds the agent's token and the keys of its grants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


class ConfigError(Exception):
    """The configuration file is missing, unreadable, or not what the agent understands."""


@dataclass(frozen=True, slots=True)
class Config:
    """One replica on one machine. `engine_port` 0 lets the agent choose a free one, `port` 0 lets the system choose."""

    path: Path  # of the configuration file; logs, lock and notice lie beside it
    replica_id: str
    service: str
    boot_nonce: str
    agent_token: str = field(repr=False)
    grant_keys: Mapping[str, bytes] = field(
        repr=False
    )  # with which routers sign grants, by the id that grants name them by
    edge_url: str  # of the routers, where a client with an expired grant is sent back to; empty = nowhere
    access: str  # required: what clients show is Sailplane's own and stays here; open: it is the engine's
    engine_key: str = field(repr=False)  # what the engine itself asks for as a bearer token; empty = nothing
    engine_key_env: str  # the variable that holds it, which may be a secret
    secrets_url: str  # where to ask for the texts of its secrets; empty = it has none
    cloud: str  # local, aws, gcp or azure
    metadata_url: str  # of the cloud's metadata service, empty on a laptop
    control_url: str  # of the control plane, empty on a laptop: it looks by itself
    host: str
    port: int
    engine_port: int
    image: str  # of the container that setup and run are executed in; empty = none, on the machine itself
    setup: str
    run: str
    env: Mapping[str, str] = field(repr=False)
    workdir: str  # where setup and run start; empty = the directory itself
    drain_timeout_s: float
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)  # by variable; told later, never in the file

    @property
    def directory(self) -> Path:
        return self.path.parent

    @property
    def is_local(self) -> bool:
        return self.cloud == "local"

    @property
    def engine_directory(self) -> Path:
        return self.directory / self.workdir


_CHOICES = {"cloud": ("local", "aws", "gcp", "azure"), "access": ("required", "open")}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "port": int,
    "engine_port": int,
    "env": dict,
    "grant_keys": dict,
    "drain_timeout_s": (int, float),
}


def load(path: Path) -> Config:
    """Read and check the file. Raises `ConfigError` naming the file and the field, never its contents."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a JSON object")
    names = [each.name for each in fields(Config) if each.name not in ("path", "secrets")]
    told = {name: _field(path, document, name) for name in names}
    for name, choices in _CHOICES.items():
        if told[name] not in choices:
            raise ConfigError(f"{path}: {name} must be one of {', '.join(choices)}")
    return Config(path=path.resolve(), **{**told, "grant_keys": _keys(path, told["grant_keys"])})


def forget_secrets(path: Path) -> None:
    """Take what the engine must not know out of the file, which lies beside it and which many an engine would serve.

    It can be loaded as before: who wants to live here too is told why not. Raises OSError.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**document, "agent_token": "", "grant_keys": {}, "engine_key": ""}), encoding="utf-8")


def _keys(path: Path, texts: dict[str, Any]) -> dict[str, bytes]:
    try:
        return {name: bytes.fromhex(text) for name, text in texts.items()}
    except (TypeError, ValueError):
        raise ConfigError(f"{path}: grant_keys must be hexadecimal") from None  # the cause would quote a key


def _field(path: Path, document: dict[str, Any], name: str) -> Any:
    if name not in document:
        raise ConfigError(f"{path}: {name} is missing")
    value = document[name]
    if not isinstance(value, _TYPES.get(name, str)) or isinstance(value, bool):
        raise ConfigError(f"{path}: {name} has the wrong type, {type(value).__name__}")
    return value
