"""What a deployment is told from outside. The only reader of the process's environment in the control plane."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from chalicelib import credentials
from chalicelib.errors import Invalid, SailplaneError

# 128 random bits in hexadecimal. Shorter keys can be guessed at the rate at which a function answers.
MIN_KEY_CHARACTERS = 32
# What every cloud takes as a label's value and in the names of networks and firewalls, which have 63 characters; EC2's
# filters would read `*` and `?` as patterns.
_DEPLOYMENT = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


class ConfigError(SailplaneError):
    """A variable is missing or wrong; the message names it and says what is expected."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything `bootstrap.build` needs to know. Keys never show in its repr."""

    table: str
    region: str
    providers: tuple[str, ...]
    edge_url: str
    admin_key: str = field(repr=False)
    router_tokens: tuple[str, ...] = field(repr=False)
    agent_key: str = field(repr=False)
    deployment: str = "sailplane"
    dynamodb_endpoint: str | None = field(default=None, repr=False)  # a local stand-in for DynamoDB, with its key
    control_url: str = ""  # how the clouds' machines reach the control API
    local_root: Path | None = None  # where the local provider keeps its replicas
    catalog: Path | None = None  # where newer prices than the packaged ones may lie
    snapshot: str = ""  # s3://bucket/key or an absolute path: where the sealed routing table is left for routers
    # A cloud's endpoint is set only for a stand-in: http://<key>@host:port, the key being what a client must show.
    aws_regions: tuple[str, ...] = ()  # empty = all that the account has enabled
    aws_endpoint: str | None = field(default=None, repr=False)
    gcp_project: str = ""
    gcp_endpoint: str | None = field(default=None, repr=False)
    azure_subscription: str = ""
    azure_resource_group: str = ""
    azure_endpoint: str | None = field(default=None, repr=False)
    ssm_endpoint: str | None = field(default=None, repr=False)  # a local stand-in for SSM, with its key
    host_env: Mapping[str, str] = field(default_factory=dict, repr=False)  # the local provider passes PATH and such on
    relay_queue: str = ""  # URL of the SQS queue behind which our relay function waits; only functions on AWS have one
    relay_mapping: str = ""  # UUID of the event source mapping between the two
    amazon_endpoint: str | None = None  # a stand-in for all of AWS, as its own SDKs are told of it
    metrics: str = ""  # emf: a line a service a minute for CloudWatch, which bills each metric; empty = none
    # Empty = those that the cloud's SDK finds by itself. A function in AWS has none to find.
    gcp_credentials: Mapping[str, Any] = field(default_factory=dict, repr=False)  # see `credentials.gcp`
    azure_credentials: Mapping[str, str] = field(default_factory=dict, repr=False)  # see `credentials.azure`


# Variables by name, given where they are stored: a path, a region, and a stand-in's URL instead of AWS.
ReadStored = Callable[[str, str, str | None], Mapping[str, str]]


def from_environment(known: Mapping[str, str] = MappingProxyType({}), read: ReadStored | None = None) -> Config:
    """The configuration of this process; what is `known` beforehand takes precedence over its environment.

    What `read` finds at SAILPLANE_PARAMETERS, where that is set, takes precedence over both: keys have no place in a
    function's environment, which whoever may list functions may read. Raises `ConfigError`, and what `read` raises.
    """
    env = {**os.environ, **known}
    if read and (path := env.get("SAILPLANE_PARAMETERS")):
        env |= read(path, _region(env), _optional_url(env, "AWS_ENDPOINT_URL"))
    return from_env(env)


