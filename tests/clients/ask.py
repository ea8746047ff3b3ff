"""One client of those that people have, asking a service one question: prints the answer, a line for each piece of it.

    python ask.py CLIENT plain|stream BASE_URL KEY

Every client is used as its own documentation shows it, with its defaults but for following redirects where that is off.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

QUESTION: dict[str, Any] = {"model": "hello", "messages": [{"role": "user", "content": "good morning"}]}
# A cold service is waited for by redirects, 30 s in all; each of these clients waits longer than that.
PATIENCE_S = 60


def ask_curl(base_url: str, key: str, *, stream: bool) -> Iterator[str]:
    command = ["curl", "-sSfL", "--no-buffer", f"{base_url}/chat/completions", "-H", "Content-Type: application/json"]
    command += ["-H", f"Authorization: Bearer {key}", "-d", json.dumps({**QUESTION, "stream": stream})]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout
        yield from said(curl.stdout, stream=stream)
    if curl.returncode:
        raise SystemExit(f"curl ended with {curl.returncode}")


def ask_requests(base_url: str, key: str, *, stream: bool) -> Iterator[str]:
    import requests  # noqa: PLC0415 one client a process

    body, headers = {**QUESTION, "stream": stream}, {"Authorization": f"Bearer {key}"}
    url = f"{base_url}/chat/completions"
    with requests.post(url, json=body, headers=headers, stream=stream, timeout=PATIENCE_S) as answer:
        answer.raise_for_status()
        yield from said((line.decode() for line in answer.iter_lines()), stream=stream)


def ask_httpx(base_url: str, key: str, *, stream: bool) -> Iterator[str]:
    import httpx  # noqa: PLC0415 same

    body, headers = {**QUESTION, "stream": stream}, {"Authorization": f"Bearer {key}"}
    with (
        httpx.Client(follow_redirects=True) as client,
        client.stream("POST", f"{base_url}/chat/completions", json=body, headers=headers) as answer,
    ):
        answer.raise_for_status()
        yield from said(answer.iter_lines(), stream=stream)


def ask_aiohttp(base_url: str, key: str, *, stream: bool) -> Iterator[str]:
    import aiohttp  # noqa: PLC0415 same

    async def lines() -> list[str]:
        body, headers = {**QUESTION, "stream": stream}, {"Authorization": f"Bearer {key}"}
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.post(f"{base_url}/chat/completions", json=body, headers=headers) as answer,
        ):
            return [line.decode() async for line in answer.content]

    yield from said(asyncio.run(lines()), stream=stream)


def ask_openai(base_url: str, key: str, *, stream: bool) -> Iterator[str]:
    from openai import OpenAI  # noqa: PLC0415 same

    completions = OpenAI(base_url=base_url, api_key=key).chat.completions
    if stream:
        for event in completions.create(**QUESTION, stream=True):
            yield event.choices[0].delta.content or ""
    else:
        yield completions.create(**QUESTION).choices[0].message.content or ""


def ask_litellm(base_url: str, key: str, *, stream: bool) -> Iterator[str]:
    import litellm  # type: ignore[import-not-found]  # noqa: PLC0415 same; it has an environment of its own

    answer: Any = litellm.completion(
        model="openai/hello", messages=QUESTION["messages"], api_base=base_url, api_key=key, stream=stream
    )
    if stream:
        for event in answer:
            yield event.choices[0].delta.content or ""
    else:
        yield answer.choices[0].message.content


def said(lines: Iterable[str], *, stream: bool) -> Iterator[str]:
    """The answer's text in OpenAI's form, or its pieces as they come."""
    if not stream:
        yield json.loads("".join(lines))["choices"][0]["message"]["content"]
        return
    for line in lines:
        event = line.removeprefix("data: ").strip()
        if event and event != "[DONE]":
            yield json.loads(event)["choices"][0]["delta"].get("content") or ""


CLIENTS: dict[str, Callable[..., Iterator[str]]] = {
    "curl": ask_curl,
    "requests": ask_requests,
    "httpx": ask_httpx,
    "aiohttp": ask_aiohttp,
    "openai-python": ask_openai,
    "litellm": ask_litellm,
}

if __name__ == "__main__":
    client, mode, base_url, key = sys.argv[1:]
    for piece in CLIENTS[client](base_url, key, stream=mode == "stream"):
        if piece:
            print(json.dumps(piece), flush=True)  # noqa: T201 its answer
