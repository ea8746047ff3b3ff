"""What machines ask and are told, and what is left of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from chalicelib.api.schemas.fields import Answer, Body, ReplicaId, Request, Token
from chalicelib.model import LeftoverKind


class LeftoverName(Body):
    """One leftover, by what it is called in its cloud."""

    provider: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    id: Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class RemoveLeftovers(Body):
    """Which leftovers to remove: as shown, so that nothing goes that nobody has seen."""

    leftovers: Annotated[tuple[LeftoverName, ...], Field(max_length=1000)]


class Boot(Body):
    """A new machine's claim to be a replica. `machine_key` is random; the machine sends the same one until it is answered."""

    replica_id: ReplicaId
    boot_token: Token
    machine_key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class BootedAs(Request):
    """Which boot of a replica asks."""

    boot_nonce: Token


class AskForSecrets(BootedAs, Body):
    """An agent's question. `asker` is random; the agent sends the same one until it is answered."""

    asker: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class Interruption(BootedAs, Body):
    """A cloud's notice, as a replica's agent has it from the machine's metadata. `at` is an epoch second."""

    kind: Literal["INTERRUPTION", "REBALANCE"]
    at: Annotated[float, Field(ge=0, le=1e11)]


class Leftover(Answer):
    """Something in a cloud with our tag that no replica needs. `usd_per_month` is null where it is not known."""

    provider: str
    kind: LeftoverKind
    id: str
    region: str
    replica: str
    why: str
    usd_per_month: float | None


class Leftovers(Answer):
    """Leftovers, and for each cloud that did not answer why."""

    leftovers: tuple[Leftover, ...]
    unreachable: dict[str, str]


class Booted(Answer):
    """What a machine needs to become a replica: the agent's configuration, the agent (a zip file in base64), its packages."""

    config: dict[str, Any]
    agent: str
    requirements: str


class ReplicaSecrets(Answer):
    """The texts of a replica's secrets, by the variable that holds each."""

    envs: dict[str, str]


class Noticed(Answer):
    """A notice that was recorded."""

    replica: str
