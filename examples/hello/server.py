"""A tiny OpenAI-compatible model server: it says hello, tells which replica answered, and can be told to be slow.

Standard library only, so that any `python3` can run it. An example, not a production server.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import uuid
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

MODEL = "hello"


class Server(ThreadingHTTPServer):
    """Takes bursts: the standard library's listen queue of 5 refuses them."""

    request_queue_size = 512
    daemon_threads = True


class Handler(BaseHTTPRequestHandler):
    """The few routes of OpenAI's API that a chat client needs."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every chunk of a stream waits 40 ms for the last one's acknowledgement
    wbufsize = -1  # headers and body of a short answer leave in one packet
    options: ClassVar[argparse.Namespace]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/health":
            self._answer({"status": "ok", "replica": self.options.replica_id})
        elif path == "/v1/models":
            model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "sailplane"}
            self._answer({"object": "list", "data": [model]})
        else:
            self._refuse(HTTPStatus.NOT_FOUND, f"no such path: {path}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        if path != "/v1/chat/completions":
            self._refuse(HTTPStatus.NOT_FOUND, f"no such path: {path}")
            return
        try:
            question = json.loads(body)
            messages = [str(message["content"]) for message in question["messages"]]
        except (ValueError, KeyError, TypeError):
            self._refuse(HTTPStatus.BAD_REQUEST, "the body must be JSON with `messages`, each with `content`")
            return
        time.sleep(float(self.headers.get("X-Hello-Delay", self.options.delay)))
        if question.get("stream"):
            self._stream(question, messages)
        else:
            self._complete(question, messages)

    def _complete(self, question: dict[str, Any], messages: list[str]) -> None:
        words = self._words(messages, question)
        for _ in words:
            self._pace()
        message = {"role": "assistant", "content": "".join(words), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        self._answer({**self._head("chat.completion"), "choices": [choice], "usage": _usage(messages, words)})

    def _stream(self, question: dict[str, Any], messages: list[str]) -> None:
        self._start(HTTPStatus.OK, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        head = self._head("chat.completion.chunk")
        words = self._words(messages, question)
        self._event({**head, "choices": [_delta({"role": "assistant", "content": ""})]})
        for word in words:
            self._pace()
            self._event({**head, "choices": [_delta({"content": word})]})
        self._event({**head, "choices": [_delta({}, "stop")]})
        if (question.get("stream_options") or {}).get("include_usage"):
            self._event({**head, "choices": [], "usage": _usage(messages, words)})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _words(self, messages: list[str], question: dict[str, Any]) -> list[str]:
        """The answer's tokens: one a word. `max_tokens` beyond them fills up with counting."""
        said = messages[-1] if messages else ""
        words = f"Hello from {self.options.replica_id}. You said: {said}".split(" ")
        wanted = question.get("max_completion_tokens") or question.get("max_tokens") or len(words)
        words = (words + [str(number) for number in range(1, wanted - len(words) + 1)])[:wanted]
        return [word if index == 0 else f" {word}" for index, word in enumerate(words)]

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": MODEL}

    def _pace(self) -> None:
        if self.options.tokens_per_second:
            time.sleep(1 / self.options.tokens_per_second)

    def _answer(self, document: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        body = json.dumps(document).encode()
        self._start(status, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        self._answer({"error": error}, status)

    def _start(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("X-Replica-Id", self.options.replica_id)
        self.end_headers()

    def _event(self, document: dict[str, Any]) -> None:
        self._chunk(f"data: {json.dumps(document)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        if self.options.verbose:
            super().log_message(format, *args)


def _delta(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _usage(messages: list[str], words: list[str]) -> dict[str, int]:
    asked = sum(len(message.split()) for message in messages)
    return {"prompt_tokens": asked, "completion_tokens": len(words), "total_tokens": asked + len(words)}


def main() -> None:
    """Serve until killed."""
    env = os.environ
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=int(env.get("SAILPLANE_PORT", "8080")))
    parser.add_argument("--replica-id", default=env.get("SAILPLANE_REPLICA_ID", "nobody"))
    parser.add_argument("--start-delay", type=float, default=float(env.get("HELLO_START_DELAY", "0")), help="seconds")
    parser.add_argument("--delay", type=float, default=float(env.get("HELLO_DELAY", "0")), help="seconds an answer")
    parser.add_argument(
        "--tokens-per-second", type=float, default=float(env.get("HELLO_TOKENS_PER_SECOND", "0")), help="0 = no limit"
    )
    parser.add_argument("--verbose", action="store_true", help="log every request")
    Handler.options = parser.parse_args()
    time.sleep(Handler.options.start_delay)  # a real model loads for minutes
    with Server((Handler.options.host, Handler.options.port), Handler) as server:
        print(f"{Handler.options.replica_id} serves {MODEL} on port {Handler.options.port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
