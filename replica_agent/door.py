"""Who may ask the engine: whoever a router has sent here lately, for what it was sent for, as often as its key allows."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from replica_agent.config import Config
from replica_agent.engine import Engine, Phase
from replica_agent.gate import Gate
from replica_agent.grants import Grant, Grants, join, split
from replica_agent.heads import Request, readable
from replica_agent.problem import Answer, problem
from replica_agent.quota import Quotas
from replica_agent.times import ControlTime

ENGINE_START_RETRY_S = 5


@dataclass(frozen=True, slots=True)
class Visit:
    """What a request may do here."""

    grant: Grant
    target: bytes  # for the engine


class Door:
    """Lets visits in and out. Says why not with a problem document, or with the way back to a router."""

    def __init__(self, config: Config, engine: Engine, gate: Gate, quotas: Quotas, clock: ControlTime) -> None:
        self._config = config
        self._engine = engine
        self._gate = gate
        self._quotas = quotas
        self._clock = clock
        self._grants = Grants(config.grant_keys, config.service)
        self._own_hosts = {f"127.0.0.1:{engine.port}", f"localhost:{engine.port}"}

    def enter(self, request: Request) -> Visit | Answer:
        """A visit, which `leave` ends, or what the client is told instead."""
        text, target = split(request.target)
        if not text:
            return problem(401, "No grant", "Ask the service's endpoint: it sends you here with one.", request.path)
        asked = request.fields.get(b"access-control-request-method") if request.method == b"OPTIONS" else b""
        grant = self._grants.read(text, asked or request.method, target.partition(b"?")[0])
        if grant is None:
            detail = "It is not for this replica, this method and this path. Ask the service's endpoint again."
            return problem(403, "Bad grant", detail, readable(target))
        if asked:
            return _preflight(request, asked)
        if grant.expires_at <= self._clock.now():
            return self._back(text, target)
        return self._refusal(grant, target) or Visit(grant, target)

    def leave(self, visit: Visit) -> None:
        """The last byte of the answer is on its way, or there is nobody any more to send it to."""
        self._gate.leave()
        self._quotas.leave(visit.grant)

    def location(self, request: Request, visit: Visit, status: int, location: bytes) -> bytes:
        """Where the engine redirects to: with a grant for there, when that is this replica again."""
        host = request.fields.get(b"host").decode("latin-1")
        try:
            there = urlsplit(urljoin(f"http://{host}{visit.target.decode('latin-1')}", location.decode("latin-1")))
        except ValueError:  # not a URL: the client's to complain about
            return location
        if there.netloc != host and there.netloc not in self._own_hosts:
            return location
        # What clients ask with then, RFC 9110, section 15.4.
        turns = status == 303 or (status in (301, 302) and request.method == b"POST")
        path = (there.path or "/").encode("latin-1")
        grant = self._grants.moved(visit.grant, b"GET" if turns else request.method, path)
        # Not `urlunsplit`: newer Pythons' writes two more slashes before a path that begins with two (CPython, gh-67693).
        rest = ("?" + there.query if there.query else "") + ("#" + there.fragment if there.fragment else "")
        return join(grant, path + rest.encode("latin-1"))

    def _back(self, text: bytes, target: bytes) -> Answer:
        """To the router, with the expired grant as the ticket: clients have lost their key on the way here."""
        config = self._config
        if not config.edge_url:
            return problem(401, "Grant has expired", "Ask the service's endpoint again.", readable(target))
        ticket = f"~{text.decode()}~{config.replica_id}~{config.boot_nonce}"
        return Answer(307, {"Location": f"{config.edge_url}/{config.service}/{ticket}{target.decode('latin-1')}"})

    def _refusal(self, grant: Grant, target: bytes) -> Answer | None:
        """None counts the visit in."""
        if self._gate.closed:
            return problem(503, "Replica is stopping", "Ask the service's endpoint again.", readable(target), 1)
        if self._engine.phase is not Phase.RUNNING:
            detail = f"The engine's phase is {self._engine.phase}."
            return problem(503, "Engine is not up", detail, readable(target), ENGINE_START_RETRY_S)
        if wait_s := self._quotas.enter(grant):
            return problem(429, "Too many requests", "The endpoint key's limit is reached.", readable(target), wait_s)
        self._gate.enter()
        return None


def _preflight(request: Request, method: bytes) -> Answer:
    """What a browser wants to hear before it sends what a page wants to send here, with the URL of that."""
    headers = {"Access-Control-Allow-Methods": method.decode("latin-1")}
    if asked := request.fields.get(b"access-control-request-headers"):
        headers["Access-Control-Allow-Headers"] = asked.decode("latin-1")  # `*` would leave Authorization out
    return Answer(204, headers)
