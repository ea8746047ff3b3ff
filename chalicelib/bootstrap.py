"""The only chooser of adapters. Each is imported when it is chosen, so that a function pays for what it uses only."""

from __future__ import annotations

import logging
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from chalicelib import config, credentials
from chalicelib.catalog import Catalog, CatalogMarket
from chalicelib.config import Config, ConfigError
from chalicelib.cost import memory
from chalicelib.errors import Unreachable
from chalicelib.model import HookKind
from chalicelib.passes import Round
from chalicelib.ports import Clock, Ids, Market, Meter, Provider, Runtime, Schedule, Secrets, Settings, Snapshots

if TYPE_CHECKING:
    from chalicelib.schedules.aws import AwsRelay
    from chalicelib.store.dynamodb import DynamoDBStore


# Services of which nearly all wait: one that waits for no slow cloud must not wait for those that do. A thread is made when
# none is idle, and costs some 100 KB.
_PASSES_AT_ONCE = 256
# What one cloud gets to answer at once; more would be throttled. As many as the database's connections.
_CALLS_AT_ONCE = 32

T = TypeVar("T")

_log = logging.getLogger(__name__)


class SystemClock:
    """`ports.Clock`: the machine's."""

    def now(self) -> float:
        return time.time()


class SystemIds:
    """`ports.Ids`: the operating system's randomness."""

    def token(self, nbytes: int) -> str:
        return secrets.token_hex(nbytes)


class Threads:
    """`ports.Spawn`: a pool of threads for each lane, made when the lane is first used.

    A function's threads are frozen with it when its answer is given and go on when it is next called; see
    `executor.Execution` and `passes.listing` for why neither harms. What ends for good waits for its calls to end, at most
    as long as an SDK's timeouts.
    """

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._lanes: dict[str, ThreadPoolExecutor] = {}

    def __call__(self, lane: str, work: Callable[[], T]) -> Future[T]:
        with self._starting:
            pool = self._lanes.get(lane)
            if pool is None:
                size = _PASSES_AT_ONCE if lane == "passes" else _CALLS_AT_ONCE
                pool = self._lanes[lane] = ThreadPoolExecutor(size, thread_name_prefix=lane)
        return pool.submit(work)


def from_environment() -> Runtime:
    """The runtime of this process. Raises `ConfigError`, and `Unreachable` when its parameters cannot be read."""
    return build(config.from_environment(read=_parameters))


def _parameters(path: str, region: str, endpoint_url: str | None) -> Mapping[str, str]:
    from chalicelib import parameters  # noqa: PLC0415 imported when used, see above

    return parameters.read(path, region, endpoint_url)


def build(config: Config, poke: Callable[[str], None] | None = None) -> Runtime:
    """Every port of one control plane. Nothing is connected to yet.

    `poke` asks for a pass over a service at once; without one a function asks for it, or else the next tick sees to it.
    Raises `ConfigError` when a provider is unknown or is not told what it needs.
    """
    from chalicelib.forges.github import GitHub  # noqa: PLC0415 imported when used, see above
    from chalicelib.forges.gitlab import GitLab  # noqa: PLC0415 same
    from chalicelib.forges.http import Http  # noqa: PLC0415 same
    from chalicelib.forges.issuers import JwksKeys  # noqa: PLC0415 same
    from chalicelib.prober import HttpProber  # noqa: PLC0415 same

    for name in config.providers:
        _require_complete(name, config)
    clock, ids = SystemClock(), SystemIds()
    settings = Settings(
        deployment=config.deployment,
        edge_url=config.edge_url,
        control_url=config.control_url,
        agent_key=config.agent_key,
        router_tokens=config.router_tokens,
        admin_key=config.admin_key,
        cloud_secrets=(
            *credentials.secrets_of(config.gcp_credentials),
            *credentials.secrets_of(config.azure_credentials),
        ),
    )
    http = Http()
    prober = HttpProber(settings.agent_key, clock, settings.pass_budget_s)
    waking = _waking(config)
    return Runtime(
        clock=clock,
        ids=ids,
        store=_store(config, clock, ids),
        providers=Providers({name: partial(_provider, name, config, clock) for name in config.providers}),
        market=_market(config),
        prober=prober,
        settings=settings,
        poke=poke or (waking.poke if waking else lambda _name: None),
        spawn=Threads(),
        secrets=_secrets(config),
        ask_routers=partial(prober.ask_routers, config.edge_url),
        snapshots=_snapshots(config),
        forges={HookKind.GITHUB: GitHub(http), HookKind.GITLAB: GitLab(http)},
        issuer_keys=JwksKeys(http, clock),
        schedule=waking.schedule if waking else None,
        relay=waking.relay if waking else None,
        meter=_meter(config),
        emit=partial(print, flush=True) if config.metrics == "emf" else None,
    )


