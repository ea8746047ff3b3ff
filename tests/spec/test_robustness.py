"""Whatever is sent, the answer is a service or a SpecError."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalicelib import spec
from chalicelib.errors import Problem, SpecError

CORPUS = [path.read_text() for path in sorted(Path(__file__).with_name("corpus").glob("*.yaml"))]
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    PLAIN | st.sampled_from(["A100:8", "80GB+", "8000-8010", "aws/us-east-1", "/health", "$A", "32+"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def read_or_refused(text: str) -> None:
    problems = problems_of(text)
    lines = len(re.split("\r\n|[\r\n\x85\u2028\u2029]", text))  # YAML 1.1 has five line breaks
    assert all(problem.reason for problem in problems)
    assert all(0 <= problem.line <= lines + 1 for problem in problems)
    assert str(SpecError(problems)).encode() or not problems


def problems_of(text: str) -> tuple[Problem, ...]:
    try:
        spec.parse(text, known_accelerators=["A100", "L4"])
    except SpecError as refused:
        return refused.problems
    return ()


HUGE = "0x" + "f" * 5_000
SOUND = "service: {readiness_probe: /}\nresources: {ports: 80}\nrun: x\n"


@pytest.mark.parametrize(
    "text",
    [
        f"service: {{readiness_probe: /, replicas: {HUGE}}}",
        f"service: {{readiness_probe: {{path: /, timeout_seconds: {HUGE}}}}}",
        f"service: {{readiness_probe: {{path: /, post_data: {{a: {HUGE}}}}}}}",
        f"service: {{readiness_probe: /}}\nresources: {{ports: {HUGE}}}",
        f"service: {{readiness_probe: /}}\nresources: {{disk_size: {HUGE}}}",
        f"service: {{readiness_probe: /}}\nresources: {{accelerators: {{L4: {HUGE}}}}}",
        f"{SOUND}envs: {{A: {HUGE}}}",
    ],
)
def test_a_number_of_thousands_of_digits_is_refused(text: str) -> None:
    """Python refuses to write one as text, which must not surface as a defect of ours."""
    assert "is too large" in str(SpecError(problems_of(text)))


def test_variables_do_not_make_a_small_file_large() -> None:
    """64 KB in which 30 KB are replaced for every `$A` would take a gigabyte."""
    text = f"envs: {{A: {'a' * 30_000}}}\nservice: {{readiness_probe: '/{'$A' * 10_000}'}}\nresources: {{ports: 80}}\nrun: x"
    assert [problem.reason for problem in problems_of(text)] == ["is larger than 64 KiB once variables are replaced"]


def test_endless_lists_of_ports_are_refused() -> None:
    """4,500 ranges took half a minute of a control plane that has a minute for everything."""
    text = SOUND.replace("80", f"[{', '.join(['1-65535'] * 4_500)}]")
    assert ["at most 100" in problem.reason for problem in problems_of(text)] == [True]


@given(st.text(max_size=200) | st.text("[]{}:,-&*!|>'\"%@`#? \n\tax<=0", max_size=60))
@example("\r\x850")
def test_any_text(text: str) -> None:
    """Property: arbitrary text, and text of YAML's own characters."""
    read_or_refused(text)


@settings(max_examples=200)
@given(st.data())
def test_mutated_files(data: st.DataObject) -> None:
    """Property: a good file with a piece cut out, doubled or replaced."""
    text = data.draw(st.sampled_from(CORPUS))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    piece = data.draw(
        st.sampled_from(["", text[start:end] * 2, "\0", "- ", ": ", "&a ", "*a", "!!int ", "\n"]) | st.text()
    )
    read_or_refused(text[:start] + piece + text[end:])


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for step, inner in steps for place in places(inner, (*path, step)))]


@settings(max_examples=150)
@given(st.data())
def test_any_value_in_any_place(data: st.DataObject) -> None:
    """Property: each value of a good file replaced by any other value, of any type."""
    document = yaml.safe_load(data.draw(st.sampled_from(CORPUS)))
    *path, last = data.draw(st.sampled_from(places(document)[1:]))
    inner = document
    for step in path:
        inner = inner[step]
    inner[last] = data.draw(ANYTHING)
    read_or_refused(yaml.safe_dump(document, allow_unicode=True))


def test_parsing_is_quick() -> None:
    """A usual file takes a few milliseconds, so that every pass of a Lambda may parse one (bound: 10 times that)."""
    spec.parse(CORPUS[0])
    started = time.process_time()
    for _ in range(5):
        spec.parse(CORPUS[0])
    assert (time.process_time() - started) / 5 < 0.05


def test_imports_pydantic_and_yaml_only() -> None:
    """The spec is read in functions whose cold start is paid by requests: no SDK comes with it."""
    code = "import sys, chalicelib.spec; print(*{name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"boto3", "botocore", "pynamodb", "httpx", "aiohttp", "chalice", "click", "dotenv"} & set(loaded)
    assert {"pydantic", "yaml", "chalicelib"} <= set(loaded)


@pytest.mark.parametrize("text", ["\ud800", "run: \ud800", "\ufeffrun: x", "run: \u2028"])
def test_odd_characters(text: str) -> None:
    """Half surrogate pairs, byte order marks and odd line ends end in a SpecError, not in an encoding error."""
    with pytest.raises(SpecError):
        spec.parse(text)
