"""What a deployment is told from outside, and what it says when that is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chalicelib import bootstrap
from chalicelib.catalog import PACKAGED, snapshot
from chalicelib.config import ConfigError, from_env, from_environment
from chalicelib.ports import FaultInjector
from chalicelib.store.dynamodb import DynamoDBStore

ENV = {
    "SAILPLANE_TABLE": "sailplane",
    "AWS_REGION": "us-east-1",
    "SAILPLANE_PROVIDERS": "local",
    "SAILPLANE_EDGE_URL": "http://127.0.0.1:7490/",
    "SAILPLANE_ADMIN_KEY": "a" * 32,
    "SAILPLANE_ROUTER_TOKEN": "r" * 32,
    "SAILPLANE_AGENT_KEY": "k" * 32,
}


@pytest.mark.parametrize("name", list(ENV))
def test_a_missing_variable_is_named(name: str) -> None:
    """And so is an empty one; the message says what is expected."""
    for env in ({key: value for key, value in ENV.items() if key != name}, {**ENV, name: ""}):
        with pytest.raises(ConfigError, match=f"^{name}: not set; expected "):
            from_env(env)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAILPLANE_ADMIN_KEY", "short"),
        ("SAILPLANE_ROUTER_TOKEN", "r" * 31),
        ("SAILPLANE_AGENT_KEY", "k" * 31 + "\n"),
        ("SAILPLANE_ADMIN_KEY", "ü" * 32),
        ("SAILPLANE_EDGE_URL", "127.0.0.1:7490"),
        ("SAILPLANE_EDGE_URL", "ftp://edge"),
        ("SAILPLANE_EDGE_URL", "http://edge/?a=b"),
        ("SAILPLANE_DYNAMODB_ENDPOINT", "localhost"),
        ("SAILPLANE_LOCAL_ROOT", "relative/path"),
        ("SAILPLANE_CATALOG", "relative/path"),
        ("SAILPLANE_ROUTER_TOKEN", "r" * 32 + ",short"),
        ("SAILPLANE_SNAPSHOT", "relative/path"),
        ("SAILPLANE_SNAPSHOT", "s3://bucket"),
        ("SAILPLANE_SNAPSHOT", "s3://Bad_Bucket/key"),
        *(("SAILPLANE_DEPLOYMENT", name) for name in ("prod*", "Prod", "1st", "two words", "p" * 41)),
    ],
)
def test_a_wrong_value_is_refused_and_not_repeated(name: str, value: str) -> None:
    """The value may be a key that landed in the wrong variable."""
    with pytest.raises(ConfigError, match=f"^{name}: expected ") as refusal:
        from_env({**ENV, name: value})
    assert value not in str(refusal.value)


def test_what_is_stored_completes_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and addresses of a deployed function: read where SAILPLANE_PARAMETERS says, and not at all where it says nothing."""
    keys = {name: value for name, value in ENV.items() if name.endswith(("_KEY", "_TOKEN", "_URL"))}
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    for name in keys:
        monkeypatch.delenv(name)
    asked: list[tuple[str, str, str | None]] = []

    def read(path: str, region: str, endpoint: str | None) -> dict[str, str]:
        asked.append((path, region, endpoint))
        return keys

    with pytest.raises(ConfigError, match="not set"):
        from_environment(read=read)
    assert asked == []
    monkeypatch.setenv("SAILPLANE_PARAMETERS", "/sailplane/acme")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566/")
    assert from_environment(read=read).admin_key == keys["SAILPLANE_ADMIN_KEY"]
    assert asked == [("/sailplane/acme", "us-east-1", "http://127.0.0.1:4566")]


def test_only_functions_with_a_queue_are_woken(tmp_path: Path) -> None:
    """A laptop's loop needs nobody to wake it; with SAILPLANE_RELAY_QUEUE there is a schedule to turn on and a queue for rounds."""
    config = replace(from_env(ENV), local_root=tmp_path)
    queue = replace(config, relay_queue="https://sqs/1/relay")
    with pytest.raises(ConfigError, match=r"^SAILPLANE_RELAY_MAPPING: not set"):
        bootstrap.build(queue)
    alone, woken = bootstrap.build(config), bootstrap.build(replace(queue, relay_mapping="91eaeb7e"))
    assert (alone.schedule, alone.relay) == (None, None)
    assert woken.schedule is not None
    assert woken.relay is not None


def test_keys_do_not_show(tmp_path: Path) -> None:
    """Neither in the configuration's repr nor in the runtime's settings'."""
    config = replace(from_env(ENV), local_root=tmp_path)
    shown = repr(config) + repr(bootstrap.build(config).settings)
    assert not any(key in shown for key in ("a" * 32, "r" * 32, "k" * 32))


def test_routers_may_be_between_two_tokens(tmp_path: Path) -> None:
    """A list of them is accepted, the first of which seals; a comma too many is a token that is missing."""
    config = from_env({**ENV, "SAILPLANE_ROUTER_TOKEN": f"{'n' * 32}, {'o' * 32}"})
    settings = bootstrap.build(replace(config, local_root=tmp_path)).settings
    assert settings.router_tokens == ("n" * 32, "o" * 32)
    with pytest.raises(ConfigError, match=r"^SAILPLANE_ROUTER_TOKEN: not set"):
        from_env({**ENV, "SAILPLANE_ROUTER_TOKEN": "n" * 32 + ","})


