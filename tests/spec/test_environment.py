"""Variables: precedence, env files, substitution."""

from __future__ import annotations

import json
import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import spec
from chalicelib.errors import SpecError
from chalicelib.model import ServiceSpec

NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True)
# Anything a variable can hold: no NUL, no half surrogate pairs.
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


def parse(envs: dict[str, object], post_data: object = None, **overrides: str) -> ServiceSpec:
    probe = {"path": "/", "post_data": post_data if post_data is not None else {}}
    document = {"service": {"readiness_probe": probe}, "resources": {"ports": 80}, "envs": envs}
    return spec.parse(yaml.safe_dump(document), env_overrides=overrides).spec


@given(st.dictionaries(NAMES, VALUES), st.dictionaries(NAMES, VALUES))
def test_overrides_win_over_the_file(written: dict[str, str], given_: dict[str, str]) -> None:
    """Property: the environment is the file's, then whatever was given from outside."""
    assert dict(parse(dict(written), None, **given_).engine.envs) == written | given_


def test_null_needs_an_override() -> None:
    """A variable without a value is accepted once a value is given, an empty one too."""
    assert parse({"TOKEN": None}, TOKEN="").engine.envs == (("TOKEN", ""),)


def test_values_become_text() -> None:
    """Booleans as SkyServe writes them; numbers and other plain words as they are spelled."""
    text = (
        "service: {readiness_probe: /}\nresources: {ports: 80}\n"
        "envs: {A: true, B: off, C: 3.10, D: 0777, E: 2026-01-02, F: 12:30, G: 1_000, H: 1e3, I: 0x1F, J: '', on: 1}\n"
    )
    assert dict(spec.parse(text).spec.engine.envs) == {
        "A": "True",
        "B": "False",
        "C": "3.10",
        "D": "0777",
        "E": "2026-01-02",
        "F": "12:30",
        "G": "1_000",
        "H": "1e3",
        "I": "0x1F",
        "J": "",
        "on": "1",
    }


@given(VALUES, VALUES)
def test_substituted_values_survive_whole(value: str, other: str) -> None:
    """Property: whatever a variable holds — quotes, backslashes, `$` — arrives as it is, in one pass."""
    probe = parse({"V": value, "W": other}, {"a": "$V", "b": ["x${V}y$W"], "${W}k": 1}).probe
    assert probe.post_data is not None
    assert json.loads(probe.post_data) == {"a": value, "b": [f"x{value}y{other}"], f"{other}k": 1}


@given(st.text(string.ascii_letters + "${}_ 0", max_size=20))
def test_unknown_variables_stay(text: str) -> None:
    """Property: without variables nothing is replaced, however much it looks like one."""
    probe = parse({}, {"a": text}).probe
    assert probe.post_data == json.dumps({"a": text})


def test_only_the_sections_that_allow_it_are_substituted() -> None:
    """service, file_mounts and workdir; not setup, run, resources or name."""
    text = """
        name: $DIR
        envs: {DIR: data}
        service: {readiness_probe: "/${DIR}"}
        resources: {ports: 80, image_id: $DIR}
        workdir: ./$DIR
        setup: echo $DIR
        run: serve ${DIR}
    """
    parsed = spec.parse(text)
    engine = parsed.spec.engine
    assert (parsed.spec.probe.path, engine.workdir) == ("/data", "./data")
    assert (engine.setup, engine.run, parsed.name) == ("echo $DIR", "serve ${DIR}", "$DIR")
    assert parsed.spec.resources.groups[0][0].image_id == "$DIR"


def test_file_mounts_are_substituted_in_names_and_values() -> None:
    """Seen through the fingerprint: the substituted file and the one written out are the same service."""
    head = "service: {readiness_probe: /}\nresources: {ports: 80}\nenvs: {M: tiny}\nfile_mounts: "
    one, other = spec.parse(head + "{/m/$M: 's3://b/${M}'}"), spec.parse(head + "{/m/tiny: s3://b/tiny}")
    assert one.spec.fingerprint == other.spec.fingerprint


ENV_FILE = r"""
# a comment
PLAIN=value
export EXPORTED = spaced out  # trailing comment
HASH=a#b
EMPTY=
ONLY_COMMENT= # nothing
SINGLE='as $is \n # here'  # comment
DOUBLE="tab\tquote\" dollar $X back\\slash" # comment
URL=https://user:p=w@host/?a=b
"""


def test_env_file_syntax() -> None:
    """dotenv: export, comments, both kinds of quotes; `$` and later `=` mean nothing."""
    assert spec.parse_env_file("\ufeff" + ENV_FILE.replace("\n", "\r\n")) == {
        "PLAIN": "value",
        "EXPORTED": "spaced out",
        "HASH": "a#b",
        "EMPTY": "",
        "ONLY_COMMENT": "",
        "SINGLE": r"as $is \n # here",
        "DOUBLE": 'tab\tquote" dollar $X back\\slash',
        "URL": "https://user:p=w@host/?a=b",
    }


def test_env_file_errors_have_lines_and_no_values() -> None:
    """Every bad line is reported at once, by its number; what it holds may be secret."""
    text = 'A=1\nhunter2\n9B=hunter2\nC=\'hunter2\nD="hunter2" hunter2\nA=hunter2\nE=hunt\0er2\n'
    with pytest.raises(SpecError) as refused:
        spec.parse_env_file(text)
    assert [problem.line for problem in refused.value.problems] == [2, 3, 4, 5, 6, 7]
    assert "hunter2" not in str(refused.value)
    assert "line 1" in refused.value.problems[4].reason


@given(
    st.dictionaries(NAMES, VALUES.filter(lambda value: "'" not in value and "\n" not in value and "\r" not in value))
)
def test_single_quotes_keep_everything(values: dict[str, str]) -> None:
    """Property: a single-quoted value comes back as it was."""
    assert spec.parse_env_file("\n".join(f"{name}='{value}'" for name, value in values.items())) == values


@given(st.text(max_size=60))
def test_env_file_raises_nothing_else(text: str) -> None:
    """Property: any text is read or refused with SpecError."""
    try:
        values = spec.parse_env_file(text)
    except SpecError:
        return
    assert len(values) <= text.count("=")
