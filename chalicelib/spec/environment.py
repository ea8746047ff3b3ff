"""Environment variables: env files, precedence, and `$VAR` in the parts of a service file where it is replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from chalicelib.errors import Problem, SpecError
from chalicelib.spec.document import MAX_BYTES, Document, dotted, is_portable

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_ASSIGNMENT = re.compile(r"(?:export\s+)?(?P<name>[^=\s]+)\s*=\s*(?P<value>.*)")
_SINGLE_QUOTED = re.compile(r"'(?P<text>[^']*)'\s*(?:#.*)?")
_DOUBLE_QUOTED = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}

# Only these parts are replaced; `setup` and `run` see real environment variables on the replica.
SUBSTITUTED = ("service", "file_mounts", "workdir")


def parse_env_file(text: str) -> dict[str, str]:
    r"""Read dotenv text: `KEY=VALUE` lines, optionally after `export`, with `#` comments.

    'Single quotes' keep everything as it is; "double quotes" know \n, \r, \t and a backslash before any other
    character; without quotes a value ends at ` #`. `$` is never special, and a value is one line.

    Raises:
        SpecError: with the line of every entry that is not of this form, or given twice.
    """
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    problems: list[Problem] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        try:
            name, value = _assignment(entry)
        except ValueError as error:
            problems.append(Problem("env file", str(error), line=number))
            continue
        if name in lines:
            problems.append(Problem("env file", f"{name} is given on line {lines[name]} already", line=number))
        values[name], lines[name] = value, number
    if problems:
        raise SpecError(tuple(problems))
    return values


def _assignment(entry: str) -> tuple[str, str]:
    match = _ASSIGNMENT.fullmatch(entry)
    if match is None:
        raise ValueError("is not of the form KEY=VALUE (an empty value is written KEY=)")
    name, value = match["name"], match["value"]
    if not NAME.fullmatch(name):
        raise ValueError("the name before = may only have letters, digits and underscores, and no digit first")
    return name, _unquoted(value)


def _unquoted(value: str) -> str:
    if not is_portable(value):
        raise ValueError("the value holds a character that no environment can carry")
    if value.startswith("'"):
        match = _SINGLE_QUOTED.fullmatch(value)
    elif value.startswith('"'):
        match = _DOUBLE_QUOTED.fullmatch(value)
    else:
        return re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()
    if match is None:
        raise ValueError("the quotes do not close on this line, or something other than a comment follows them")
    if value.startswith("'"):
        return match["text"]
    return _ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), match["text"])


def resolve(document: Document, overrides: Mapping[str, str]) -> tuple[dict[str, str], list[Problem]]:
    """The final environment, and what is wrong with it.

    As in SkyServe, `true` becomes "True". Numbers keep their spelling (`3.10` is not "3.1"). No value appears in a
    problem: it may be a secret.
    """
    envs_section = document.data.get("envs")
    written = envs_section if isinstance(envs_section, dict) else {}
    names = dict.fromkeys([*written, *overrides])
    envs: dict[str, str] = {}
    problems: list[Problem] = []
    for name in names:
        value = overrides[name] if name in overrides else _written_value(document, name)
        wrong = _what_is_wrong(name, value)
        if wrong is None:
            envs[name] = value or ""
        elif name in written:
            problems.append(document.problem(("envs", name), *wrong))
        else:  # it came from the command line or the env file, which have no line here
            problems.append(Problem(dotted(("envs", name)), *wrong))
    return envs, problems


def _what_is_wrong(name: str, value: str | None) -> tuple[str, str] | None:
    if not NAME.fullmatch(name):
        return "is not a variable's name", "use letters, digits and underscores, and no digit first"
    if value is None:
        return f"{name} has no value", f"write one, or give it with --env {name}=... or --env-file"
    if not is_portable(value):
        return "holds a character that no environment can carry", ""
    return None


def _written_value(document: Document, name: str) -> str | None:
    """The value as text. A list or a map is left to the schema to refuse, and reads as empty here."""
    value = document.data["envs"][name]
    match value:
        case None | str():
            return value
        case bool():
            return str(value)
        case int() | float():
            return document.spellings.get(("envs", name), str(value))
    return ""


def substitute(data: Mapping[str, Any], envs: Mapping[str, str]) -> dict[str, Any]:
    """`data` with `$VAR` and `${VAR}` replaced, once, in the sections that allow it. Unknown names stay as they are.

    Raises:
        SpecError: the result would be larger than a service file may be.
    """
    if sum(_size(data.get(key), envs) for key in SUBSTITUTED) > MAX_BYTES:
        reason = f"is larger than {MAX_BYTES // 1024} KiB once variables are replaced"
        raise SpecError((Problem("", reason),))
    return {key: _replaced(value, envs) if key in SUBSTITUTED else value for key, value in data.items()}


def mentioned(text: str) -> list[str]:
    """The names after each `$` that would be replaced."""
    return [braced or bare for braced, bare in _REFERENCE.findall(text)]


def _size(value: Any, envs: Mapping[str, str]) -> int:
    """How many characters `_replaced` would make of `value`, told without making them."""
    match value:
        case str():
            return len(value) + sum(len(envs.get(found[1] or found[2], "")) for found in _REFERENCE.finditer(value))
        case list():
            return sum(_size(item, envs) for item in value)
        case dict():
            return sum(_size(key, envs) + _size(item, envs) for key, item in value.items())
    return 0


def _replaced(value: Any, envs: Mapping[str, str]) -> Any:
    match value:
        case str():
            return _REFERENCE.sub(lambda found: envs.get(found[1] or found[2], found[0]), value)
        case list():
            return [_replaced(item, envs) for item in value]
        case dict():
            return {_replaced(key, envs): _replaced(item, envs) for key, item in value.items()}
    return value
