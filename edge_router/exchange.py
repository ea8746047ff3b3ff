"""One HTTP exchange with the control plane: hands over what was counted, receives the routing table if it changed."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from edge_router.ask import NoAnswer, ask
from edge_router.router import Router
from edge_router.sealing import token_list
from edge_router.table import TableRefused

_PATH = "/v1/edge/exchange"
# Handed over again, that is: what arrives at the first attempt is as good as new, also to a control plane of before.
_OLD_S = 1.0


class ExchangeFailed(Exception):
    """No new table; the message says why, without secrets. The router goes on with what it has."""


class ControlPlane:
    """The control plane as one router sees it.

    Args:
        url: `http(s)://host[:port][/prefix]`. Raises `ValueError` when it is none.
        token: the router token, or several, separated by commas; the first is shown. Raises `ValueError` when it cannot
            stand in a header.
        router_id: unique among running routers; counts are kept apart by it.
        timeout_s: of each step (connect, send, receive), unless an exchange is given another.
        on_demand: this router exchanges when it is asked for something, and its silence means that nobody asks.
    """

    def __init__(
        self, url: str, token: str, router_id: str, timeout_s: float = 5.0, *, on_demand: bool = False
    ) -> None:
        parts = urlsplit(url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.query
            or parts.fragment
            or parts.port == 0
        ):
            raise ValueError(f"{url!r} is not of the form http(s)://host[:port][/prefix]")
        if not (token.isascii() and token.isprintable() and token_list(token)):
            raise ValueError("the router token is empty or holds characters that no header may carry")
        self._url = url.rstrip("/") + _PATH
        self._token = token_list(token)[0]
        self._router_id = router_id
        self._timeout_s = timeout_s
        self._on_demand = on_demand

    def exchange(self, router: Router, timeout_s: float | None = None) -> None:
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
            "used": batch.used,
            "on_demand": self._on_demand,
        }
        if (age_s := router.waited_s(batch)) >= _OLD_S:
            question["age_s"] = age_s
        answer = self._post(json.dumps(question).encode(), self._timeout_s if timeout_s is None else timeout_s)
        if not isinstance(answer, dict) or "table" not in answer:
            raise ExchangeFailed("the control plane's answer is not an object with a table")
        router.acknowledge(batch)
        if answer["table"] is None:
            router.confirm()
            return
        if not isinstance(answer["table"], str):
            raise ExchangeFailed("the control plane's table is not sealed; is it older than this router?")
        try:
            router.accept(answer["table"])
        except TableRefused as refusal:
            raise ExchangeFailed(f"the control plane's table was refused: {refusal}") from refusal

    def _post(self, body: bytes, timeout_s: float) -> object:
        """The decoded answer."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            status, answer = ask("POST", self._url, timeout_s, body, headers)
        except NoAnswer as error:
            raise ExchangeFailed(f"no answer from the control plane at {error}") from error
        if status != 200:
            hint = "; is the router token the control plane's?" if status in (401, 403) else ""
            raise ExchangeFailed(f"the control plane answered {status}{hint}")
        try:
            return json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise ExchangeFailed("the control plane's answer is not JSON") from error
