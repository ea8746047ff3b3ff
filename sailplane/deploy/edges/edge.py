"""An edge router on another cloud's functions: what is to be there, what is there, and what every cloud can do about it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from chalicelib.errors import SailplaneError

DEPLOYMENT, REGION, CONTENT = "sailplane-deployment", "sailplane-region", "sailplane-content"
_TOKEN = "SAILPLANE_ROUTER_TOKEN"  # noqa: S105 a variable's name

Show = Callable[[str], None]


class EdgeFailed(SailplaneError):
    """The cloud refused, or what it built does not work. The message has its words and what to do."""


class State(StrEnum):
    """How far an edge is."""

    READY = "ready"
    UNFINISHED = "unfinished"  # an interrupted or failed deployment: deploy again, or remove


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an edge is to be: the zip of `infra.edge`, and the environment it runs in."""

    archive: bytes = field(repr=False)
    env: Mapping[str, str] = field(repr=False)

    @property
    def token(self) -> str:
        """The one secret in it."""
        return self.env[_TOKEN]

    def content(self, settings: Mapping[str, Any]) -> str:
        """40 hexadecimal digits that change when zip, environment or the cloud's `settings` do.

        Anybody who may read the cloud's labels sees them, so they are keyed by the token that they also stand for.
        """
        described = json.dumps([hashlib.sha256(self.archive).hexdigest(), dict(self.env), settings], sort_keys=True)
        return hmac.new(self.token.encode(), described.encode(), hashlib.sha256).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class Found:
    """An edge as the cloud has it. `content` is what was deployed, "" when nothing was to its end."""

    cloud: str
    region: str
    name: str
    url: str
    state: State
    content: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that an edge consists of. None of them costs anything while nobody asks the edge."""

    what: str
    name: str


class Edges(Protocol):
    """The edges of one deployment on one cloud.

    All of it may be interrupted anywhere and done again; every method raises `EdgeFailed`, or `Unreachable` when the cloud
    did not answer.
    """

    cloud: str

    def parts(self, region: str) -> tuple[Part, ...]:
        """What an edge there consists of. Asks nobody."""

    def find(self, region: str) -> Found | None:
        """The edge there, or what an interrupted deployment left of one."""

    def is_current(self, found: Found, wanted: Wanted) -> bool:
        """Whether deploying would change nothing."""

    def deploy(self, region: str, wanted: Wanted, show: Show) -> Found:
        """Make the edge, or bring it up to date. What fails before it has ever served is taken away again."""

    def remove(self, region: str, show: Show) -> bool:
        """Take everything of the edge away; False when nothing was there."""

    def edges(self) -> tuple[Found, ...]:
        """All edges of the deployment on this cloud."""


def environment(control_url: str, token: str, cloud: str, region: str) -> dict[str, str]:
    """What `edge_router.platforms.settings` reads."""
    return {"SAILPLANE_CONTROL_URL": control_url, _TOKEN: token, "SAILPLANE_LOCATION": f"{cloud}/{region}"}


def digest(*parts: str) -> str:
    """Hexadecimal digits for names that must be unique in the whole cloud, or short."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def rolled_back(error: SailplaneError, undo: Callable[[], object]) -> EdgeFailed:
    """`error` after `undo` has been tried, saying what became of that."""
    try:
        undo()
    except SailplaneError as second:
        return EdgeFailed(f"{error} Something may be left ({second}): deploy again, or run sailplane edge remove.")
    return EdgeFailed(f"{error} Nothing was left behind.")
