"""Settings of all tests."""

from __future__ import annotations

import gc
import signal

import pytest
from hypothesis import settings

# Who starts the tests in the background (a shell's `&`, some CI) has them ignore Ctrl-C, and with them every child.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# 600,000 objects come with the tests and stay, and each time that Python looked through all of them for garbage took half a
# second: a third of the suite's CPU. Not while they come (see below), then not at them, and not after every 700 new ones.
gc.disable()
gc.set_threshold(10_000, 10, 10)

# A slow machine must not fail a property: how long one example takes is not what it promises.
settings.register_profile("sailplane", deadline=None)
settings.load_profile("sailplane")

# What takes longest begins first, or the others are done and wait for it.
_LONG = ("test_years.py", "e2e", "sim", "agent", "providers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files and directories by how long they take; within one of them nothing moves."""
    items.sort(key=lambda item: next((i for i, name in enumerate(_LONG) if name in item.path.parts), len(_LONG)))


def pytest_collection_finish() -> None:
    """Everything that is there by now stays to the end."""
    gc.freeze()
    gc.enable()
