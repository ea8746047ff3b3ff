"""The engine's log on disk."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replica_agent.log import Log

LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n")), max_size=30)


def test_the_log_is_bounded(tmp_path: Path) -> None:
    """However much an engine says, two files of the limit are all that is kept, and the newest lines are in them."""
    with closing(Log(tmp_path / "replica.log", limit_bytes=1000)) as log:
        for number in range(1000):
            log.write(f"line {number}\n".encode())
        sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
        assert sizes.keys() == {"replica.log", "replica.log.1"}
        assert max(sizes.values()) <= 1000
        assert log.tail(100).splitlines() == [f"line {number}" for number in range(900, 1000)]


@given(lines=LINES, wanted=st.integers(0, 40))
def test_the_tail_is_the_last_lines(tmp_path_factory: pytest.TempPathFactory, lines: list[str], wanted: int) -> None:
    """Across the border between the two files, and no line more than asked for."""
    whole = [f"{line}\n".encode() for line in lines]
    with closing(Log(tmp_path_factory.mktemp("log") / "replica.log", limit_bytes=10_000)) as log:
        for line in whole:
            log.write(line)
        assert log.tail(wanted).encode() == b"".join(whole[len(whole) - min(wanted, len(whole)) :])


def test_a_follower_misses_nothing_at_a_rotation(tmp_path: Path) -> None:
    """Every line once, in order, although the file changes under the reader."""

    async def follow(log: Log) -> bytes:
        log.write(b"line 0\n")
        lines = log.follow(10, finished=lambda: True)
        told = await anext(lines)
        for number in range(1, 60):
            log.write(f"line {number}\n".encode())
            if number == 30:
                told += await anext(lines)
        return told + b"".join([block async for block in lines])

    with closing(Log(tmp_path / "replica.log", limit_bytes=300)) as log:
        told = asyncio.run(follow(log))
    assert told.decode().splitlines() == [f"line {number}" for number in range(60)]
