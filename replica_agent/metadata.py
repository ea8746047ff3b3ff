"""Notices in the clouds' metadata services, which only the machine itself can ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from replica_agent.config import Config
from replica_agent.notice import Cloud, LocalFile, Notice

_TIMEOUT_S = 10.0
_TOKEN_LIFE_S = 21_600  # the longest that EC2 allows
_GCP_WAIT_S = 60
_GCP_NOTICE_S = 30.0  # from the flag to the power switch, https://cloud.google.com/compute/docs/instances/preemptible


class Aws:
    """EC2's instance metadata, version 2. Looked at every 5 s, which is what Amazon advises, of 120 s of notice.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html and
    rebalance-recommendations.html there. EventBridge tells the same; whoever comes first does.
    """

    pause_s = 5.0

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base
        self._token = ""

    async def look(self) -> Sequence[Notice]:
        if not self._token:
            self._token = await self._new_token()
        action = await self._read("spot/instance-action", "time")
        risk = await self._read("events/recommendations/rebalance", "noticeTime")
        interruption = () if action is None else (Notice("INTERRUPTION", action),)
        return interruption if risk is None else (*interruption, Notice("REBALANCE", risk))

    async def _new_token(self) -> str:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_LIFE_S)}
        async with self._session.put(f"{self._base}/latest/api/token", headers=headers, timeout=_limit()) as answer:
            answer.raise_for_status()
            return await answer.text()

    async def _read(self, path: str, field: str) -> float | None:
        """The instant in a document, None while there is no such document."""
        headers = {"X-aws-ec2-metadata-token": self._token}
        async with self._session.get(
            f"{self._base}/latest/meta-data/{path}", headers=headers, timeout=_limit()
        ) as answer:
            if answer.status == 404:
                return None
            if answer.status == 401:
                self._token = ""
            answer.raise_for_status()
            document = await answer.json(content_type=None)
        return datetime.fromisoformat(document[field]).timestamp()


class Gcp:
    """Compute Engine's flag `preempted`, which the server answers when it changes: of 30 s of notice none is lost.

    https://cloud.google.com/compute/docs/metadata/querying-metadata, "wait for change"
    """

    pause_s = 1.0  # for a server that answers at once although nothing changed

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._url = f"{base}/computeMetadata/v1/instance/preempted"
        self._etag = "0"  # which no answer has, so that the first one comes at once

    async def look(self) -> Sequence[Notice]:
        async with self._session.get(
            self._url,
            params={"wait_for_change": "true", "last_etag": self._etag, "timeout_sec": str(_GCP_WAIT_S)},
            headers={"Metadata-Flavor": "Google"},
            timeout=_limit(_GCP_WAIT_S),
        ) as answer:
            answer.raise_for_status()
            self._etag = answer.headers.get("ETag", "0")
            is_preempted = (await answer.text()).strip() == "TRUE"
        return (Notice("INTERRUPTION", time.time() + _GCP_NOTICE_S),) if is_preempted else ()


class Azure:
    """Azure's scheduled events of type Preempt, looked at every second, as Azure advises, of 30 s of notice.

    They are not acknowledged (`StartRequests`): Azure would take the machine at once, which still serves. A machine that
    is in no set, as ours are, sees its own events only.
    https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events
    """

    pause_s = 1.0

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._url = f"{base}/metadata/scheduledevents?api-version=2020-07-01"

    async def look(self) -> Sequence[Notice]:
        async with self._session.get(self._url, headers={"Metadata": "true"}, timeout=_limit()) as answer:
            answer.raise_for_status()
            document = await answer.json(content_type=None)
        events: list[dict[str, Any]] = [each for each in document["Events"] if each["EventType"] == "Preempt"]
        # Empty once the event has begun.
        return [
            Notice(
                "INTERRUPTION",
                parsedate_to_datetime(each["NotBefore"]).timestamp() if each["NotBefore"] else time.time(),
            )
            for each in events
        ]


_CLOUDS: Mapping[str, Callable[[aiohttp.ClientSession, str], Cloud]] = {"aws": Aws, "gcp": Gcp, "azure": Azure}


def cloud_of(config: Config, session: aiohttp.ClientSession) -> Cloud:
    """Where this machine's notices come from."""
    if config.is_local:
        return LocalFile(config.directory / "notice.json")
    return _CLOUDS[config.cloud](session, config.metadata_url)


def _limit(wait_s: float = 0.0) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=wait_s + _TIMEOUT_S)
