"""From an error to what its user sees: what happened, where, what to do next, and the exit code. Nowhere else."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import IO, Any

import click

from chalicelib import errors
from sailplane.cli import output
from sailplane.cli.exits import Exit
from sailplane.deploy.account import CloudUnreachable, NoAccess


class ServiceFailed(errors.SailplaneError):
    """The command did its work and the service it waited for failed."""


class NoMachine(errors.SailplaneError):
    """The command did its work, and no cloud gives the service a machine now."""


class NoWebhook(errors.NotFound):
    """There is no such webhook."""


class NoTrust(errors.NotFound):
    """There is no such trust."""


class NoKey(errors.NotFound):
    """There is no such endpoint key."""


class NoSecret(errors.NotFound):
    """There is no such secret."""


class NoDeployment(errors.NotFound):
    """There is no such control plane in the account."""

    def __init__(self, message: str, *advice: str) -> None:
        super().__init__(message)
        self.advice = advice


class Taken(errors.Exists):
    """The name is taken, or the place; `advice` is what to run instead."""

    def __init__(self, message: str, *advice: str) -> None:
        super().__init__(message)
        self.advice = advice


class NoAdminKey(errors.NotFound):
    """There is no such admin key."""


class NotRunning(errors.Unreachable):
    """The local stack does not run."""


class NamedAway(errors.Unreachable):
    """The control plane that --url or SAILPLANE_URL names does not answer."""


class Away(errors.Unreachable):
    """A control plane that is not on this machine does not answer."""


class Refused(errors.SailplaneError):
    """The control plane's 403: our key is not good for this."""


class UnknownKey(Refused):
    """The control plane's 401: our key is none of its own."""


class NotTrusted(errors.SailplaneError):
    """The control plane gives no key for this job's identity."""


# The first class that fits decides: (class, exit code, what to try next).
_ENDINGS: tuple[tuple[type[errors.SailplaneError], Exit, tuple[str, ...]], ...] = (
    (errors.Invalid, Exit.INVALID, ()),
    (NoAdminKey, Exit.NOT_FOUND, ("sailplane admin-keys list",)),
    (NoKey, Exit.NOT_FOUND, ("sailplane keys list",)),
    (NoWebhook, Exit.NOT_FOUND, ("sailplane webhook list",)),
    (NoTrust, Exit.NOT_FOUND, ("sailplane trust list",)),
    (NoSecret, Exit.NOT_FOUND, ("sailplane secrets list",)),
    (NoDeployment, Exit.NOT_FOUND, ("sailplane bootstrap aws --deployment NAME --region REGION",)),
    (errors.NotFound, Exit.NOT_FOUND, ("sailplane status",)),
    (errors.Exists, Exit.CONFLICT, ("sailplane status",)),
    (errors.Conflict, Exit.CONFLICT, ("run the same command again",)),
    (errors.LeaseHeld, Exit.CONFLICT, ("run the same command again in a few seconds",)),
    (CloudUnreachable, Exit.UNREACHABLE, ("run the same command again: it goes on from there",)),
    (NotRunning, Exit.UNREACHABLE, ("sailplane local start --detach", "sailplane connect aws --deployment NAME")),
    (
        NamedAway,
        Exit.UNREACHABLE,
        ("run the same command again", "without SAILPLANE_URL and --url, the control plane connected to is asked"),
    ),
    (Away, Exit.UNREACHABLE, ("run the same command again", "sailplane check aws", "sailplane connect local")),
    (errors.Unreachable, Exit.UNREACHABLE, ("sailplane local status", "sailplane local start --detach")),
    (
        UnknownKey,
        Exit.DENIED,
        ("set SAILPLANE_KEY to a key that is good here", "sailplane connect aws --deployment NAME"),
    ),
    (
        Refused,
        Exit.DENIED,
        ("ask whoever has the root key for one that may: sailplane admin-keys create NAME --scope SCOPE",),
    ),
    (NotTrusted, Exit.DENIED, ("sailplane trust list",)),
    (NoAccess, Exit.DENIED, ()),  # whose message says how to get it
    (ServiceFailed, Exit.SERVICE_FAILED, ()),
    (NoMachine, Exit.NO_MACHINE, ()),
    (errors.SailplaneError, Exit.FAILURE, ()),
)

