"""One HTTP exchange with the control plane: hands over what was counted, receives the routing table if it changed."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from edge_router.router import Router
from edge_router.table import TableRefused

_PATH = "/v1/edge/exchange"
# A table of 10,000 replicas has 1.5 MB; a function's answer ends at 6 MB.
_MAX_ANSWER_BYTES = 8_000_000


class ExchangeFailed(Exception):
    """No new table; the message says why, without secrets. The router goes on with what it has."""


class ControlPlane:
    """The control plane as one router sees it.

    Args:
        url: `http(s)://host[:port][/prefix]`. Raises `ValueError` when it is none.
        token: the router token. Raises `ValueError` when it cannot stand in a header.
        router_id: unique among running routers; counts are kept apart by it.
        timeout_s: of each step (connect, send, receive).
    """

    def __init__(self, url: str, token: str, router_id: str, timeout_s: float = 5.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is not of the form http(s)://host[:port][/prefix]")
        if not (token.isascii() and token.isprintable() and token):
            raise ValueError("the router token is empty or holds characters that no header may carry")
        self._connection_class = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host = parts.hostname
        self._port = parts.port
        self._path = parts.path.rstrip("/") + _PATH
        self._token = token
        self._router_id = router_id
        self._timeout_s = timeout_s

    def exchange(self, router: Router) -> None:
        """Hand over the router's counts and give it the new table, if there is one.

        The batch is acknowledged only by an answer that could come from nobody but the control plane; after anything
        else the same batch goes out again the next time.

        Raises:
            ExchangeFailed: no answer, a wrong one, or a table that the router refused. Its current table stays.
        """
        batch = router.batch()
        question = {
            "router_id": self._router_id,
            "seq": batch.seq,
            "requests": batch.requests,
            "etag": router.etag,
        }
        answer = self._post(json.dumps(question).encode())
        if not isinstance(answer, dict) or "table" not in answer:
            raise ExchangeFailed("the control plane's answer is not an object with a table")
        router.acknowledge(batch)
        if answer["table"] is None:
            return
        try:
            router.accept(answer["table"])
        except TableRefused as refusal:
            raise ExchangeFailed(f"the control plane's table was refused: {refusal}") from refusal

    def _post(self, body: bytes) -> object:
        """The decoded answer. A new connection each time: an idle one may be gone unnoticed when a client knocks."""
        connection = self._connection_class(self._host, self._port, timeout=self._timeout_s)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", "Connection": "close"}
        try:
            connection.request("POST", self._path, body, headers)
            with connection.getresponse() as response:
                answer = response.read(_MAX_ANSWER_BYTES + 1)
        except (OSError, HTTPException) as error:
            why = f"{type(error).__name__}: {error}"
            raise ExchangeFailed(
                f"no answer from the control plane at {self._host}:{connection.port}: {why}"
            ) from error
        finally:
            connection.close()
        if response.status != 200:
            hint = "; is the router token the control plane's?" if response.status in (401, 403) else ""
            raise ExchangeFailed(f"the control plane answered {response.status}{hint}")
        if len(answer) > _MAX_ANSWER_BYTES:
            raise ExchangeFailed(f"the control plane's answer is longer than {_MAX_ANSWER_BYTES} bytes")
        try:
            return json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise ExchangeFailed("the control plane's answer is not JSON") from error
