"""What is said about keys, admin keys and the audit of who did what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from chalicelib.api.schemas.fields import (
    FASTEST_PER_S,
    INTEGRAL,
    LONGEST_OVERLAP_S,
    SLOWEST_PER_S,
    Answer,
    Body,
    Line,
    Page,
    ServiceName,
)
from chalicelib.model import Scope

# Each is some 250 bytes of every table that a router takes.
MOST_KEYS = 1000
LONGEST_KEY_S = 10 * LONGEST_OVERLAP_S
MOST_ADMIN_KEYS = 1000


class CreateKey(Body):
    """A new endpoint key: for which services (`*` = all, later ones too), for how long, how much it may do."""

    name: Annotated[Line, StringConstraints(max_length=64)] = ""
    services: Annotated[tuple[ServiceName | Literal["*"], ...], Field(min_length=1, max_length=100)]
    expires_in_s: Annotated[float, Field(gt=0, le=LONGEST_KEY_S)] | None = None
    rate_per_s: Annotated[float, Field(ge=SLOWEST_PER_S, le=FASTEST_PER_S)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=1_000_000, strict=True), INTEGRAL] | None = None


class RotateKey(Body):
    """How long the key that is replaced goes on working beside the new one."""

    overlap_s: Annotated[float, Field(ge=0, le=LONGEST_OVERLAP_S)] = 86_400.0


class CreateAdminKey(Body):
    """A new admin key: whose it is, what it may do, to which services (`*` = all, later ones too), for how long.

    A key whose maker's ends, ends with it at the latest.
    """

    name: Annotated[Line, StringConstraints(min_length=1, max_length=64)]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=len(Scope))]
    services: Annotated[tuple[ServiceName | Literal["*"], ...], Field(min_length=1, max_length=100)] = ("*",)
    expires_in_s: Annotated[float, Field(gt=0, le=LONGEST_KEY_S)] | None = None


class Key(Answer):
    """An endpoint key as its owner sees it: all but the key itself. None in a limit means that there is none."""

    id: str
    name: str
    services: tuple[str, ...]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    expired: bool
    last_used_at: AwareDatetime | None
    rate_per_s: float | None
    concurrency: int | None


class Keys(Page):
    """Endpoint keys, oldest first; expired ones stay listed for a week."""

    keys: tuple[Key, ...]


class NewKey(Key):
    """A key that was just made, and the only time that its text is told."""

    key: str


class AdminKey(Answer):
    """An admin key as it is listed: all but the key itself. `created_by` is the id of the key that made it."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    services: tuple[str, ...]
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime | None
    expired: bool
    last_used_at: AwareDatetime | None


class AdminKeys(Page):
    """Admin keys but the root one, oldest first; expired ones for as long again as they were good, a week at the most."""

    keys: tuple[AdminKey, ...]


class NewAdminKey(AdminKey):
    """An admin key that was just made, and the only time that its text is told."""

    key: str


class AuditEntry(Answer):
    """Who asked for a change, of what, and what became of it.

    `target` names what was made, changed or removed: its id and, in brackets, what it is called. `status` null = not known to
    have ended; `replayed` = nothing was done.
    """

    id: str
    at: AwareDatetime
    principal: str
    name: str
    operation: str
    target: str = ""
    method: str
    path: str
    ip: str
    status: int | None
    replayed: bool


class Audit(Page):
    """Audit entries, newest first, kept for 90 days."""

    entries: tuple[AuditEntry, ...]


class Revoked(Answer):
    """A key that is refused from now on: an endpoint key by every router once it has its next table."""

    id: str
    name: str = ""
