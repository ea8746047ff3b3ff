"""However bytes are cut on the way, and whoever leaves when: each request gets its own answer, whole, or none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agent.running import before, granted

MANY = 300_000  # more than a transport holds before it lets the other side wait


@dataclass(frozen=True)
class Ask:
    """A request, how its body is framed, and how the engine shall frame the answer."""

    number: int
    method: str
    size: int
    is_chunked: bool
    answer: str  # length, chunked or close
    answer_size: int

    @property
    def body(self) -> bytes:
        return (b"%d." % self.number) * (self.size // 2)

    @property
    def wanted(self) -> bytes:
        """What the engine answers: the request's body, counted, and so much more."""
        return b"%s %d %d " % (self.method.encode(), self.number, len(self.body)) + b"x" * self.answer_size

    def raw(self) -> bytes:
        target = granted(self.method, f"/{self.number}/{self.answer}/{self.answer_size}")
        framing = "Transfer-Encoding: chunked" if self.is_chunked else f"Content-Length: {len(self.body)}"
        head = f"{self.method} {target} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode()
        if not self.is_chunked:
            return head + self.body
        parts = [self.body[at : at + 70_000] for at in range(0, len(self.body), 70_000)]
        return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


sizes = st.sampled_from([0, 10, 1_000, MANY])
asks = st.lists(
    st.tuples(
        st.sampled_from(["GET", "POST", "PUT"]),
        sizes,
        st.booleans(),
        st.sampled_from(["length", "chunked", "close"]),
        sizes,
    ),
    min_size=1,
    max_size=4,
).map(lambda drawn: [Ask(number, *each) for number, each in enumerate(drawn)])


@asynccontextmanager
async def agent(**patience: float) -> AsyncIterator[int]:
    """The port of an agent's server before an engine; both are gone at the end, and all their connections."""
    conversations: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.add(asyncio.create_task(converse(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    async with server, before(server.sockets[0].getsockname()[1], **patience) as port:
        yield port
    await asyncio.gather(*conversations)


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Understands what the agent sends, and nothing more."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head, body = await read_message(reader)
            method, target, _ = head.split(b"\r\n")[0].split(b" ")
            _, number, framing, size = target.split(b"/")
            answer = b"%s %s %d " % (method, number, len(body)) + b"x" * int(size)
            lines = {
                b"length": b"Content-Length: %d\r\n" % len(answer),
                b"chunked": b"Transfer-Encoding: chunked\r\n",
                b"close": b"",
            }
            writer.write(b"HTTP/1.1 200 OK\r\n" + lines[framing] + b"\r\n")
            for at in range(0, len(answer), 50_000):
                part = answer[at : at + 50_000]
                writer.write(b"%x\r\n%b\r\n" % (len(part), part) if framing == b"chunked" else part)
                await writer.drain()
            if framing == b"chunked":
                writer.write(b"0\r\n\r\n")
            if framing == b"close":
                break
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    if b"transfer-encoding" not in fields:
        return head, await reader.readexactly(int(fields.get(b"content-length", b"0")))
    parts = []
    while size := int(await reader.readuntil(b"\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readuntil(b"\n")
    await reader.readuntil(b"\n")
    return head, b"".join(parts)


@settings(max_examples=60, deadline=None)
@given(asks, st.lists(st.integers(1, 100_000), max_size=20))
def test_every_request_gets_its_own_answer_whole(asked: list[Ask], cuts: list[int]) -> None:
    """Sent all at once, in pieces that end anywhere, with bodies and answers framed in every way."""
    raw = b"".join(each.raw() for each in asked)

    async def play() -> list[bytes]:
        async with agent() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)

            async def send() -> None:
                at = 0
                for cut in [*cuts, len(raw)]:
                    writer.write(raw[at : at + cut])
                    at += cut
                    await writer.drain()

            sending = asyncio.create_task(send())
            answers = [(await read_message(reader))[1] for _ in asked]
            await sending
            writer.close()
            await writer.wait_closed()
            return answers

    assert asyncio.run(play()) == [each.wanted for each in asked]


@settings(max_examples=60, deadline=None)
@given(asks, st.integers(0, 2 * MANY), st.integers(0, 3 * MANY))
def test_whoever_leaves_takes_nothing_of_others_along(asked: list[Ask], sent: int, read: int) -> None:
    """Clients that leave anywhere, in what they send or in what they are sent, leave nothing behind that the next one meets."""
    raw = b"".join(each.raw() for each in asked)
    last = Ask(7, "POST", 1_000, is_chunked=False, answer="length", answer_size=1_000)

    async def play() -> list[bytes]:
        async with agent() as port:
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(raw[:sent])
                left = min(read, sum(len(each.wanted) for each in asked)) if sent >= len(raw) else 0
                with suppress(asyncio.IncompleteReadError):
                    await reader.readexactly(left)
                writer.transport.abort()
            answers = []
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(last.raw())
                answers.append((await read_message(reader))[1])
                writer.close()
                await writer.wait_closed()
            return answers

    assert asyncio.run(play()) == [last.wanted] * 3


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", b""),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 401 "),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", b"HTTP/1.1 401 "),
    ],
    ids=["nothing", "half a head", "a request", "half a refused body"],
)
def test_whoever_says_nothing_more_is_let_go(raw: bytes, answer: bytes) -> None:
    """A connection costs a socket, so it is not kept for ever; what was asked on it is answered."""

    async def play() -> bytes:
        async with agent(keepalive_s=0.1, linger_s=0.1, sweep_s=0.01) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw)
            async with asyncio.timeout(10):
                told = await reader.read()
            writer.close()
            await writer.wait_closed()
            return told

    assert asyncio.run(play())[:13] == answer
