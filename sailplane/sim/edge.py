"""The edge as a model of requests: the shipped router, clients that retry as stock ones do, and replicas that batch.

What happens to a request depends on what its router knew when it came, and nothing else acts between two events of the
simulation, so requests are worked off in bulk: whatever asks for a figure or changes the world first lets all those
happen that lie before.
"""

from __future__ import annotations

import json
import math
import random
from array import array
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heappop, heappush

from chalicelib import edge_table, identity
from chalicelib.errors import Unreachable
from chalicelib.model import RouteTable
from edge_router.messages import Request as HttpRequest
from edge_router.messages import Response
from edge_router.router import Router
from sailplane.sim.cloud import Happening, Machine
from sailplane.sim.traffic import Request, Traffic
from sailplane.sim.world import SERVICE, Simulation

_PATH = b"/v1/chat/completions"
_TOKEN = "simulated"  # noqa: S105 nobody else is there


@dataclass(frozen=True, slots=True)
class Engine:
    """How fast a replica is. Prompts are read one after the other; then answers are written side by side, in a batch.

    The figures are llama2-70b's on two A100-80GB, as published with Splitwise (Patel et al., ISCA 2024): 512 tokens of
    prompt in 0.2 s and 8,192 in 3.0 s; 54 ms a token alone, 72 ms in a batch of 32.
    """

    prompt_s: float = 0.000_37  # a token of the prompt
    token_s: float = 0.054  # a token of the answer, alone
    neighbour_s: float = 0.000_57  # more for each other answer in the batch
    max_batch: int = 64


@dataclass(frozen=True, slots=True)
class Clients:
    """What openai-python 2 does unless told otherwise, which other clients do alike."""

    retries: int = 2
    first_pause_s: float = 0.5  # before a retry: doubled each time, less up to a quarter at random
    longest_pause_s: float = 8.0
    connect_timeout_s: float = 5.0  # an address that nobody has answers nothing
    timeout_s: float = 600.0
    round_trip_s: float = 0.05  # through router and redirect, both ways


@dataclass
class Fates:
    """What became of the requests that ended, in the order in which they did. All have one entry a request."""

    came_at: array[float] = field(default_factory=lambda: array("d"))  # seconds since the market's first instant
    latency_s: array[float] = field(
        default_factory=lambda: array("d")
    )  # until the whole answer; inf = never, it failed
    attempts: array[int] = field(default_factory=lambda: array("B"))

    def add(self, came_at: float, latency_s: float, attempts: int) -> None:
        """One request ended."""
        self.came_at.append(came_at)
        self.latency_s.append(latency_s)
        self.attempts.append(attempts)


@dataclass(frozen=True, slots=True)
class _Call:
    """One attempt at a request."""

    request: Request
    number: int  # of the request
    attempt: int
    began_at: float


class _Replica:
    """The engine of one machine, in seconds of the simulation."""

    def __init__(self, speed: Engine, now: float) -> None:
        self._speed = speed
        self._now = now
        self._written = 0.0  # tokens that a call in the batch from the first on would have
        self._reads_until = now
        self._prompts: deque[tuple[float, _Call]] = deque()  # by when they are read
        self._batch: list[tuple[float, int, _Call]] = []  # by what `_written` will be when they are done

    @property
    def in_flight(self) -> int:
        return len(self._prompts) + len(self._batch)

    @property
    def calls(self) -> list[_Call]:
        """All that are inside, oldest first."""
        inside = [call for _, call in self._prompts] + [call for _, _, call in self._batch]
        return sorted(inside, key=lambda call: (call.began_at, call.number))

    def add(self, call: _Call) -> None:
        """A call comes, at the instant that the replica has been advanced to."""
        self._reads_until = max(self._now, self._reads_until) + call.request.prompt_tokens * self._speed.prompt_s
        self._prompts.append((self._reads_until, call))

    def advance(self, now: float) -> list[tuple[float, _Call]]:
        """The calls that were answered until `now`, and when."""
        answered: list[tuple[float, _Call]] = []
        while self.in_flight:
            token_s = self._speed.token_s + self._speed.neighbour_s * max(0, len(self._batch) - 1)
            has_room = self._prompts and len(self._batch) < self._speed.max_batch
            joins_at = max(self._now, self._prompts[0][0]) if has_room else math.inf
            ends_at = self._now + (self._batch[0][0] - self._written) * token_s if self._batch else math.inf
            upto = min(joins_at, ends_at, now)
            self._written += (upto - self._now) / token_s
            self._now = upto
            if upto == ends_at:
                answered.append((upto, heappop(self._batch)[2]))
            elif upto == joins_at:
                _, call = self._prompts.popleft()
                heappush(self._batch, (self._written + call.request.output_tokens, call.number, call))
            else:
                break
        self._now = now
        return answered


