"""A replica that costs as little as one can: `python replica.py --fd FD`, or `--port PORT`.

The last two segments of the path say what it does: `/instant/` or `/slow/` (100 ms), then `whole` (1 kB in one piece) or
`stream` (10 events, 10 ms apart).
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
from typing import cast

import uvloop

DELAY_S = 0.1
EVENTS = 10
EVENT_S = 0.01

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1024\r\n\r\n" + b"x" * 1024
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = b'21\r\ndata: {"token": "abcdefghijkl"}\n\n\r\n'
_END = b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One request at a time, as clients with a pool send them."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._received, 0, end)
        if len(self._received) < end + 4 + int(length[1] if length else 0):
            return
        target = self._received.split(b" ", 2)[1]
        self._received = b""
        answer = self._stream if b"/stream" in target else self._whole  # SkyServe appends a question mark
        if b"/slow/" in target:
            self._loop.call_later(DELAY_S, answer)
        else:
            answer()

    def _whole(self) -> None:
        self._transport.write(_WHOLE)

    def _stream(self, events: int = 0) -> None:
        if events == EVENTS:
            self._transport.write(_END)
            return
        self._transport.write(_EVENT if events else _HEAD + _EVENT)
        self._loop.call_later(EVENT_S, self._stream, events + 1)


async def serve(listener: socket.socket) -> None:
    """Until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Connection, sock=listener, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int)
    parser.add_argument("--port", type=int, default=0)
    told = parser.parse_args()
    uvloop.run(serve(socket.socket(fileno=told.fd) if told.fd else socket.create_server(("127.0.0.1", told.port))))
