"""One machine of the box: what EC2 knows of it beside moto's record, and what its metadata service tells it."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

_TOKEN_HEADER, _TTL_HEADER = "x-aws-ec2-metadata-token", "x-aws-ec2-metadata-token-ttl-seconds"
_BOOT_S = 5.0  # how long a machine that asks for its address is kept waiting for the hypervisor to say it


@dataclass
class Machine:
    """`record` is moto's."""

    id: str
    region: str
    zone: str
    zone_id: str
    spot: bool
    replica_id: str
    user_data: str
    launched_at: float
    record: Any
    address: str = ""
    booted: threading.Event = field(default_factory=threading.Event)
    ended_at: float | None = None
    interruption_at: float | None = None
    rebalance_at: float | None = None
    _tokens: set[str] = field(default_factory=set)

    def metadata(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """IMDSv2: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html."""
        path = path.partition("?")[0]
        if (method, path) == ("PUT", "/latest/api/token"):
            return self._token(headers.get(_TTL_HEADER, ""))
        if method != "GET":
            return 405, {}, b""
        if headers.get(_TOKEN_HEADER) not in self._tokens:
            return 401, {}, b""
        text = self._document(path.removeprefix("/latest/"))
        return (200, {"Content-Type": "text/plain"}, text.encode()) if text else (404, {}, b"")

    def _token(self, ttl: str) -> tuple[int, dict[str, str], bytes]:
        if not ttl.isdigit() or not 1 <= int(ttl) <= 21600:
            return 400, {}, b""
        token = secrets.token_urlsafe(40)
        self._tokens.add(token)
        return 200, {_TTL_HEADER: ttl}, token.encode()

    def _document(self, path: str) -> str:
        """Empty when there is none."""
        documents: dict[str, Callable[[], str]] = {
            "user-data": lambda: self.user_data,
            "meta-data/instance-id": lambda: self.id,
            "meta-data/instance-type": lambda: str(self.record.instance_type),
            "meta-data/local-ipv4": self._own_address,
            "meta-data/public-ipv4": self._own_address,
            "meta-data/placement/availability-zone": lambda: self.zone,
            "meta-data/placement/availability-zone-id": lambda: self.zone_id,
            "meta-data/placement/region": lambda: self.region,
            "meta-data/spot/instance-action": self._instance_action,
            "meta-data/events/recommendations/rebalance": self._recommendation,
        }
        return documents[path]() if path in documents else ""

    def _own_address(self) -> str:
        self.booted.wait(_BOOT_S)
        return self.address

    def _instance_action(self) -> str:
        at = self.interruption_at
        return "" if at is None else json.dumps({"action": "terminate", "time": stamp(at)})

    def _recommendation(self) -> str:
        return "" if self.rebalance_at is None else json.dumps({"noticeTime": stamp(self.rebalance_at)})


def stamp(at: float) -> str:
    """An instant as AWS writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
