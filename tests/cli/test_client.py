"""The client's writes when an answer does not come: sent again under the same key, until it does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import pytest

from chalicelib.errors import Exists, LeaseHeld, SailplaneError, Unreachable
from sailplane.cli.client import BUSY_PAUSES_S, LOST_PAUSES_S, UNDER_WAY_PAUSES_S, Client

LOST = b""
REVOKED = json.dumps({"id": "0123456789", "name": "ci"}).encode()


def answered(status: int, body: bytes, media_type: str = "application/problem+json") -> bytes:
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def problem(status: int, slug: str = "") -> bytes:
    return answered(status, json.dumps({"type": f"urn:sailplane:problem:{slug}", "detail": "no"}).encode())


def busy(status: int, wait: str = "") -> bytes:
    """A problem with a Retry-After."""
    return problem(status).replace(b"Connection:", f"Retry-After: {wait}\r\nConnection:".encode(), 1)


DONE = answered(200, REVOKED, "application/json")
UNDER_WAY = problem(409, "in-progress")


@dataclass
class Server:
    """Answers one connection after the other with what it is given, and keeps what it was sent."""

    port: int
    requests: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def keys(self) -> set[str]:
        lines = [line for request in self.requests for line in request.splitlines()]
        return {line for line in lines if line.lower().startswith("idempotency-key:")}

    def client(self) -> Client:
        return Client(lambda: (f"http://127.0.0.1:{self.port}", "k" * 32), self.told.append, self.pauses.append)


@contextmanager
def server(answers: Sequence[bytes]) -> Iterator[Server]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        found = Server(listener.getsockname()[1])

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    found.requests.append(connection.recv(65536).decode())
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield found
        thread.join()


@pytest.mark.parametrize(
    ("answers", "pauses"),
    [
        ([DONE], []),
        ([LOST, DONE], [0.5]),
        ([LOST, UNDER_WAY, UNDER_WAY, DONE], [0.5, 1.0, 1.0]),
        ([answered(504, b"<html>"), problem(502), DONE], [0.5, 1.0]),
    ],
)
def test_a_write_is_sent_until_it_is_answered(answers: list[bytes], pauses: list[float]) -> None:
    """Always under the key that it was first sent with, so that it is done once."""
    with server(answers) as found, found.client() as client:
        assert client.revoke_key("0123456789").id == "0123456789"
    assert len(found.requests) == len(answers)
    assert len(found.keys) == 1
    assert found.pauses == pauses
    assert found.told == ["The control plane's answer got lost; asking for it again."] * answers.count(LOST)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([LOST] * (1 + len(LOST_PAUSES_S)), Unreachable),
        ([problem(502)] * (1 + len(LOST_PAUSES_S)), Unreachable),
        ([problem(503)] * (1 + len(BUSY_PAUSES_S)), Unreachable),
        ([problem(423)] * (1 + len(BUSY_PAUSES_S)), LeaseHeld),
        ([UNDER_WAY] * (1 + len(UNDER_WAY_PAUSES_S)), Exists),
        ([problem(409, "exists")], Exists),
        ([problem(500)], SailplaneError),
    ],
)
def test_a_write_is_given_up_in_the_end(answers: list[bytes], error: type[SailplaneError]) -> None:
    """When nobody answers, and at once when the answer is final."""
    with server(answers) as found, found.client() as client, pytest.raises(error):
        client.revoke_key("0123456789")
    assert len(found.requests) == len(answers)


@pytest.mark.parametrize(
    ("wait", "pause_s"),
    [("3", 3.0), ("0", 1.0), ("", 1.0), ("-5", 1.0), ("86400", 10.0), ("Fri, 31 Dec 1999 23:59:59 GMT", 1.0)],
)
@pytest.mark.parametrize("status", [423, 429, 503])
def test_who_is_asked_to_wait_waits(status: int, wait: str, pause_s: float) -> None:
    """For as long as the control plane says, 10 s at most, and tells what it waits for; whatever was asked."""
    with server([busy(status, wait), DONE]) as found, found.client() as client:
        client.revoke_key("0123456789")
    assert (found.pauses, len(found.keys)) == ([pause_s], 1)
    assert found.told == [f"The control plane is busy: no Asking again in {pause_s:g} s."]


def test_a_question_waits_too() -> None:
    """A list of many pages would otherwise end in the middle."""
    audit = answered(200, b'{"entries": [], "next": null}', "application/json")
    with server([busy(429, "2"), audit]) as found, found.client() as client:
        assert list(client.audit()) == []
    assert found.pauses == [2.0]


def test_two_writes_have_two_keys() -> None:
    """The same command again is another request."""
    with server([DONE, DONE]) as found, found.client() as client:
        client.revoke_key("0123456789")
        client.revoke_key("0123456789")
    assert len(found.keys) == 2


def test_a_question_is_asked_once_and_has_no_key() -> None:
    """Whoever watches asks again by themselves; and where nobody listens nothing is tried again."""
    with server([LOST]) as found, found.client() as client, pytest.raises(Unreachable):
        client.info()
    assert (found.keys, found.pauses) == (set(), [])
    with pytest.raises(Unreachable), found.client() as client:
        client.revoke_key("0123456789")
    assert found.pauses == []
