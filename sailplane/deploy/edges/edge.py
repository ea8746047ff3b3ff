"""An edge router on another cloud's functions: what is to be there, what is there, and what every cloud can do about it."""

from __future__ import annotations

import hashlib
import hmac
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
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
    """One thing that an edge consists of, and what it costs while nobody asks the edge.

    Nothing, but for what is stored: some 5 MB of packages ($0.0001 a month at Azure), and the image that Google builds, some
    0.1 GB ($0.01 a month, once the 0.5 GB that are free are used up).
    """

    what: str
    name: str
    idle_usd_per_month: float = 0.0


class Edges(Protocol):
    """The edges of one deployment on one cloud.

    All of it may be interrupted anywhere and done again; every method raises `EdgeFailed`, `NoAccess` without
    credentials, or `CloudUnreachable` when the cloud did not answer.
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


def archive(cloud: str) -> bytes:
    """The zip that a cloud's functions take."""
    from infra import edge  # noqa: PLC0415 wanted by one command only

    with tempfile.TemporaryDirectory(prefix="sailplane-") as directory:
        return edge.build(cloud, Path(directory)).read_bytes()


def environment(control_url: str, token: str, cloud: str, region: str) -> dict[str, str]:
    """What `edge_router.platforms.settings` reads."""
    return {"SAILPLANE_CONTROL_URL": control_url, _TOKEN: token, "SAILPLANE_LOCATION": f"{cloud}/{region}"}


def digest(*parts: str) -> str:
    """Hexadecimal digits for names that must be unique in the whole cloud, or short."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def failed(error: SailplaneError, wanted: Wanted, undo: Callable[[], object] | None) -> EdgeFailed:
    """`error` as it is told: without the token, which clouds repeat when they reject it, and with what became of the edge.

    `undo` takes back what was made; None when an edge was there before, which stays.
    """
    said = str(error).replace(wanted.token, "…")
    if undo is None:
        return EdgeFailed(f"{said} The edge that was there before stays; run the same command again.")
    try:
        undo()
    except SailplaneError as second:
        return EdgeFailed(f"{said} Something may be left ({second}): deploy again, or run sailplane edge remove.")
    return EdgeFailed(f"{said} Nothing was left behind.")
