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
    @click.option("--secret", multiple=True, hidden=True, expose_value=False, callback=_refuse)
    @click.option("--secret-file", hidden=True, expose_value=False, callback=_refuse)
    @functools.wraps(command)
    def with_inputs(*args: Any, file: IO[str], env: tuple[str, ...], env_file: IO[str] | None, **others: Any) -> _R:
        from_file = _env_file(env_file) if env_file else {}
        output.configure(click.get_current_context(), source=file.name)
        return command(*args, text=_read(file), envs=from_file | _pairs(env), **others)

    return with_inputs


def _refuse(_ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    """SkyServe's way to give secrets: with each start, and on the command line. Nothing of what was given is repeated."""
    if value:
        raise click.UsageError(
            f"{parameter.opts[0]} is not taken: texts on a command line are in your shell's history, and everybody on this "
            "machine can see them. Keep each of them once, with `sailplane secrets set NAME --service SERVICE`, and write into the file "
            "`secrets: {NAME: }`."
        )


def _env_file(file: IO[str]) -> dict[str, str]:
    from chalicelib.spec import parse_env_file  # noqa: PLC0415 - pydantic costs 100 ms, few use env files

    output.configure(click.get_current_context(), source=file.name)
    return parse_env_file(_read(file))


def _pairs(assignments: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for number, assignment in enumerate(assignments, start=1):
        key, equals, value = assignment.partition("=")
        # By number, not by text: what stands there may be a secret.
        if not equals:
            raise click.BadParameter(f"entry {number} is not of the form KEY=VALUE", param_hint="--env")
        if not key.isidentifier():
            rule = "letters, digits and _, no digit first"
            raise click.BadParameter(f"the KEY of entry {number} is no variable's name: {rule}", param_hint="--env")
        pairs[key] = value
    return pairs


def _read(file: IO[str]) -> str:
    try:
        return file.read()
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{file.name} is not UTF-8 text", param_hint=file.name) from error
