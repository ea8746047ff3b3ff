"""Secrets that end with the process, for simulations and tests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from chalicelib.errors import NotFound
from chalicelib.model import Secret
from chalicelib.ports import Clock


class MemorySecrets:
    """`ports.Secrets` in a dictionary."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, Secret] = {}
        self._texts: dict[str, str] = {}

    def read(self, names: Collection[str]) -> Mapping[str, str]:
        return {name: self._texts[name] for name in names if name in self._texts}

    def write(self, name: str, text: str) -> None:
        before = self._known.get(name, Secret(name, 0, 0.0))
        self._known[name] = replace(before, version=before.version + 1, changed_at=round(self._clock.now(), 3))
        self._texts[name] = text

    def delete(self, name: str) -> None:
        if name not in self._known:
            raise NotFound(f"There is no secret {name!r}.")
        del self._known[name], self._texts[name]

    def known(self) -> tuple[Secret, ...]:
        return tuple(self._known[name] for name in sorted(self._known))
