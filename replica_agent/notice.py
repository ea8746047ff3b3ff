"""What the cloud says about taking this machine: seen, told in every probe's answer, and told to the control plane at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import aiohttp

from replica_agent.config import Config

# What comes of reading a document that is not what it should be.
NONSENSE = (ValueError, KeyError, TypeError, AttributeError, OverflowError)
_TOLD_TIMEOUT_S = 30.0  # the control plane acts before it answers, as long as API Gateway lets it
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0
_TOO_LATE_S = 60.0  # a machine may outlive its instant by some seconds


@dataclass(frozen=True, slots=True)
class Notice:
    """The machine goes at `at` (epoch seconds), or, for REBALANCE, is at elevated risk since then."""

    kind: Literal["INTERRUPTION", "REBALANCE"]
    at: float


class Cloud(Protocol):
    """Where notices come from."""

    pause_s: float  # between two looks

    async def look(self) -> Sequence[Notice]:
        """The notices given by now.

        Raises aiohttp.ClientError, TimeoutError or one of `NONSENSE` when there is no sensible answer.
        """


class LocalFile:
    """A laptop's machine: `notice.json`, {"interruption_at": epoch seconds}."""

    pause_s = 0.2

    def __init__(self, path: Path) -> None:
        self._path = path

    async def look(self) -> Sequence[Notice]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ()
        return (Notice("INTERRUPTION", float(json.loads(text)["interruption_at"])),)


class Notices:
    """Watches one cloud's notices. A kind of notice is told once; `say` writes a line for people."""

    def __init__(
        self, cloud: Cloud, config: Config, session: aiohttp.ClientSession, say: Callable[[str], None]
    ) -> None:
        self._cloud = cloud
        self._config = config
        self._session = session
        self._say = say
        self._seen: dict[str, Notice] = {}

    @property
    def interruption_at(self) -> float | None:
        """Epoch seconds, or None while the machine stays."""
        notice = self._seen.get("INTERRUPTION")
        return None if notice is None else notice.at

    async def watch(self) -> None:
        """Look until cancelled. A metadata service that does not answer, or answers nonsense, is asked again."""
        async with asyncio.TaskGroup() as tellers:
            while True:
                try:
                    notices = await self._cloud.look()
                except (aiohttp.ClientError, TimeoutError, *NONSENSE):
                    notices = ()
                for notice in notices:
                    if notice.kind not in self._seen:
                        self._seen[notice.kind] = notice
                        self._say(f"{notice.kind}: the cloud names {time.strftime('%FT%TZ', time.gmtime(notice.at))}")
                        tellers.create_task(self._tell(notice))
                await asyncio.sleep(self._cloud.pause_s)

    async def passed(self) -> None:
        """Return at the instant of the interruption."""
        while (at := self.interruption_at) is None or time.time() < at:
            remaining_s = self._cloud.pause_s if at is None else at - time.time()
            await asyncio.sleep(max(0.0, min(self._cloud.pause_s, remaining_s)))

    async def _tell(self, notice: Notice) -> None:
        """Tell the control plane, again until it takes or refuses the notice. Nobody there to be told: nothing to do."""
        pause_s = _FIRST_PAUSE_S
        too_late = max(notice.at, time.time()) + _TOO_LATE_S
        while self._config.control_url and not await self._is_told(notice) and time.time() < too_late:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _is_told(self, notice: Notice) -> bool:
        config = self._config
        try:
            async with self._session.post(
                f"{config.control_url}/v1/replicas/{config.replica_id}/interruption",
                json={"boot_nonce": config.boot_nonce, "kind": notice.kind, "at": notice.at},
                headers={"Authorization": f"Bearer {config.agent_token}"},
                timeout=aiohttp.ClientTimeout(total=_TOLD_TIMEOUT_S),
                allow_redirects=False,
            ) as answer:
                return answer.status < 500 and answer.status not in (408, 429)
        except (aiohttp.ClientError, TimeoutError):
            return False