_BY_STATUS: dict[int, type[errors.SailplaneError]] = {
    400: errors.Invalid,
    401: UnknownKey,
    403: Refused,
    404: errors.NotFound,
    409: errors.Exists,
    412: errors.Conflict,
    413: errors.Invalid,
    422: errors.Invalid,
    423: errors.LeaseHeld,
    429: errors.Unreachable,
    502: errors.Unreachable,
    503: errors.Unreachable,
    504: errors.Unreachable,
}

# Other problems have a list of that name too; what it names is not in the service file.
_SPEC_PROBLEM = "urn:sailplane:problem:spec"


def from_problem(status: int, document: Mapping[str, Any]) -> errors.SailplaneError:
    """The error that the control API meant by an HTTP status and its problem+json body (RFC 9457)."""
    detail = str(document.get("detail") or document.get("title") or f"the control plane answered {status}")
    if document.get("type") == _SPEC_PROBLEM:
        return errors.SpecError(tuple(_problem(entry) for entry in document["problems"]))
    if suggestions := document.get("suggestions"):
        return errors.NoFeasibleOffer(detail, tuple(suggestions))
    return _BY_STATUS.get(status, errors.SailplaneError)(detail)


def exit_code(error: errors.SailplaneError) -> Exit:
    """What the process ends with after `error`."""
    return _ending(error)[0]


@contextmanager
def shown() -> Iterator[None]:
    """End the command with a message and an exit code when it fails or is interrupted."""
    try:
        yield
    except errors.SailplaneError as error:
        if output.current().debug:
            traceback.print_exception(error)
        raise _Failed(error) from error
    except (KeyboardInterrupt, click.Abort) as stop:
        click.echo("\nInterrupted.", err=True)
        raise click.exceptions.Exit(Exit.INTERRUPTED) from stop


class _Failed(click.ClickException):
    """How click is told to print an error of ours."""

    def __init__(self, error: errors.SailplaneError) -> None:
        super().__init__(output.plain(str(error)))
        self.error = error
        self.out = output.current()
        code, self.next = _ending(error)
        self.exit_code = int(code)  # type: ignore[misc]  # click's own way to set it: a class variable by default

    def show(self, file: IO[Any] | None = None) -> None:
        text = json.dumps(self._document()) if self.out.as_json else "\n".join(self._lines())
        click.echo(text, file=file, err=True, color=self.show_color)

    def _lines(self) -> Iterator[str]:
        prefix = click.style("Error:", fg="red")
        match self.error:
            case errors.SpecError(problems=problems):
                many = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
                yield f"{prefix} {self.out.source or 'the service file'} has {many}; nothing was changed."
                yield from (f"  {_where(self.out.source, problem)}" for problem in problems)
            case _:
                yield f"{prefix} {self.message}"
        yield from _bullets("Nearest that exist:", getattr(self.error, "suggestions", ()))
        yield from _bullets("Next:", self.next)

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"error": self.message, "exit_code": self.exit_code}
        if isinstance(self.error, errors.SpecError):
            document["problems"] = [asdict(problem) for problem in self.error.problems]
        if isinstance(self.error, errors.NoFeasibleOffer):
            document["suggestions"] = list(self.error.suggestions)
        return document


def _ending(error: errors.SailplaneError) -> tuple[Exit, tuple[str, ...]]:
    code, hints = next((code, hints) for kind, code, hints in _ENDINGS if isinstance(error, kind))
    return code, getattr(error, "advice", ()) or hints


def _problem(entry: Mapping[str, Any]) -> errors.Problem:
    return errors.Problem(
        path=str(entry.get("path", "")),
        reason=str(entry.get("reason", "")),
        hint=str(entry.get("hint", "")),
        line=int(entry.get("line") or 0),
    )


def _where(source: str, problem: errors.Problem) -> str:
    if source and problem.line:
        return f"{source}:{problem.line}: {replace(problem, line=0)}"
    return str(problem)


def _bullets(title: str, entries: Sequence[str]) -> Iterator[str]:
    if entries:
        yield title
        yield from (f"  {entry}" for entry in entries)
