"""What asking any forge has in common: bounds on time and size, and its answers named in our words."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import httpx

from chalicelib.errors import Invalid, NotFound, Unreachable

# A function has 60 s for all of its pass, and asks a forge three times at most.
_TIMEOUT_S = 8.0  # to connect, and of silence
_ANSWER_S = 15.0  # all of it
MAX_BYTES = 256 * 1024  # a service file has 64 KB at most, and a branch's answer some 10 KB
_THROTTLED = frozenset({408, 425, 429})


class Http:
    """Asks forges.

    Neither proxies nor .netrc: a token is sent where its owner said and nowhere else, so no redirect is followed.
    """

    @cached_property
    def _client(self) -> httpx.Client:
        """Made when it is needed: reading the certificates takes 35 ms. Two, of two threads that need it first, do no harm."""
        return httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False)

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The answer's body.

        Raises:
            Unreachable: no answer, a broken one, a throttled one, or the forge is at fault.
            NotFound: 404, which forges answer too where a token does not reach.
            Invalid: any other refusal, a redirect, an answer above `MAX_BYTES`, a header that cannot be sent.
        """
        _require_sendable(headers, url)
        asked = {"Accept-Encoding": "identity", **headers}  # or a small answer could become a large one
        try:
            request = self._client.build_request(method, url, headers=asked, params=query, json=body)
            answer = self._client.send(request, stream=True)
            try:
                content = _bounded(answer, url)
            finally:
                answer.close()
        except httpx.InvalidURL as error:
            raise Invalid(f"{url} is no address: {error}.") from error
        except httpx.HTTPError as error:
            raise Unreachable(f"{_host(url)} does not answer: {str(error) or type(error).__name__}") from error
        if answer.is_success:
            return content
        raise _refusal(answer, content, url)


def _require_sendable(headers: Mapping[str, str], url: str) -> None:
    """Or httpx would refuse a token with a line break in it, and say the token."""
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable() and value == value.strip()):
            raise Invalid(
                f"The token for {_host(url)} cannot be sent as {name}: it begins or ends with a space, or holds a line break or"
                " another character that no header can carry. `sailplane secrets set` it again."
            )


def _bounded(answer: httpx.Response, url: str) -> bytes:
    content, until = b"", time.monotonic() + _ANSWER_S
    for chunk in answer.iter_bytes():
        content += chunk
        if len(content) > MAX_BYTES:
            raise Invalid(f"{_host(url)} answered with more than {MAX_BYTES // 1024} KB.")
        if time.monotonic() > until:
            raise Unreachable(f"{_host(url)} takes longer than {_ANSWER_S:g} s to answer.")
    return content


def _refusal(answer: httpx.Response, content: bytes, url: str) -> NotFound | Invalid | Unreachable:
    """GitHub says with 403 too that an address has asked too often, and in a header that none are left."""
    status = answer.status_code
    said = f"{_host(url)} answered {status} to {answer.request.method} {httpx.URL(url).path}"
    is_throttled = status in _THROTTLED or answer.headers.get("x-ratelimit-remaining") == "0"
    if is_throttled or "retry-after" in answer.headers or status >= 500:
        return Unreachable(f"{said}: it is busy, or has been asked too often.")
    if status == 404:
        return NotFound(f"{said}: it is not there, or the token may not see it.")
    if status in (401, 403):
        return Invalid(f"{said}: the token is refused, or may not do this.")
    if answer.is_redirect:
        return Invalid(f"{said}: it has moved. Make the webhook again with its new name.")
    return Invalid(f"{said}: {content[:200].decode(errors='replace')}")


def _host(url: str) -> str:
    return httpx.URL(url).host
