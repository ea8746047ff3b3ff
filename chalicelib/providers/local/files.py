"""Small files that several processes share: JSON written whole or not at all, and locks that the kernel takes back."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process at the latest. Waits for whoever holds it."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write(path: Path, document: Mapping[str, object]) -> None:
    """Write a JSON file, readable by its owner only, all of it or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file)
    draft.replace(path)


def read(path: Path) -> Mapping[str, Any] | None:
    """What a JSON file holds; None while it does not exist or is empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    if not text:
        return None
    document: Mapping[str, Any] = json.loads(text)
    return document
