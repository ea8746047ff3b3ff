"""Bugs that a control plane like this one could have, planted one at a time between the passes and their ports.

Each is a function from a `Runtime` to one with a port that misbehaves as the bug would. The shipped code stays as it is, and the
simulated world too: what is shown is that the judges would notice.
"""

from __future__ import annotations

from collections.abc import Callable

from chalicelib.ports import Runtime
from tests.sim.mutants import clouds, records, words

Mutant = Callable[[Runtime], Runtime]

MUTANTS: dict[str, Mutant] = {
    mutant.__name__: mutant for module in (clouds, records, words) for mutant in module.MUTANTS
}
