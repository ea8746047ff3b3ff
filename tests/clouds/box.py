"""What every cloud in a box has: an endpoint that the cloud's real SDK talks to, a book of its machines, faults on demand.

The boxes differ in what they emulate (`aws/`, `gcp/`, `azure/`); tests and `sailplane local start --clouds` drive all of
them through `Box`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from http.server import ThreadingHTTPServer
from threading import Lock
from typing import Protocol

# The answer of a machine's metadata service: (method, path with query, lower-case headers) -> (status, headers, body).
Metadata = Callable[[str, str, dict[str, str]], tuple[int, dict[str, str], bytes]]


class HttpServer(ThreadingHTTPServer):
    """Takes the SDKs' bursts: the standard library's queue of 5 connections resets some of twenty that come at once."""

    request_queue_size = 256
    daemon_threads = True


class Hypervisor(Protocol):
    """Where a box's machines run."""

    def boot(self, machine_id: str, user_data: str, metadata: Metadata) -> str:
        """Start the machine; its address. `metadata` answers for its metadata service as long as it runs."""

    def destroy(self, machine_id: str) -> None:
        """Take everything of the machine away at once. None there: nothing to do."""

    def is_running(self, machine_id: str) -> bool: ...

    def console(self, machine_id: str) -> str:
        """What the machine wrote, after it is gone too."""


class OnPaper:
    """A hypervisor whose machines have an address and nothing else: for tests of a cloud's API, where nothing need boot."""

    def __init__(self) -> None:
        self.running: dict[str, str] = {}
        self.user_data: dict[str, str] = {}
        self._consoles: dict[str, str] = {}

    def boot(self, machine_id: str, user_data: str, metadata: Metadata) -> str:
        del metadata
        self.user_data[machine_id] = user_data
        number = len(self.user_data)
        self.running[machine_id] = f"127.77.{number // 250}.{number % 250 + 1}"
        return self.running[machine_id]

    def destroy(self, machine_id: str) -> None:
        self.running.pop(machine_id, None)

    def is_running(self, machine_id: str) -> bool:
        return machine_id in self.running

    def write(self, machine_id: str, text: str) -> None:
        """Let the machine have written `text` to its console."""
        self._consoles[machine_id] = self._consoles.get(machine_id, "") + text

    def console(self, machine_id: str) -> str:
        return self._consoles.get(machine_id, "")


class Fault(Enum):
    """What may go wrong with one call, in each cloud's own way of saying so."""

    THROTTLED = "the rate limit's answer; nothing done"
    SERVER_ERROR = "an internal error; nothing done"
    LOST_RESPONSE = "the work is done, then the connection breaks"
    DUPLICATED = "the request is delivered twice; the client gets the second answer"
    UNAUTHORIZED = "the credentials are refused"


@dataclass
class Faults:
    """What a box was told to do. Thread-safe where it counts down."""

    capacity: dict[str, int] = field(
        default_factory=dict
    )  # zone ("" = everywhere) -> how many machines it has room for
    quota: dict[str, int] = field(default_factory=dict)  # region ("" = everywhere) -> how many machines are allowed
    list_lag_s: float = (
        0.0  # how long a new machine is missing from lists (and from a read by id, where clouds do that)
    )
    operation_s: float = 0.0  # how long a long-running operation stays pending, on the box's clock
    answer_after_s: float = 0.0  # real seconds before every answer: a slow cloud
    down: bool = False  # connections are broken off before anything is done
    _once: list[tuple[str, Fault]] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def once(self, operation: str, fault: Fault, times: int = 1) -> None:
        """Let the next `times` calls of an operation ("launch", "list", "terminate", or the cloud's own name) fail."""
        with self._lock:
            self._once += [(operation, fault)] * times

    def take(self, *names: str) -> Fault | None:
        """The fault for a call that is known by any of `names`, used up by being taken."""
        with self._lock:
            for index, (operation, fault) in enumerate(self._once):
                if operation in names:
                    del self._once[index]
                    return fault
        return None


@dataclass(frozen=True)
class Booked:
    """A machine as the cloud's own book has it: the truth, without lag."""

    id: str
    replica_id: str
    region: str
    zone: str
    spot: bool
    running: bool


class Box(Protocol):
    """A cloud in a box."""

    name: str
    endpoint_url: str  # http://<key>@127.0.0.1:<port>
    faults: Faults

    def machines(self) -> list[Booked]:
        """Every machine ever started, those that are gone too."""

    def preempt(self, machine_id: str, notice_s: float) -> None:
        """Give notice in the cloud's own way, and take the (spot) machine `notice_s` seconds later, on the box's clock."""

    def kill(self, machine_id: str) -> None:
        """The machine dies by itself, without notice."""

    def advance(self) -> None:
        """Do what the box's clock says is due: finish operations, take machines whose notice ran out."""

    def close(self) -> None:
        """Stop serving and destroy every machine."""