def create_table(config: Config) -> None:
    """Make the table where nobody deploys one: on a laptop. Does nothing when it is there. Raises `Unreachable`."""
    _store(config, SystemClock(), SystemIds()).create_table()


def _store(config: Config, clock: Clock, ids: Ids) -> DynamoDBStore:
    from chalicelib.store.dynamodb import DynamoDBStore  # noqa: PLC0415 imported when used, see above

    return DynamoDBStore(config.table, config.region, clock=clock, ids=ids, endpoint_url=config.dynamodb_endpoint)


class Providers(Mapping[str, Provider]):
    """Providers by name, each made when it is first asked for: making one imports its cloud's SDK, which takes up to 3 s."""

    def __init__(self, makers: Mapping[str, Callable[[], Provider]]) -> None:
        self._makers = makers
        self._made: dict[str, Provider] = {}
        self._making = {name: threading.Lock() for name in makers}

    def __getitem__(self, name: str) -> Provider:
        with self._making[name]:
            if name not in self._made:
                self._made[name] = self._makers[name]()
            return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __contains__(self, name: object) -> bool:  # the Mapping's own would make it
        return name in self._makers


# The module by which each SDK is known. (boto3 is always there.)
_SDKS = {"gcp": "google.cloud.compute_v1", "azure": "azure.mgmt.compute"}


def _require_complete(name: str, config: Config) -> None:
    """Raise `ConfigError` for what a provider lacks, now and not in the first pass."""
    if name not in ("aws", "gcp", "azure", "local"):
        raise ConfigError(f"SAILPLANE_PROVIDERS: {name!r} is not a provider; known are aws, gcp, azure and local.")
    if name == "local" and config.local_root is None:
        raise ConfigError("SAILPLANE_LOCAL_ROOT: the provider `local` needs the absolute path of a directory.")
    if name != "local" and not config.control_url:
        raise ConfigError(f"SAILPLANE_CONTROL_URL: not set; machines on {name} need it to reach the control API.")
    stand_ins = {"aws": config.aws_endpoint, "gcp": config.gcp_endpoint, "azure": config.azure_endpoint}
    if name != "local" and not stand_ins[name] and not config.control_url.startswith("https://"):
        raise ConfigError(f"SAILPLANE_CONTROL_URL: expected https://…; machines on {name} are told secrets there.")
    if name == "gcp" and not config.gcp_project:
        raise ConfigError("SAILPLANE_GCP_PROJECT: not set; expected the id of the project that machines are made in.")
    if name == "azure" and not (config.azure_subscription and config.azure_resource_group):
        raise ConfigError(
            "SAILPLANE_AZURE_SUBSCRIPTION, SAILPLANE_AZURE_RESOURCE_GROUP: not set; expected where machines are made."
        )
    if name in _SDKS and find_spec(_SDKS[name]) is None:
        raise ConfigError(f"SAILPLANE_PROVIDERS: {name} needs its SDK: pip install 'sailplane[{name}]'.")


