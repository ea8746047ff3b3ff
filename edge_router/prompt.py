"""What a JSON body in OpenAI's forms says that matters to routing: the model, and how the prompt begins."""

from __future__ import annotations

import json
from collections.abc import Iterator


def decoded(body: bytes | None) -> dict[str, object]:
    """The body's object; an empty one if it is none."""
    try:
        document = json.loads(body or b"")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def model(document: dict[str, object]) -> str:
    """The model that is asked for, "" if none is."""
    name = document.get("model")
    return name if isinstance(name, str) else ""


def beginning(document: dict[str, object], characters: int) -> str:
    """The first characters of the prompt: of chats (`messages`), completions (`prompt`), and what else has an `input`."""
    text = ""
    for piece in _pieces([document.get("messages"), document.get("prompt"), document.get("input")], depth=8):
        text += piece[:characters]
        if len(text) >= characters:
            break
    return text[:characters]


def _pieces(value: object, depth: int) -> Iterator[str]:
    """Texts and token numbers in their order, wherever messages and parts of messages have theirs."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, int):
        yield f" {value}"
    elif isinstance(value, list) and depth:
        for each in value:
            yield from _pieces(each, depth - 1)
    elif isinstance(value, dict) and depth:
        yield from _pieces([value.get("content"), value.get("text")], depth - 1)