def from_env(env: Mapping[str, str]) -> Config:
    """The configuration that `env` holds.

    Raises:
        ConfigError: a variable is missing or wrong. Its value is not repeated: it may be a key put in the wrong place.
    """
    _required(env, "SAILPLANE_PROVIDERS", "e.g. `aws,gcp`")
    return Config(
        table=_required(env, "SAILPLANE_TABLE", "the name of the DynamoDB table"),
        region=_region(env),
        providers=_list(env, "SAILPLANE_PROVIDERS"),
        edge_url=_url(env, "SAILPLANE_EDGE_URL"),
        admin_key=_key(env, "SAILPLANE_ADMIN_KEY"),
        router_tokens=_keys(env, "SAILPLANE_ROUTER_TOKEN"),
        agent_key=_key(env, "SAILPLANE_AGENT_KEY"),
        deployment=_deployment(env, _list(env, "SAILPLANE_PROVIDERS")),
        dynamodb_endpoint=_optional_url(env, "SAILPLANE_DYNAMODB_ENDPOINT"),
        control_url=_optional_url(env, "SAILPLANE_CONTROL_URL") or "",
        local_root=_optional_directory(env, "SAILPLANE_LOCAL_ROOT"),
        catalog=_optional_directory(env, "SAILPLANE_CATALOG"),
        snapshot=_snapshot(env),
        aws_regions=_list(env, "SAILPLANE_AWS_REGIONS"),
        aws_endpoint=_optional_url(env, "SAILPLANE_AWS_ENDPOINT"),
        gcp_project=env.get("SAILPLANE_GCP_PROJECT", ""),
        gcp_endpoint=_optional_url(env, "SAILPLANE_GCP_ENDPOINT"),
        azure_subscription=env.get("SAILPLANE_AZURE_SUBSCRIPTION", ""),
        azure_resource_group=env.get("SAILPLANE_AZURE_RESOURCE_GROUP", ""),
        azure_endpoint=_optional_url(env, "SAILPLANE_AZURE_ENDPOINT"),
        ssm_endpoint=_optional_url(env, "SAILPLANE_SSM_ENDPOINT"),
        host_env=env,
        relay_queue=_optional_url(env, "SAILPLANE_RELAY_QUEUE") or "",
        relay_mapping=env.get("SAILPLANE_RELAY_MAPPING", ""),
        amazon_endpoint=_optional_url(env, "AWS_ENDPOINT_URL"),
        metrics=_metrics(env),
        gcp_credentials=_credentials(env, "SAILPLANE_GCP_CREDENTIALS", credentials.gcp),
        azure_credentials=_credentials(env, "SAILPLANE_AZURE_CREDENTIALS", credentials.azure),
    )


def _required(env: Mapping[str, str], name: str, expected: str) -> str:
    value = env.get(name, "")
    if not value:
        raise ConfigError(f"{name}: not set; expected {expected}.")
    return value


def _region(env: Mapping[str, str]) -> str:
    return _required(env, "AWS_REGION", "the table's region, e.g. `us-east-1`")


def _list(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part for each in env.get(name, "").split(",") if (part := each.strip()))


def _deployment(env: Mapping[str, str], providers: Collection[str]) -> str:
    """The tag by which a control plane knows its machines. Two with one name remove each other's, so clouds want one given."""
    name = env.get("SAILPLANE_DEPLOYMENT", "")
    if not {"aws", "gcp", "azure"}.isdisjoint(providers):
        expected = "a name that no other control plane has in these cloud accounts, e.g. `acme-prod`"
        name = _required(env, "SAILPLANE_DEPLOYMENT", expected)
    if name and not _DEPLOYMENT.fullmatch(name):
        raise ConfigError("SAILPLANE_DEPLOYMENT: expected at most 40 characters of a-z, 0-9 and -, a letter first.")
    return name or "sailplane"


def _metrics(env: Mapping[str, str]) -> str:
    value = env.get("SAILPLANE_METRICS", "")
    if value not in ("", "emf"):
        raise ConfigError("SAILPLANE_METRICS: expected `emf`, or nothing.")
    return value


def _credentials(env: Mapping[str, str], name: str, read: Callable[[str], Mapping[str, Any]]) -> Mapping[str, Any]:
    if not env.get(name):
        return {}
    try:
        return read(env[name])
    except Invalid as error:
        raise ConfigError(f"{name}: {error}") from None


def _snapshot(env: Mapping[str, str]) -> str:
    value = env.get("SAILPLANE_SNAPSHOT", "")
    if value and not (re.fullmatch(r"s3://[a-z0-9.-]{3,63}/.{1,1024}", value) or Path(value).is_absolute()):
        raise ConfigError("SAILPLANE_SNAPSHOT: expected s3://BUCKET/KEY or the absolute path of a file.")
    return value


def _optional_directory(env: Mapping[str, str], name: str) -> Path | None:
    value = env.get(name, "")
    if value and not Path(value).is_absolute():
        raise ConfigError(f"{name}: expected the absolute path of a directory.")
    return Path(value) if value else None


def _optional_url(env: Mapping[str, str], name: str) -> str | None:
    return _url(env, name) if env.get(name) else None


def _url(env: Mapping[str, str], name: str) -> str:
    value = _required(env, name, "a URL")
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{name}: expected http(s)://host[:port][/prefix].")
    return value.rstrip("/")


def _keys(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    """One key, or several separated by commas while routers change from one to the next."""
    return tuple(_key({name: value.strip()}, name) for value in env.get(name, "").split(","))


def _key(env: Mapping[str, str], name: str) -> str:
    value = _required(env, name, f"at least {MIN_KEY_CHARACTERS} random characters")
    if len(value) < MIN_KEY_CHARACTERS or not (value.isascii() and value.isprintable()) or " " in value:
        raise ConfigError(f"{name}: expected at least {MIN_KEY_CHARACTERS} random ASCII characters without spaces.")
    return value
