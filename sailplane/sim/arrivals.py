"""Requests drawn at random: when they come and how long they are."""

from __future__ import annotations

import random
from collections.abc import Iterator

# Log-normal, natural logarithms: mean and standard deviation, of the conversations in Azure's public trace of 2023-11-16
# (19,366 requests; medians 1,020 and 129 tokens).
_PROMPT, _OUTPUT = (6.63, 0.99), (5.02, 0.86)
_MOST = 16_000


def renewal(draw: random.Random, start: float, length_s: float, per_s: float, cv: float) -> Iterator[float]:
    """Instants in [start, start + length_s) whose gaps have the mean 1 / per_s and the coefficient of variation `cv`.

    Gamma-distributed; a `cv` of 1 is a Poisson process. The first gap begins at a random point of it, or every step would
    begin with a pause.
    """
    if per_s <= 0:
        return
    shape, scale = 1 / cv**2, cv**2 / per_s
    at = start + draw.random() * draw.gammavariate(shape, scale)
    while at < start + length_s:
        yield at
        at += draw.gammavariate(shape, scale)


def tokens(draw: random.Random) -> tuple[int, int]:
    """The length of a prompt and of its answer."""
    prompt, output = (min(_MOST, max(1, round(draw.lognormvariate(*law)))) for law in (_PROMPT, _OUTPUT))
    return prompt, output
