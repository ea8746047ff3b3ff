"""A backup's entries."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, StringConstraints

from chalicelib.api.schemas.fields import Answer, Cursor, Request

RestoreOutcome = Literal["restored", "same", "kept", "revoked", "missing"]


class BackupEntry(Request):
    """One thing of a backup: a service with its versions, a key by its hash, a webhook, a trust, or the name of a secret."""

    kind: Literal["admin_key", "key", "secret", "service", "trust", "webhook"]
    id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    document: dict[str, Any]


class BackupQuery(Request):
    """From where on: `next` of the page before."""

    cursor: Cursor | None = None


class Backup(Answer):
    """A page of a backup. It has the files of services as they were written, and may hold what is confidential."""

    format: int
    sailplane: str
    deployment: str
    made_at: AwareDatetime
    entries: tuple[BackupEntry, ...]
    next: str | None


class RestoredEntry(Answer):
    """What became of an entry.

    `same`: it was there already. `kept`: something else of that name is there, and stays. `revoked`: a key that was revoked
    or replaced here or is long over, a trust or a webhook that was removed here: it stays so. `missing`: a secret, whose text has
    to be set.
    """

    kind: str
    id: str
    outcome: RestoreOutcome