def test_the_market_has_the_prices_of_the_configured_directory(tmp_path: Path) -> None:
    """A control plane that is told of refreshed prices decides on them."""
    packaged = snapshot.read(PACKAGED, "azure")
    newer = replace(packaged, as_of="2026-11-20", prices=packaged.prices[:1])
    snapshot.write(tmp_path, newer)
    market = bootstrap.build(
        from_env({**ENV, "SAILPLANE_CATALOG": str(tmp_path), "SAILPLANE_LOCAL_ROOT": "/srv"})
    ).market
    assert len(market.offers(["azure"])) == newer.offers


def test_a_runtime_is_built_from_the_environment_alone(tmp_path: Path) -> None:
    """Adapters as configured, nothing connected to."""
    endpoint = "http://127.0.0.1:9/"
    config = from_env({**ENV, "SAILPLANE_LOCAL_ROOT": str(tmp_path), "SAILPLANE_DYNAMODB_ENDPOINT": endpoint})
    poked: list[str] = []
    runtime = bootstrap.build(config, poked.append)
    runtime.poke("svc")
    assert poked == ["svc"]
    assert runtime.settings.edge_url == "http://127.0.0.1:7490"
    assert isinstance(runtime.store, DynamoDBStore)
    assert isinstance(runtime.providers["local"], FaultInjector)
    assert {offer.location.provider for offer in runtime.market.offers(["local"])} == {"local"}
    assert runtime.clock.now() > 1_700_000_000
    assert len(runtime.ids.token(4)) == 8


def test_an_unknown_provider_is_named_with_the_known_ones(tmp_path: Path) -> None:
    """Typing `locl` does not start a control plane without clouds."""
    with pytest.raises(
        ConfigError, match=r"SAILPLANE_PROVIDERS: 'locl' is not a provider; known are aws, gcp, azure and local"
    ):
        bootstrap.build(replace(from_env({**ENV, "SAILPLANE_PROVIDERS": "local, locl"}), local_root=tmp_path))


def test_the_local_provider_needs_a_directory() -> None:
    """There is no default that could be somebody's files."""
    with pytest.raises(ConfigError, match="SAILPLANE_LOCAL_ROOT"):
        bootstrap.build(from_env(ENV))


@pytest.mark.parametrize(
    ("name", "told", "missing"),
    [
        ("aws", {}, "SAILPLANE_CONTROL_URL"),
        ("gcp", {"SAILPLANE_CONTROL_URL": "https://control"}, "SAILPLANE_GCP_PROJECT"),
        ("azure", {"SAILPLANE_CONTROL_URL": "https://control"}, "SAILPLANE_AZURE_SUBSCRIPTION"),
    ],
)
def test_a_cloud_says_at_once_what_it_is_not_told(name: str, told: dict[str, str], missing: str) -> None:
    """The process does not start, instead of failing in its first pass."""
    with pytest.raises(ConfigError, match=f"^{missing}.*not set"):
        bootstrap.build(from_env({**ENV, **told, "SAILPLANE_DEPLOYMENT": "prod", "SAILPLANE_PROVIDERS": name}))


def test_a_cloud_that_nobody_asks_costs_no_import() -> None:
    """With all clouds configured, a runtime that is built and asked for their names has loaded no SDK; each is loaded alone."""
    told = {
        "SAILPLANE_PROVIDERS": "aws,gcp,azure",
        "SAILPLANE_DEPLOYMENT": "prod",
        "SAILPLANE_CONTROL_URL": "https://control",
        "SAILPLANE_GCP_PROJECT": "p",
        "SAILPLANE_AZURE_SUBSCRIPTION": "s",
        "SAILPLANE_AZURE_RESOURCE_GROUP": "g",
    }
    program = (
        "import sys; from chalicelib import bootstrap, config; runtime = bootstrap.build(config.from_environment());"
        "loaded = lambda: {name for name in ('boto3', 'google.cloud.compute_v1', 'azure.mgmt.compute') if name in sys.modules};"
        "print(sorted(runtime.providers), 'gcp' in runtime.providers, loaded());"
        "runtime.providers['azure']; print(loaded())"
    )
    env = {**os.environ, **ENV, **told}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    assert run.stdout.splitlines() == ["['aws', 'azure', 'gcp'] True set()", "{'azure.mgmt.compute'}"]


CLOUD = {"SAILPLANE_PROVIDERS": "aws", "SAILPLANE_DEPLOYMENT": "prod", "SAILPLANE_CONTROL_URL": "https://control"}


def test_clouds_want_a_deployment_with_a_name_of_its_own() -> None:
    """Two control planes of one name in one account would take each other's machines for orphans, and remove them."""
    with pytest.raises(
        ConfigError, match=r"^SAILPLANE_DEPLOYMENT: not set; expected a name that no other control plane"
    ):
        from_env({**ENV, **CLOUD, "SAILPLANE_DEPLOYMENT": ""})
    assert from_env({**ENV, **CLOUD}).deployment == "prod"


def test_machines_in_a_cloud_are_told_secrets_by_tls_only() -> None:
    """The boot token goes one way and the service's environment the other; a stand-in on this machine may do without."""
    plain = {**ENV, **CLOUD, "SAILPLANE_CONTROL_URL": "http://control"}
    with pytest.raises(ConfigError, match=r"^SAILPLANE_CONTROL_URL: expected https"):
        bootstrap.build(from_env(plain))
    assert bootstrap.build(from_env({**ENV, **CLOUD})).providers.keys() == {"aws"}
    assert bootstrap.build(from_env({**plain, "SAILPLANE_AWS_ENDPOINT": "http://key@127.0.0.1:9"})).providers
