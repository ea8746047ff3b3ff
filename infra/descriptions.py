"""botocore's descriptions of Amazon's services, with the operations that we call and nothing else.

Half of a cold pass on AWS was reading what EC2 can do: 760 operations, of which we call a dozen. A client made of the rest
of its description behaves the same for those.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from botocore import xform_name


def trim(service: Path, sources: Iterable[Path]) -> None:
    """Leave in a service's descriptions (a directory of botocore's data) only what `sources` name."""
    words = {word for source in sources for word in re.findall(r"\w+", source.read_text())}
    for path in service.rglob("service-2.json*"):
        packed = path.suffix == ".gz"
        text = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        left = json.dumps(trimmed(json.loads(text), words)).encode()
        path.write_bytes(gzip.compress(left, mtime=0) if packed else left)


def trimmed(description: dict[str, Any], words: Collection[str]) -> dict[str, Any]:
    """A description with the operations whose Python name is among `words`, and the shapes that these reach."""
    operations = {name: told for name, told in description["operations"].items() if xform_name(name) in words}
    waiting, reached = set(_shapes(operations)), set[str]()
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= set(_shapes(description["shapes"][name])) - reached
    # In the description's order: a set's is another one in every process, and the package would be.
    shapes = {name: shape for name, shape in description["shapes"].items() if name in reached}
    return {**description, "operations": operations, "shapes": shapes}


def _shapes(told: Any) -> Iterator[str]:
    """The names of the shapes that a part of a description refers to."""
    if isinstance(told, list):
        for one in told:
            yield from _shapes(one)
    elif isinstance(told, dict):
        if isinstance(told.get("shape"), str):
            yield told["shape"]
        for one in told.values():
            yield from _shapes(one)
