"""An engine that takes its time as a language model does: so long for the prompt, so long for each token.

OpenAI's POST /v1/chat/completions, streamed or not; `max_tokens` is how many it makes. Like vLLM, it sends a stream's headers
before it has a token.

    python token_engine.py PORT PREFILL_MS_PER_1000_TOKENS MS_PER_TOKEN
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiohttp import web


class Engine:
    """Answers as fast as it is told to, and as many at a time as come."""

    def __init__(self, prefill_s: float, token_s: float) -> None:
        self._prefill_s = prefill_s  # for 1,000 tokens
        self._token_s = token_s

    async def complete(self, request: web.Request) -> web.StreamResponse:
        asked: dict[str, Any] = await request.json()
        prompt, wanted = len(asked["messages"][0]["content"]) // 4, int(asked["max_tokens"])  # four letters a token
        if asked.get("stream"):
            return await self._stream(request, prompt, wanted)
        await asyncio.sleep(prompt / 1_000 * self._prefill_s + wanted * self._token_s)
        message = {"role": "assistant", "content": "x" * wanted}
        return web.json_response(_document("chat.completion", message=message, finish_reason="stop"))

    async def _stream(self, request: web.Request, prompt: int, wanted: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        loop = asyncio.get_running_loop()
        first_at = loop.time() + prompt / 1_000 * self._prefill_s
        for number in range(wanted):
            await asyncio.sleep(first_at + number * self._token_s - loop.time())
            await response.write(_event(_document("chat.completion.chunk", delta={"content": "x"}, finish_reason=None)))
        await response.write(_event(_document("chat.completion.chunk", delta={}, finish_reason="stop")))
        await response.write(b"data: [DONE]\n\n")
        return response


def _document(kind: str, **choice: Any) -> dict[str, Any]:
    return {"id": "c", "object": kind, "created": 0, "model": "tokens", "choices": [{"index": 0, **choice}]}


def _event(document: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(document)}\n\n".encode()


async def health(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


if __name__ == "__main__":
    engine = Engine(float(sys.argv[2]) / 1e3, float(sys.argv[3]) / 1e3)
    app = web.Application()
    app.add_routes([web.get("/health", health), web.post("/v1/chat/completions", engine.complete)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
