"""What is said about secrets."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field, JsonValue, SecretStr, StringConstraints

from chalicelib.api.schemas.fields import SERVICE_PATTERN, Answer, Body, Page, Request
from chalicelib.model import MAX_SECRET_BYTES

MOST_USERS = 100  # entries that say which services may use a secret


def _keepable(text: SecretStr) -> SecretStr:
    size = len(text.get_secret_value().encode())
    if not 1 <= size <= MAX_SECRET_BYTES:
        raise ValueError(f"has {size:,} bytes as UTF-8; a secret has 1 to {MAX_SECRET_BYTES:,}")
    if "\0" in text.get_secret_value():
        raise ValueError("holds a NUL character, which no environment can carry")
    if "{{" in text.get_secret_value():
        raise ValueError(
            "holds {{, which AWS takes for the name of another parameter and refuses; set it as base64, say"
        )
    return text


_KEEPABLE: dict[str, JsonValue] = {
    "minLength": 1,
    "maxLength": MAX_SECRET_BYTES,
    "pattern": r"^(?![\s\S]*\{\{)[^\u0000]*$",
}
_Users = Annotated[tuple[Annotated[str, StringConstraints(pattern=SERVICE_PATTERN)], ...], Field(max_length=MOST_USERS)]


class SetSecret(Body):
    """A secret's text, and which services may use it: names, beginnings such as `llm-*`, or `*` for all; none = webhooks only.

    `services` may be left out for a secret that there is: it stays with those that have it.
    """

    text: Annotated[SecretStr, AfterValidator(_keepable), Field(json_schema_extra=_KEEPABLE)]
    services: _Users | None = None


class AllowSecret(Body):
    """Services that may use a secret, beside those that may already; with `only`, in place of them."""

    services: _Users
    only: bool = False


class RemoveSecret(Request):
    """Whether to forget a secret although services name it."""

    force: bool = False


class Secret(Answer):
    """A secret without its text. `version` rises with every change; `used_by` are the services whose files name it.

    `services` are those that may: names, beginnings such as `llm-*`, or `*` for all. `webhooks` are the ids of those that show
    it to their forge.
    """

    name: str
    version: int
    changed_at: AwareDatetime
    services: tuple[str, ...]
    used_by: tuple[str, ...]
    webhooks: tuple[str, ...]


class Secrets(Page):
    """Secrets by name."""

    secrets: tuple[Secret, ...]


class SecretUse(Answer):
    """A secret that was changed or forgotten, the services that may use it, and those whose files name it."""

    name: str
    services: tuple[str, ...]
    used_by: tuple[str, ...]
