"""What the control plane asks of the agent, all of it under `/_sailplane/` and signed with the agent's token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import aiohttp
from yarl import URL

from replica_agent.config import Config
from replica_agent.engine import Engine, Phase
from replica_agent.gate import Gate
from replica_agent.heads import Request
from replica_agent.load import Load, LoadQuestion
from replica_agent.log import Log
from replica_agent.notice import Notices
from replica_agent.problem import Answer, problem
from replica_agent.session import Broken
from replica_agent.signatures import HEADER, Signatures

_JSON = {"Content-Type": "application/json"}
_LOG_LINES = 100
_MAX_LOG_LINES_DIGITS = 9


class BadProbe(Exception):
    """The probe's description makes no sense."""


@dataclass(frozen=True, slots=True)
class Question:
    """The request that tells whether the engine is ready, and what is asked about its load."""

    method: str
    path: str
    body: str | None
    headers: dict[str, str]
    timeout_s: float
    load: LoadQuestion | None

    @classmethod
    def parse(cls, text: bytes) -> Question:
        """Raises `BadProbe` when a field is missing or of the wrong type."""
        try:
            document: dict[str, Any] = json.loads(text)
            question = cls(
                method={"GET": "GET", "POST": "POST"}[document["method"]],
                path=document["path"],
                body=document.get("body"),
                headers=dict(document.get("headers") or {}),
                timeout_s=float(document["timeout_s"]),
                load=LoadQuestion.parse(document.get("load")),
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise BadProbe(f"{type(error).__name__}: {error}") from error
        body = "" if question.body is None else question.body
        texts = (question.path, body, *question.headers, *question.headers.values())
        if not all(isinstance(each, str) for each in texts) or not question.path.startswith("/"):
            raise BadProbe("path must begin with / and path, body and headers must be text")
        return question


class Control:
    """Identity, readiness, drain and log of one replica."""

    def __init__(
        self,
        config: Config,
        *,
        engine: Engine,
        gate: Gate,
        load: Load,
        notices: Notices,
        log: Log,
        session: aiohttp.ClientSession,
        signatures: Signatures,
    ) -> None:
        self._config = config
        self._engine = engine
        self._gate = gate
        self._load = load
        self._notices = notices
        self._log = log
        self._session = session
        self._signatures = signatures
        self._routes: dict[tuple[bytes, bytes], Callable[[Request, bytes, str], Awaitable[Answer]]] = {
            (b"POST", b"/_sailplane/probe"): self._probe,
            (b"POST", b"/_sailplane/drain"): self._drain,
            (b"GET", b"/_sailplane/log"): self._read_log,
        }

    async def handle(self, request: Request, body: bytes) -> Answer:
        """Answer one of the control plane's questions."""
        nonce = self._signatures.check(request.fields.get(b"authorization"), request.method, request.target, body)
        if nonce is None:
            return problem(401, "Not authorized", "Sign the request with this replica's agent token.", request.path)
        route = self._routes.get((request.method, request.target.partition(b"?")[0]))
        if route is None:
            return problem(404, "No such question", "The agent answers POST probe, POST drain, GET log.", request.path)
        return await route(request, body, nonce)

    async def _probe(self, request: Request, body: bytes, nonce: str) -> Answer:
        try:
            question = Question.parse(body)
        except BadProbe as error:
            return problem(400, "Bad probe", str(error), request.path)
        detail = await self._ask(question)
        engine = self._engine
        answer = _json(
            {
                "replica_id": self._config.replica_id,
                "boot_nonce": self._config.boot_nonce,
                "ready": not detail,
                "detail": detail,
                "in_flight": self._gate.in_flight,
                "draining": self._gate.draining,
                "engine": {"phase": engine.phase, "exit_code": engine.exit_code, "log_tail": engine.log_tail},
                "interruption_at": self._notices.interruption_at,
                "load": self._load.answer(question.load),
            }
        )
        return Answer(200, {**_JSON, HEADER: self._signatures.sign(nonce, answer)}, answer)

    async def _ask(self, question: Question) -> str:
        """Why the engine is not ready; empty when it is. Ready means 200, as in SkyServe."""
        if self._engine.phase is not Phase.RUNNING:
            return f"the engine's phase is {self._engine.phase}"
        what = f"{question.method} {question.path.partition('?')[0]}"  # a query may hold a key
        headers = (
            question.headers if question.body is None else {"Content-Type": "application/json", **question.headers}
        )
        try:
            async with (
                asyncio.timeout(question.timeout_s),
                self._session.request(
                    question.method,
                    URL(f"http://127.0.0.1:{self._engine.port}{question.path}", encoded=True),
                    data=None if question.body is None else question.body.encode(),
                    headers=headers,
                    allow_redirects=False,
                ) as answer,
            ):
                await answer.content.readany()  # a short body whole, so that the connection can be used again
        except TimeoutError:
            return f"{what} was not answered within {question.timeout_s:g} s"
        except aiohttp.ClientConnectorError:
            return f"nothing listens on port {self._engine.port} yet"
        except Broken as error:
            return f"{what} failed: {error}"
        except (aiohttp.ClientError, ValueError) as error:
            return f"{what} failed: {type(error).__name__}"  # its text may hold the whole URL
        return "" if answer.status == 200 else f"{what} answered {answer.status}"

    async def _drain(self, _request: Request, _body: bytes, _nonce: str) -> Answer:
        self._gate.draining = True
        return Answer(200, _JSON, _json({"in_flight": self._gate.in_flight}))

    async def _read_log(self, request: Request, _body: bytes, _nonce: str) -> Answer:
        query = parse_qs(request.target.partition(b"?")[2].decode("latin-1"))
        tail = query.get("tail", [str(_LOG_LINES)])[0]
        if not tail.isdecimal() or len(tail) > _MAX_LOG_LINES_DIGITS:
            return problem(400, "Bad number of lines", "tail must be a whole number.", request.path)
        log = self._follow(int(tail)) if query.get("follow") == ["1"] else self._log.tail(int(tail)).encode()
        return Answer(200, {"Content-Type": "text/plain; charset=utf-8"}, log)

    def _follow(self, lines: int) -> AsyncIterator[bytes]:
        return self._log.follow(lines, lambda: self._engine.phase is Phase.EXITED)


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document).encode()
