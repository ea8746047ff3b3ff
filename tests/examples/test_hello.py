"""The example's model server is one that real clients talk to."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from replica_agent.engine import free_port
from tests.waiting import until

SERVER = Path(__file__).parents[2] / "examples" / "hello" / "server.py"
QUESTION: Any = [{"role": "user", "content": "good morning"}]
ANSWER = "Hello from hello-k3f9-0-1. You said: good morning"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The server, run by a bare interpreter: it needs nothing but the standard library."""
    port = free_port()
    command = [sys.executable, "-I", "-S", str(SERVER), "--port", str(port), "--replica-id", "hello-k3f9-0-1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        until(lambda: _is_up(f"http://127.0.0.1:{port}/health"))
        yield f"http://127.0.0.1:{port}"
        server.kill()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_it_lists_its_model(client: openai.OpenAI) -> None:
    """`/v1/models`, which is also its readiness probe."""
    assert [model.id for model in client.models.list()] == ["hello"]


def test_it_answers_whole(client: openai.OpenAI) -> None:
    """With the shape, the finish reason and the usage that the client expects."""
    answer = client.chat.completions.create(model="hello", messages=QUESTION)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (ANSWER, "stop")
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens == 2 + 7


def test_it_streams_word_by_word(client: openai.OpenAI) -> None:
    """Server-sent events that end with the usage, when it is asked for, and `[DONE]`."""
    with client.chat.completions.create(
        model="hello", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    words = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(words) == ANSWER
    assert len([word for word in words if word]) == 7
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 7


def test_its_answer_is_as_long_as_asked(client: openai.OpenAI) -> None:
    """`max_tokens` cuts or fills up, so that long generations can be had."""
    for wanted in (1, 200):
        answer = client.chat.completions.create(model="hello", messages=QUESTION, max_tokens=wanted)
        assert answer.usage
        assert answer.usage.completion_tokens == wanted


def test_it_can_be_told_to_be_slow(url: str) -> None:
    """One request at a time, by header; and every answer names its replica."""
    begun = time.monotonic()
    answer = httpx.post(
        f"{url}/v1/chat/completions", json={"messages": QUESTION}, headers={"X-Hello-Delay": "0.3"}, timeout=10
    )
    assert time.monotonic() - begun >= 0.3
    assert answer.headers["X-Replica-Id"] == "hello-k3f9-0-1"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages": "hello"}'])
def test_nonsense_is_refused(url: str, body: bytes) -> None:
    """400 in OpenAI's own shape, and the server lives on."""
    answer = httpx.post(f"{url}/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert httpx.get(f"{url}/nowhere").status_code == 404


def _is_up(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.ConnectError:
        return False
