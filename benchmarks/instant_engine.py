"""An engine that answers every request at once with the same small JSON document: what is left is what stands before it.

python instant_engine.py PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

_BODY = b'{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"x"}}]}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


class Instant(asyncio.Protocol):
    """Understands only what the benchmark sends: a head with a Content-Length, and a body of that length, one at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head.lower()):
            self._received = b""
            self._transport.write(_ANSWER)


def _length(head: bytes) -> int:
    _, name, rest = head.partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if name else 0


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
