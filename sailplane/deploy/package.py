"""What is deployed: the template and the two zips that it takes, by the hash of what is in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from chalicelib.errors import Invalid
from sailplane.deploy.account import Change

# Keys in the bucket. What lies here is replaced by an upgrade; the rest of the bucket is the control plane's.
CODE = "code/"

_FOUNDATION, _TEMPLATE, _CONTROL, _EDGE = "foundation.json", "template.json", "control.zip", "edge-aws.zip"
_UPLOADED = (_CONTROL, _EDGE, _TEMPLATE)


@dataclass(frozen=True)
class Package:
    """What `infra.package` has put into a directory. Raises `Invalid` when something is missing or cannot be read."""

    directory: Path

    def __post_init__(self) -> None:
        if missing := [name for name in (*_UPLOADED, _FOUNDATION) if not (self.directory / name).is_file()]:
            raise Invalid(
                f"{self.directory} lacks {', '.join(missing)}. Build it with `python -m infra.package --out DIR`, "
                "or leave --package out to have it built now. Nothing was changed."
            )

    @cached_property
    def foundation(self) -> str:
        """The template of what comes first: the bucket that takes the rest, and the table."""
        return (self.directory / _FOUNDATION).read_text()

    @cached_property
    def template(self) -> Mapping[str, Any]:
        """The template of everything."""
        found: Mapping[str, Any] = json.loads((self.directory / _TEMPLATE).read_text())
        return found

    @cached_property
    def uploads(self) -> Mapping[str, Path]:
        """What is put into the bucket, by its key there."""
        return {self._key(name): self.directory / name for name in _UPLOADED}

    @property
    def code_key(self) -> str:
        """Where the control plane's zip lies in the bucket."""
        return self._key(_CONTROL)

    @property
    def edge_key(self) -> str:
        """Where the edge's zip lies in the bucket."""
        return self._key(_EDGE)

    @property
    def template_key(self) -> str:
        """Where the template lies in the bucket: CloudFormation takes 51,200 bytes with a request, and it has more."""
        return self._key(_TEMPLATE)

    @property
    def version(self) -> str:
        """Sailplane's, of which it is made; empty when it was not said."""
        said: str = self.template["Outputs"].get("Version", {}).get("Value", "")
        return said

    @property
    def additions(self) -> tuple[Change, ...]:
        """What the template makes where there is nothing."""
        return tuple(Change("Add", name, one["Type"]) for name, one in self.template["Resources"].items())

    def _key(self, name: str) -> str:
        digest = hashlib.sha256((self.directory / name).read_bytes()).hexdigest()
        stem, _, suffix = name.partition(".")
        return f"{CODE}{stem}-{digest[:16]}.{suffix}"


def build(directory: Path, clouds: Sequence[str]) -> Package:
    """Build all of it in a directory, for machines on these clouds. Takes 5 s, and the network.

    Raises `Invalid` without what building it takes.
    """
    from infra import control, package  # noqa: PLC0415 takes 0.3 s, wanted by two commands only

    try:
        package.build(directory, clouds)
    except control.CannotPackage as error:
        raise Invalid(f"{error}\nNothing was changed.") from error
    return Package(directory)