class RequestEdge:
    """`world.Edge` for recorded or generated traffic.

    Args:
        traffic: what comes, in seconds since the market's first instant.
        seed: decides which router a client meets, when routers refresh, and pauses.
        routers: how many there are. Each has its own table, up to `refresh_s` old, and its own counts.
        reports_load: whether counts go to the control plane. A service whose number of replicas is fixed reads none.
    """

    def __init__(
        self,
        traffic: Traffic,
        *,
        seed: int,
        routers: int = 2,
        refresh_s: float = 1.0,
        reports_load: bool = True,
        engine: Engine = Engine(),
        clients: Clients = Clients(),
    ) -> None:
        self.fates = Fates()
        self._traffic = traffic.requests
        self._engine, self._clients = engine, clients
        self._refresh_s, self._reports_load = refresh_s, reports_load
        self._random = random.Random(f"edge {seed}")
        self._routers = [
            Router(clock=lambda: self._now, random=self._random.random, first_seq=1, token=_TOKEN)
            for _ in range(routers)
        ]
        self._now = 0.0
        self._start = 0.0
        self._next = 0  # request to come
        self._retries: list[tuple[float, int, _Call]] = []
        self._replicas: dict[str, _Replica] = {}  # by machine
        self._at: dict[str, Machine] = {}  # who has an address
        self._sealed = ""

    def end(self) -> None:
        """Let everything happen that lies before the simulation's end. Requests that are still inside have no fate."""
        self._advance(self._simulation.scheduler.time)

    # --- what the world tells and asks

    @property
    def qps(self) -> float:
        """Requests per second that came in the last minute."""
        before = bisect_left(self._traffic, self._now - self._start - 60.0, key=lambda request: request.at)
        return (self._next - before) / 60.0

    def begin(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._now = self._start = simulation.scheduler.time
        if self._reports_load:
            self._simulation.scheduler.after(self._refresh_s, self._exchange)

    def on_table(self, table: RouteTable | None, now: float) -> None:
        services = {table.service: edge_table.service(_open(table))} if table else {}
        document = {"etag": f"v{table.version if table else 0}", "issued_at": now, "services": services}
        self._sealed = identity.sealed(_TOKEN, json.dumps(document))
        for router in self._routers:
            refreshes_at = now + self._random.random() * self._refresh_s
            self._simulation.scheduler.at(refreshes_at, partial(self._refresh, router))

    def on_machine(self, machine: Machine, happening: Happening, now: float) -> None:
        if happening is Happening.SERVES and machine.id not in self._replicas:
            self._advance(now)
            self._replicas[machine.id] = _Replica(self._engine, now)
            self._at[machine.url] = machine
        elif happening is Happening.DIES and machine.id in self._replicas:
            self._advance(now)
            dead = self._replicas.pop(machine.id)
            if self._at.get(machine.url) is machine:
                del self._at[machine.url]
            for call in dead.calls:
                self._again(call, now, self._pause_s(call))

    def in_flight(self, machine: Machine, now: float) -> int:
        self._advance(now)
        replica = self._replicas.get(machine.id)
        return replica.in_flight if replica else 0

    # --- what routers do

    def _refresh(self, router: Router) -> None:
        self._advance(self._simulation.scheduler.time)
        router.accept(self._sealed)

    def _exchange(self) -> None:
        """Hand over what was counted; what the store does not take goes again next time."""
        self._advance(self._simulation.scheduler.time)
        for number, router in enumerate(self._routers):
            batch = router.batch()
            try:
                if SERVICE in batch.requests:
                    self._simulation.report_load(f"router-{number}", batch.seq, batch.requests[SERVICE])
            except Unreachable:
                continue
            router.acknowledge(batch)
        self._simulation.scheduler.after(self._refresh_s, self._exchange)

    # --- what clients do

    def _advance(self, now: float) -> None:
        """Let everything happen that lies before `now`."""
        while True:
            comes_at = self._traffic[self._next].at + self._start if self._next < len(self._traffic) else math.inf
            again_at = self._retries[0][0] if self._retries else math.inf
            if min(comes_at, again_at) >= now:
                break
            if comes_at <= again_at:
                self._attempt(_Call(self._traffic[self._next], self._next, 1, comes_at))
                self._next += 1
            else:
                self._attempt(heappop(self._retries)[2])
        self._now = now
        for replica in self._replicas.values():
            self._answer(replica)

    def _attempt(self, call: _Call) -> None:
        self._now = call.began_at
        router = self._routers[call.number % len(self._routers)]
        headers = {b"content-length": b"%d" % call.number, b"x-stainless-retry-count": b"%d" % (call.attempt - 1)}
        path = b"/" + SERVICE.encode() + _PATH
        response = router.handle(HttpRequest(b"POST", path, b"", headers, "client", call.number))
        if response.status != 307:
            self._again(call, self._now, _retry_after_s(response))
            return
        url = response.headers[0][1].partition(b"/~")[0].decode()
        machine = self._at.get(url)
        if machine is None or not machine.serves:
            self._again(call, self._now + self._clients.connect_timeout_s, self._pause_s(call))
            return
        replica = self._replicas[machine.id]
        self._answer(replica)
        replica.add(call)

    def _again(self, call: _Call, failed_at: float, pause_s: float) -> None:
        """An attempt has failed."""
        if call.attempt > self._clients.retries:
            self.fates.add(call.request.at, math.inf, call.attempt)
            return
        at = failed_at + pause_s
        heappush(self._retries, (at, call.number, _Call(call.request, call.number, call.attempt + 1, at)))

    def _pause_s(self, call: _Call) -> float:
        pause_s = min(self._clients.first_pause_s * 2.0 ** (call.attempt - 1), self._clients.longest_pause_s)
        return pause_s * (1 - self._random.random() / 4)

    def _answer(self, replica: _Replica) -> None:
        for at, call in replica.advance(self._now):
            in_time = at - call.began_at <= self._clients.timeout_s
            latency_s = at - self._start - call.request.at + self._clients.round_trip_s
            self.fates.add(call.request.at, latency_s if in_time else math.inf, call.attempt)


def _open(table: RouteTable) -> RouteTable:
    """Whom a service lets in is nothing that a simulation asks."""
    return replace(table, routing=replace(table.routing, access="open"))


def _retry_after_s(response: Response) -> float:
    return float(next(value for name, value in response.headers if name == b"retry-after").decode())