def _provider(name: str, config: Config, clock: Clock) -> Provider:
    deployment, control_url = config.deployment, config.control_url
    if name == "aws":
        from chalicelib.providers.aws.compute import AwsProvider  # noqa: PLC0415 imported when used, see above

        return AwsProvider(
            deployment=deployment,
            control_url=control_url,
            clock=clock,
            regions=config.aws_regions,
            endpoint_url=config.aws_endpoint,
        )
    if name == "gcp":
        from chalicelib.providers.gcp.compute import GcpProvider  # noqa: PLC0415 same

        return GcpProvider(
            deployment=deployment,
            control_url=control_url,
            clock=clock,
            project=config.gcp_project,
            endpoint_url=config.gcp_endpoint,
            credentials=config.gcp_credentials,
        )
    if name == "azure":
        from chalicelib.providers.azure.compute import AzureProvider  # noqa: PLC0415 same

        return AzureProvider(
            deployment=deployment,
            control_url=control_url,
            clock=clock,
            subscription=config.azure_subscription,
            resource_group=config.azure_resource_group,
            endpoint_url=config.azure_endpoint,
            credentials=config.azure_credentials,
        )
    from chalicelib.providers.local.compute import LocalProvider  # noqa: PLC0415 same

    root = config.local_root or Path()  # there is one, see `_require_complete`
    return LocalProvider(root, deployment, sys.executable, config.host_env, clock, control_url=control_url)


def _secrets(config: Config) -> Secrets:
    from chalicelib.secrets.ssm import SsmSecrets  # noqa: PLC0415 imported when used, see above

    # Below what configures the functions, whose reading of their own path does not see them.
    return SsmSecrets(f"/sailplane/{config.deployment}/secrets", config.region, endpoint_url=config.ssm_endpoint)


@dataclass(frozen=True, slots=True)
class _Waking:
    """How functions are woken."""

    schedule: Schedule
    relay: AwsRelay

    def poke(self, name: str) -> None:
        try:
            self.relay.send_now(Round.poke(name).text)
        except Unreachable as error:  # the next tick looks at all
            _log.warning("A pass over %s could not be asked for at once: %s", name, error)


def _waking(config: Config) -> _Waking | None:
    if not config.relay_queue:
        return None
    if not config.relay_mapping:
        raise ConfigError("SAILPLANE_RELAY_MAPPING: not set; expected the UUID of the queue's event source mapping.")
    from chalicelib.amazon import Amazon  # noqa: PLC0415 imported when used, see above
    from chalicelib.schedules.aws import AwsRelay, AwsSchedule  # noqa: PLC0415 same

    amazon = Amazon(config.region, config.amazon_endpoint)
    relay = AwsRelay(amazon, config.deployment, config.relay_queue)
    return _Waking(AwsSchedule(amazon, config.deployment, config.relay_mapping), relay)


def _meter(config: Config) -> Meter | None:
    if not config.relay_queue:
        return None
    if not config.relay_mapping:
        raise ConfigError("SAILPLANE_RELAY_MAPPING: not set; expected the UUID of the queue's event source mapping.")
    from chalicelib.amazon import Amazon  # noqa: PLC0415 imported when used, see above
    from chalicelib.meters.cloudwatch import CloudWatchMeter  # noqa: PLC0415 same

    amazon = Amazon(config.region, config.amazon_endpoint)
    return CloudWatchMeter(amazon, config.deployment, config.table, memory(config.providers))


def _snapshots(config: Config) -> Snapshots | None:
    if not config.snapshot:
        return None
    if config.snapshot.startswith("s3://"):
        from chalicelib.amazon import Amazon  # noqa: PLC0415 imported when used, see above
        from chalicelib.snapshots.s3 import S3Snapshots  # noqa: PLC0415 same

        bucket, _, key = config.snapshot.removeprefix("s3://").partition("/")
        return S3Snapshots(Amazon(config.region, config.amazon_endpoint), bucket, key)
    from chalicelib.snapshots.file import FileSnapshots  # noqa: PLC0415 same

    return FileSnapshots(Path(config.snapshot))


def _market(config: Config) -> Market:
    catalog = Catalog(config.catalog)
    regions = {"aws": frozenset(config.aws_regions)} if config.aws_regions else {}
    if "local" in config.providers:
        from chalicelib.providers.local.offers import offers  # noqa: PLC0415 same

        return CatalogMarket({"local": offers}, catalog, regions)
    return CatalogMarket({}, catalog, regions)
