"""How a port is put in another's place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chalicelib.ports import Runtime


class Instead:
    """A port that passes everything on, except for what a subclass does otherwise."""

    def __init__(self, port: Any) -> None:
        self.port = port

    def __getattr__(self, name: str) -> Any:
        return getattr(self.port, name)


def with_store(store: Callable[[Any], Any]) -> Callable[[Runtime], Runtime]:
    """Another store."""
    return lambda runtime: replace(runtime, store=store(runtime.store))


def with_providers(provider: Callable[[Any], Any]) -> Callable[[Runtime], Runtime]:
    """Another of every cloud."""
    return lambda runtime: replace(runtime, providers={name: provider(one) for name, one in runtime.providers.items()})


def with_prober(prober: Callable[[Any], Any]) -> Callable[[Runtime], Runtime]:
    """Another prober."""
    return lambda runtime: replace(runtime, prober=prober(runtime.prober))
