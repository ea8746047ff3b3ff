"""What every command shares: its options, and how it prints.

Data goes to stdout, messages to stderr. Piped output has no colour and no truncation, and its columns stay where they are.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import click

from sailplane.cli.exits import Exit

_P = ParamSpec("_P")
_R = TypeVar("_R")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# C0 but tab and line feed, DEL, C1, and what turns the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_NARROWEST = 20  # columns of text that can still be read
_KEY = "sailplane.cli.output"  # in click's context, which a command shares with its parents


@dataclass(frozen=True, slots=True)
class Output:
    """How one run of a command prints."""

    as_json: bool = False
    debug: bool = False
    source: str = ""  # the service file, named in error messages

    def data(self, text: str) -> None:
        """Print the command's result, for people; nothing with `--json`, where `document` speaks instead."""
        if not self.as_json:
            click.echo(plain(text))

    def document(self, document: Mapping[str, Any]) -> None:
        """Print the command's result as its one JSON object; nothing without `--json`."""
        if self.as_json:
            click.echo(json.dumps(document, indent=2, ensure_ascii=False))

    def line(self, document: Mapping[str, Any]) -> None:
        """Print one of many results of a command that goes on, as a line of JSON; nothing without `--json`."""
        if self.as_json:
            click.echo(json.dumps(document, ensure_ascii=False))

    def table(self, heading: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> None:
        """Print aligned columns, never truncated; those named in `right` are flush right. A terminal's are wrapped to fit."""
        cells = [[plain(cell) for cell in row] for row in rows]
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        first, *others = aligned([heading, *cells], [name in right for name in heading], width)
        if not self.as_json:
            click.echo("\n".join([click.style(first, bold=True), *others]))

    def message(self, text: str) -> None:
        """Tell the person at the terminal something that no script reads."""
        click.echo(plain(text), err=True)

    def next(self, *commands: str) -> None:
        """Say what the user will probably want to do now; a program that asked for `--json` knows."""
        if not self.as_json:
            self.message("Next: " + "\n      ".join(commands))

    def confirm(self, question: str) -> bool:
        """Ask, yes being the default. Raises `click.UsageError` where there is no terminal to ask on."""
        if not sys.stdin.isatty():
            raise click.UsageError("There is no terminal to ask on. Add --yes to go on without being asked.")
        return click.confirm(question, err=True, default=True)

    def declined(self) -> NoReturn:
        """End the command to which the user has said no, with exit code 1: a script must not go on as if it were done."""
        self.message("Nothing was changed.")
        raise click.exceptions.Exit(Exit.FAILURE)

    @contextmanager
    def progress(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show `text` while the body runs; calling what is yielded changes it.

        A spinner on a terminal; elsewhere every change is a line on stderr, so that a log of it can be read.
        """
        if not sys.stderr.isatty():
            yield self._changed_lines(text)
            return
        from rich.console import Console  # noqa: PLC0415 - costs 70 ms, wanted on terminals only
        from rich.text import Text  # noqa: PLC0415

        console = Console(stderr=True, no_color=click.get_current_context().color is False or None)

        def fitting(change: str) -> Text:
            # The spinner takes two columns; a wrapped table cannot be read.
            return Text("\n".join(line[: console.width - 2] for line in plain(change).splitlines()))

        with console.status(fitting(text)) as status:
            yield lambda change: status.update(fitting(change))

    def _changed_lines(self, text: str) -> Callable[[str], None]:
        shown: list[str] = []

        def show(change: str) -> None:
            lines = change.splitlines()
            for line in lines:
                if line not in shown:
                    self.message(line)
            shown[:] = lines

        show(text)
        return show


def current() -> Output:
    """The output of the command that is running."""
    found: Output = click.get_current_context().meta.get(_KEY, Output())
    return found


def configure(ctx: click.Context, **changes: Any) -> None:
    """Change how the running command prints: fields of `Output` by name."""
    ctx.meta[_KEY] = replace(ctx.meta.get(_KEY, Output()), **changes)


def options(command: Callable[Concatenate[Output, _P], _R]) -> Callable[_P, _R]:
    """Accept `--json` and `--debug` after the command's name too, and give the command its `Output` as first argument."""

    @click.option(
        "--json",
        "as_json",
        is_flag=True,
        callback=_configure,
        expose_value=False,
        help="Print one JSON document on stdout.",
    )
    @click.option("--debug", is_flag=True, callback=_configure, expose_value=False, help="Show tracebacks.")
    @functools.wraps(command)
    def with_output(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return command(current(), *args, **kwargs)

    return with_output


def plain(text: str) -> str:
    """A text without what would command the terminal: engines, clouds and price lists write much of what is shown.

    Colours are dropped, every other control character shows as a replacement character; a bare carriage return, with which
    progress bars overwrite themselves, ends the line.
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", re.sub("\r\n?", "\n", _COLOUR.sub("", text)))


def aligned(rows: Sequence[Sequence[str]], flush_right: Sequence[bool], width: int | None = None) -> list[str]:
    """Lines of cells padded to their column's width, two spaces between columns, none at the end of a line.

    With a `width`, the last column goes on below itself where it does not fit.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    indent = sum(column + 2 for column in widths[:-1])
    room = widths[-1] if width is None else max(width - indent, _NARROWEST)
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip([*cells, last], widths, flush_right, strict=True)
        ).rstrip()
        for row in rows
        for cells, last in _wrapped(row, room)
    ]


def _wrapped(row: Sequence[str], room: int) -> Iterator[tuple[Sequence[str], str]]:
    """The row's lines: its cells but the last, and of that as much as there is room for."""
    *cells, last = row
    for part in textwrap.wrap(last, room) if len(last) > room else [last]:
        yield cells, part
        cells = [""] * len(cells)


def _configure(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value and parameter.name:
        configure(ctx, **{parameter.name: value})
