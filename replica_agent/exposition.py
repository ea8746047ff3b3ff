"""One number out of an engine's `/metrics`, which is in Prometheus' text format.

https://prometheus.io/docs/instrumenting/exposition_formats/. The agent needs the value of a single name and has no use for
types, help texts and labels, so it reads the sample lines itself: prometheus_client's parser would be one more package for
every machine to install before it can boot.
"""

from __future__ import annotations

import math
import re

# What stands behind a sample's name: labels, whose quoted values may hold anything, the value, perhaps a timestamp.
_REST = re.compile(r'[ \t]*(?:\{(?:[^"{}]|"(?:[^"\\]|\\.)*")*\})?[ \t]*(\S+)(?:[ \t]+-?[0-9]+)?[ \t\r]*')


def total(text: str, name: str) -> float | None:
    """The sum of all samples called `name`, or None: there are none, one is no finite number, or the sum is negative.

    Engines tell models, ranks and parallel engines apart by labels, so one machine's value is the sum over them.
    """
    rests = [line[len(name) :] for line in text.split("\n") if line.startswith(name)]
    values = [_value(rest) for rest in rests if rest[:1] in ("{", " ", "\t")]
    amount = sum(values)
    return amount if values and 0 <= amount < math.inf else None


def _value(rest: str) -> float:
    match = _REST.fullmatch(rest)
    try:
        return float(match[1]) if match else math.nan
    except ValueError:
        return math.nan
