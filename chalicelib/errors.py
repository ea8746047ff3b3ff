"""One tree of exceptions, named by what the caller should do next.

SailplaneError
├── Invalid            fix the input (SpecError: the YAML)
│   └── NotYet           or wait for what it lacks (NoFeasibleOffer: a machine; SecretsUnusable: a secret)
├── NotFound           name something that exists
├── Exists             choose another name
├── Retry              do the same again later
│   ├── Conflict         somebody else wrote first: load again and decide again
│   ├── LeaseHeld        somebody else is at work on this service: leave
│   └── Unreachable      the store, a provider or an agent did not answer, or throttled
├── Fenced             the lease was lost: stop at once, touch nothing more
└── LaunchError        the cloud refused to launch; its kind says how far away to try again
    ├── NoCapacity       another zone or type
    ├── QuotaExceeded    another region
    └── LaunchRefused    change the service's file: the cloud does not take this request (a field, an image)
        └── Unauthorized    another cloud, and tell the user: credentials are missing or refused
"""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.model import Reason


class SailplaneError(Exception):
    """The root of every error that Sailplane raises on purpose."""


class Invalid(SailplaneError):
    """The input is at fault; sending it again unchanged cannot help."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a specification: where, what, and what to do about it."""

    path: str  # e.g. service.replica_policy.min_replicas
    reason: str
    hint: str = ""
    line: int = 0  # 1-based line of the YAML text, 0 when not known

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.path or 'the file'}: {self.reason}{hint}"


class SpecError(Invalid):
    """A service YAML was refused. `problems` lists everything wrong with it, not the first thing only."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class NotYet(Invalid):
    """What the input needs is not there at the moment: it may be accepted later, unchanged."""


class SecretsUnusable(SpecError, NotYet):
    """A service YAML names secrets that are not there, or not for its service."""


class NoFeasibleOffer(NotYet):
    """Nothing in the enabled market satisfies the request. `suggestions` are nearest things that exist."""

    def __init__(self, message: str, suggestions: tuple[str, ...] = ()) -> None:
        self.suggestions = suggestions
        super().__init__(message)


class NotFound(SailplaneError):
    """There is no such service, replica or version."""


class Exists(SailplaneError):
    """The name is taken."""


class Retry(SailplaneError):
    """Nothing is wrong with the request; the same thing may succeed later."""


class Conflict(Retry):
    """An item changed between reading and writing it. Nothing was written."""


class LeaseHeld(Retry):
    """Another pass holds the service's lease."""


class Unreachable(Retry):
    """A dependency did not answer in time, refused the connection, failed, or throttled."""


class Fenced(SailplaneError):
    """The lease this write was made under has been taken over. Nothing was written."""


class LaunchError(SailplaneError):
    """The cloud refused a launch and nothing was started."""

    reason: Reason


class NoCapacity(LaunchError):
    """No machine of this type in this zone now."""

    reason = Reason.NO_CAPACITY


class QuotaExceeded(LaunchError):
    """The account may not have more in this region."""

    reason = Reason.QUOTA


class LaunchRefused(LaunchError):
    """The cloud rejects a field of the request: asking again unchanged cannot help, other services may fare better.

    `is_regional` when another region of the cloud may take the same request: EC2's images live in regions.
    """

    reason = Reason.LAUNCH_REFUSED

    def __init__(self, message: str, *, is_regional: bool = False) -> None:
        self.is_regional = is_regional
        super().__init__(message)


class Unauthorized(LaunchRefused):
    """Credentials are missing or refused: no place in this cloud will do better, for any service."""
