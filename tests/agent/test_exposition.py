"""What engines export is read as they write it, and what is no number is not guessed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replica_agent.exposition import total
from replica_agent.load import QUEUE_DEPTH

TEXTS = Path(__file__).parent / "metrics"
NAMES = dict(zip(("vllm", "tgi", "sglang"), QUEUE_DEPTH, strict=True))


@pytest.mark.parametrize(("engine", "waiting"), [("vllm", 15.0), ("tgi", 7.0), ("sglang", 2826.0)])
def test_each_engines_queue_is_found_by_its_name(engine: str, waiting: float) -> None:
    """In a text of the engine's own shape, summed over its labels; no other engine's name is in it."""
    text = (TEXTS / f"{engine}.txt").read_text()
    assert {name: total(text, name) for name in QUEUE_DEPTH} == {
        name: waiting if name == NAMES[engine] else None for name in QUEUE_DEPTH
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m 1", 1.0),
        ('m 1\nm{a="b"} 2\n', 3.0),
        ("m\t1.5e1 1395066363000\r\n", 15.0),
        ("m {} 2", 2.0),
        ('m{a="} 9 \\" \\\\",b="{"} 4', 4.0),
        ('m{a="x",} 4', 4.0),
        ("m +2", 2.0),
        ("# m 5\nm 1", 1.0),
        ("m -2\nm 3", 1.0),
        ("", None),
        ("# TYPE m gauge", None),
        ("m_total 5\nmm 5\nn 5", None),
        ("m", None),
        ("m one", None),
        ("m 1 2 3", None),
        ("m NaN", None),
        ("m +Inf", None),
        ("m 1e999", None),
        ('m{a="b"} 1.7e308\nm{a="c"} 1.7e308', None),
        ("m -1", None),
        ('m{a="b} 1', None),
        ('m{a="b"', None),
        ("m 1\nm NaN", None),
        ("m 1\nm{} what", None),
        ("<html><body>m 1</body></html>", None),
    ],
)
def test_a_text_is_a_number_or_unknown(text: str, expected: float | None) -> None:
    """All samples of the name count, or none does: a sum that leaves one out would be a guess."""
    assert total(text, "m") == expected


LABEL = st.tuples(st.from_regex(r"[a-z_]{1,4}", fullmatch=True), st.text(max_size=8))


@given(st.lists(st.tuples(st.lists(LABEL, max_size=3), st.integers(0, 10**6)), min_size=1, max_size=5))
def test_any_label_value_is_passed_over(samples: list[tuple[list[tuple[str, str]], int]]) -> None:
    """Braces, quotes, blanks, line ends: escaped as the format says, they never reach the number."""

    def written(labels: list[tuple[str, str]]) -> str:
        escaped = [(key, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for key, value in labels]
        return ",".join(f'{key}="{value}"' for key, value in escaped)

    lines = [f"m{{{written(labels)}}} {value}" for labels, value in samples]
    assert total("\n".join(lines), "m") == sum(value for _, value in samples)


@given(st.text())
def test_whatever_stands_there_is_a_load_or_unknown(text: str) -> None:
    """Never an exception, nothing negative, nothing infinite."""
    amount = total(f"m {text}", "m")
    assert amount is None or 0 <= amount < math.inf
