"""Asking a price list over HTTP: with patience for a busy server, and none for one that does not speak the protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from chalicelib.errors import SailplaneError

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
ATTEMPTS = 5
MAX_WAIT_S = 30.0  # whatever Retry-After says
MAX_PAGE_BYTES = 64 * 2**20  # unpacked; Google's pages have some 10 MB, Microsoft's 1
MAX_PAGES = 100  # Google's list has ten, Microsoft's of one machine type one or two


class SourceFailed(SailplaneError):
    """A price list could not be had; the former snapshot is kept. The message says whose, and why."""


class NoCredentials(SourceFailed):
    """A price list is shown to customers only, and no credentials are there."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A stand-in to ask instead of a cloud: `http://<key>@host:port` without the key, and the key."""

    url: str
    key: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Raises `ValueError` without repeating the text, which may hold a key."""
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("expected http(s)://[key@]host[:port][/prefix]")
        return cls(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/"), parts.username or "")


class Source:
    """A server of JSON documents. `told` hears what is being waited for."""

    def __init__(
        self,
        url: str,
        told: Callable[[str], None],
        sleep: Callable[[float], None],
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.url = url
        self._told = told
        self._sleep = sleep
        self._client = httpx.Client(timeout=TIMEOUT, headers=dict(headers))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, url: str, parameters: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
        """The JSON object at `url`. What is busy, broken or garbled is asked again.

        Raises:
            SourceFailed: it stays so, the server refuses or sends without end, or `url` (a link in an answer) leads to
                another server.
        """
        if not url.startswith(f"{self.url}/"):
            raise SourceFailed(f"{self.url} sends on to another server, which is not asked.")
        why, wait_s = "", 0.0
        for attempt in range(ATTEMPTS):
            if attempt:
                self._told(f"{why}; asking again in {wait_s:.0f} s")
                self._sleep(wait_s)
            wait_s = min(2.0**attempt, MAX_WAIT_S)
            try:
                response, body = self._read(url, parameters)
                if response.status_code == 429 or response.status_code >= 500:
                    why = f"{self.url} answers {response.status_code}"
                    wait_s = _retry_after_s(response, wait_s)
                    continue
                if response.status_code != 200:
                    raise SourceFailed(
                        f"{self.url} refuses with {response.status_code}: {body.decode(errors='replace')[:200]!r}"
                    )
                document = json.loads(body)
            except httpx.HTTPError as error:
                why = f"{self.url} does not answer ({type(error).__name__})"
            except (ValueError, RecursionError):
                why = f"{self.url} answers with what is not JSON"
            else:
                if isinstance(document, dict):
                    return document
                why = f"{self.url} answers with what is no JSON object"
        raise SourceFailed(f"{why}, {ATTEMPTS} times.")

    def _read(self, url: str, parameters: Mapping[str, str]) -> tuple[httpx.Response, bytes]:
        """The answer and its body, piece by piece: a small one may unpack to more than this machine has room for."""
        body = bytearray()
        with self._client.stream("GET", url, params=parameters or None) as response:
            for piece in response.iter_bytes():
                body += piece
                if len(body) > MAX_PAGE_BYTES:
                    raise SourceFailed(f"{self.url} answers with more than {MAX_PAGE_BYTES >> 20} MB.")
        return response, bytes(body)


def _retry_after_s(response: httpx.Response, otherwise: float) -> float:
    value = response.headers.get("retry-after", "")
    return min(float(value), MAX_WAIT_S) if value.isdecimal() else otherwise
