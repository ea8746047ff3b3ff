"""The last sealed table in object storage: for a router that starts while the control plane is gone."""

from __future__ import annotations

import time
from urllib.parse import unquote, urlsplit

from edge_router import s3
from edge_router.ask import NoAnswer, ask
from edge_router.exchange import ExchangeFailed
from edge_router.router import Router
from edge_router.table import TableRefused

# Object storage answers within 0.1 s; a client waits for this.
_TIMEOUT_S = 2.0


def read(url: str, router: Router, role: s3.Role | None = None) -> None:
    """Give the router the table at `url`. Whoever can write there can still forge none, as it is sealed.

    Args:
        url: `s3://bucket/key`, `http(s)://...` as all object storage has it, or `file:///path`.
        router: what it is for.
        role: who reads from `s3://`.

    Raises:
        ExchangeFailed: it cannot be read, or the router refused it.
    """
    try:
        router.accept(_text(url, role))
    except TableRefused as refusal:
        raise ExchangeFailed(f"the snapshot of the table was refused: {refusal}") from refusal


def _text(url: str, role: s3.Role | None) -> str:
    parts = urlsplit(url)
    if parts.scheme == "file":
        try:
            with open(unquote(parts.path), encoding="utf-8") as file:  # noqa: PTH123 pathlib alone takes 5 ms to import
                return file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise ExchangeFailed(f"the snapshot of the table cannot be read: {error}") from error
    headers: dict[str, str] = {}
    if parts.scheme == "s3" and role:
        url, headers = s3.question(url, role, time.time())
    try:
        status, answer = ask("GET", url, _TIMEOUT_S, headers=headers)
    except NoAnswer as error:
        raise ExchangeFailed(f"no answer from the snapshot's storage at {error}") from error
    if status != 200:
        raise ExchangeFailed(f"the snapshot's storage answered {status}")
    return answer.decode("utf-8", "replace")
