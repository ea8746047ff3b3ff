"""boto3's EC2 clients: one a region, made when first used, for any number of threads."""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader, create_loader

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# A pass has 50 s and repeats what failed, so nothing is repeated here; RunInstances answers within seconds or not at all.
_CONFIG = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"total_max_attempts": 1},
    max_pool_connections=10,
    user_agent_extra="sailplane",
)


def _core() -> botocore.session.Session:
    session = botocore.session.get_session()
    session.register_component("data_loader", _loader())
    return session


@cache
def _loader() -> Loader:
    """Reads EC2's contract, 0.3 s of parsing, once a process instead of once a session."""
    return create_loader()


class Clients:
    """EC2 clients by region.

    Without `endpoint_url` boto3 looks for credentials and endpoints as it always does. A stand-in's `endpoint_url` is
    `http://<key>@host:port`: the key is shown as both halves of the credentials, and no other credentials are looked for.
    """

    def __init__(self, endpoint_url: str | None) -> None:
        self._lock = threading.Lock()  # a session may not be used by two threads at once, a client may
        self._clients: dict[str, EC2Client] = {}
        self._session: boto3.session.Session | None = None
        stand_in = urlsplit(endpoint_url or "")
        self._key = stand_in.username
        self._url = f"{stand_in.scheme}://{stand_in.hostname}:{stand_in.port}" if endpoint_url else None

    def ec2(self, region: str) -> EC2Client:
        """The client for a region."""
        with self._lock:
            if region not in self._clients:
                if self._session is None:
                    self._session = boto3.session.Session(self._key, self._key, botocore_session=_core())
                self._clients[region] = self._session.client(
                    "ec2", region_name=region, endpoint_url=self._url, config=_CONFIG
                )
            return self._clients[region]
