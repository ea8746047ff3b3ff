"""`If-Match` (RFC 9110, section 13.1.1): change a thing only if it still is what its owner has seen.

A service's tag says which version of its file it follows and not how its replicas do: those change by themselves, and whoever
updates a service means its file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

from chalicelib.api.problems import Refused
from chalicelib.model import Service

_TAG = re.compile(r'(?:W/)?"[!#-~]*"')


@dataclass(frozen=True, slots=True)
class IfMatch:
    """The tags of which one must be the thing's; None = whatever it is."""

    tags: frozenset[str] | None = None

    def require(self, tag: str) -> None:
        """Raise a 412 `Refused` when the thing has another tag."""
        if self.tags is not None and tag not in self.tags:
            detail = f"It has changed: it is {tag} by now. Look at it again, and decide again. Nothing was changed."
            raise Refused(HTTPStatus.PRECONDITION_FAILED, detail, {"ETag": tag}, "precondition")


WHATEVER_IT_IS = IfMatch()


def if_match(header: str | None) -> IfMatch:
    """The condition that a header sets. A weak tag matches nothing here, nor does what is no tag: in doubt nothing is changed."""
    if header is None or header.strip() == "*":
        return WHATEVER_IT_IS
    return IfMatch(frozenset(_TAG.findall(header)))


def tag_of(service: Service) -> str:
    """A service's tag. A name that is used again never has one of before."""
    return f'"{service.uid}.{service.spec_version}"'
