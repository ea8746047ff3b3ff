"""Whose a repository's name is: the number's that its forge has told to any trust or webhook of that name.

A name can be given up, and taken by somebody else; a number cannot. So what one of them knows holds for all of that name: also
for those that were made later, or never used.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from chalicelib.model import Hook, Trust


def are_namesakes(one: Hook | Trust, other: Hook | Trust) -> bool:
    """Whether they are for a repository of the same name at the same forge."""
    return _name(one) == _name(other)


def namesakes(one: Hook | Trust, *known: Iterable[Hook | Trust]) -> tuple[Hook | Trust, ...]:
    """Those of `known` that are for a repository of the same name."""
    return tuple(other for some in known for other in some if are_namesakes(one, other))


def number(of_one_name: Iterable[Hook | Trust]) -> str:
    """The number that their repository is known by; empty where its forge has told none of them."""
    return next((one.repository_id for one in of_one_name if one.repository_id), "")


def others(number: str, of_one_name: Iterable[Hook | Trust]) -> tuple[Hook | Trust, ...]:
    """Those that are for another repository than the one with this number."""
    return tuple(one for one in of_one_name if one.repository_id not in ("", number))


def refusal(repository: str, number: str, others: Iterable[Hook | Trust]) -> str:
    """Why the repository that has this number gets nothing, and what to do if it should."""
    known = {("trust" if isinstance(one, Trust) else "webhook", one.id): one.repository_id for one in others}
    whose = ", ".join(f"{noun} {one_id} is for number {theirs}" for (noun, one_id), theirs in known.items())
    commands = ", ".join(f"`sailplane {noun} remove {one_id}`" for noun, one_id in known)
    return (
        f"{repository} is another repository by now, number {number or 'unknown'}: {whose}, and nothing of the other is deployed."
        f" If that is meant: {commands}, then create again"
    )


def _name(one: Hook | Trust) -> tuple[str, str]:
    """The forge, and the name, whose case no forge minds.

    An issuer and an API are one forge's when they are at one host, but for GitHub's: https://token.actions.githubusercontent.com
    and https://api.github.com, the same below GHE.com.
    """
    host = urlsplit(one.issuer if isinstance(one, Trust) else one.api_url).hostname or ""
    forge = host.removeprefix("token.actions.").removeprefix("api.").replace("githubusercontent.com", "github.com")
    return forge, one.repository.lower()
