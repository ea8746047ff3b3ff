"""The only chooser of adapters. Each is imported when it is chosen, so that a function pays for what it uses only."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from chalicelib import config
from chalicelib.catalog import Catalog, CatalogMarket
from chalicelib.config import Config, ConfigError
from chalicelib.ports import Clock, Ids, Market, Provider, Runtime, Settings

if TYPE_CHECKING:
    from chalicelib.store.dynamodb import DynamoDBStore


class SystemClock:
    """`ports.Clock`: the machine's."""

    def now(self) -> float:
        return time.time()


class SystemIds:
    """`ports.Ids`: the operating system's randomness."""

    def token(self, nbytes: int) -> str:
        return secrets.token_hex(nbytes)


def from_environment() -> Runtime:
    """The runtime of this process. Raises `ConfigError`."""
    return build(config.from_environment())


def build(config: Config, poke: Callable[[str], None] = lambda _name: None) -> Runtime:
    """Every port of one control plane. Nothing is connected to yet.

    `poke` asks for a pass over a service at once; without one the next tick sees to it, at most a minute later.
    Raises `ConfigError` when a provider is unknown or is not told what it needs.
    """
    from chalicelib.prober import HttpProber  # noqa: PLC0415 imported when used, see above

    clock, ids = SystemClock(), SystemIds()
    settings = Settings(
        deployment=config.deployment,
        edge_url=config.edge_url,
        control_url=config.control_url,
        agent_key=config.agent_key,
        router_token=config.router_token,
        admin_key=config.admin_key,
    )
    return Runtime(
        clock=clock,
        ids=ids,
        store=_store(config, clock, ids),
        providers={name: _provider(name, config, clock) for name in config.providers},
        market=_market(config),
        prober=HttpProber(settings.agent_key, clock, settings.pass_budget_s),
        settings=settings,
        poke=poke,
    )


def create_table(config: Config) -> None:
    """Make the table where nobody deploys one: on a laptop. Does nothing when it is there. Raises `Unreachable`."""
    _store(config, SystemClock(), SystemIds()).create_table()


def _store(config: Config, clock: Clock, ids: Ids) -> DynamoDBStore:
    from chalicelib.store.dynamodb import DynamoDBStore  # noqa: PLC0415 imported when used, see above

    return DynamoDBStore(config.table, config.region, clock=clock, ids=ids, endpoint_url=config.dynamodb_endpoint)


def _provider(name: str, config: Config, clock: Clock) -> Provider:
    if name == "local":
        from chalicelib.providers.local.compute import LocalProvider  # noqa: PLC0415 same

        if config.local_root is None:
            raise ConfigError("SAILPLANE_LOCAL_ROOT: the provider `local` needs the absolute path of a directory.")
        return LocalProvider(config.local_root, config.deployment, sys.executable, config.host_env, clock)
    raise ConfigError(f"SAILPLANE_PROVIDERS: {name!r} is not a provider; known is `local`.")


def _market(config: Config) -> Market:
    catalog = Catalog(config.catalog)
    if "local" in config.providers:
        from chalicelib.providers.local.offers import offers  # noqa: PLC0415 same

        return CatalogMarket({"local": offers}, catalog)
    return CatalogMarket({}, catalog)
