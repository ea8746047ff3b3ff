"""What commands that take a service file accept: FILE, `--env` and `--env-file`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import IO, Any, TypeVar

import click

from sailplane.cli import output

_R = TypeVar("_R")
_TEXT_FILE = click.File(encoding="utf-8")


def service_file(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command the arguments `text`, FILE's content, and `envs`, in which `--env` beats `--env-file`.

    FILE may be `-` for stdin. Error messages name it from then on.
    """

    @click.argument("file", type=_TEXT_FILE)
    @click.option("--env", multiple=True, metavar="KEY=VALUE", help="Set one of the file's envs; may be repeated.")
    @click.option("--env-file", type=_TEXT_FILE, help="Set the file's envs from lines of KEY=VALUE.")
    @functools.wraps(command)
    def with_inputs(*args: Any, file: IO[str], env: tuple[str, ...], env_file: IO[str] | None, **others: Any) -> _R:
        output.configure(click.get_current_context(), source=file.name)
        envs = _pairs("--env-file", _assignments(env_file)) if env_file else {}
        return command(*args, text=_read(file), envs=envs | _pairs("--env", env), **others)

    return with_inputs


def _assignments(file: IO[str]) -> list[str]:
    """The lines of a .env file that say something, without `export` and without quotes around values."""
    lines = [line.strip().removeprefix("export ") for line in _read(file).splitlines()]
    return [_unquoted(line) for line in lines if line and not line.startswith("#")]


def _unquoted(line: str) -> str:
    key, equals, value = (part.strip() for part in line.partition("="))
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return key + equals + (value[1:-1] if quoted else value)


def _pairs(option: str, assignments: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for number, assignment in enumerate(assignments, start=1):
        key, equals, value = assignment.partition("=")
        if not equals or not key.isidentifier():
            # By number, not by text: what stands there may be a secret.
            raise click.BadParameter(f"entry {number} is not of the form KEY=VALUE", param_hint=option)
        pairs[key] = value
    return pairs


def _read(file: IO[str]) -> str:
    try:
        return file.read()
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{file.name} is not UTF-8 text", param_hint=file.name) from error
