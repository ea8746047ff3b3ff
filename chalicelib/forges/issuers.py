"""The public keys of issuers of identity tokens, fetched when they are needed and kept for a while."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from chalicelib.errors import Invalid, NotFound, Unreachable
from chalicelib.forges.http import Http
from chalicelib.ports import Clock

# A key that its issuer has withdrawn goes on being believed for so long.
_KEPT_S = 3600.0
# New keys appear with their first token. Whoever invents key ids has an issuer asked once a minute, no more.
_ASKED_AT_MOST_EVERY_S = 60.0
# One that does not answer keeps a function waiting for 15 s each time: it is left alone for 5 s, 10 s … 60 s.
_FIRST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class _Known:
    """`trouble` is why the last attempt to fetch the keys has failed, empty when it has not."""

    keys: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    good_until: float = -math.inf
    ask_at: float = -math.inf
    failures: int = 0
    trouble: str = ""


class JwksKeys:
    """`ports.IssuerKeys` over HTTP, one set a URL (https://www.rfc-editor.org/rfc/rfc7517#section-5)."""

    def __init__(self, http: Http, clock: Clock) -> None:
        self._http = http
        self._clock = clock
        self._asking = threading.Lock()
        self._known: dict[str, _Known] = {}

    def find(self, jwks_url: str, key_id: str) -> Mapping[str, str] | None:
        with self._asking:
            known, now = self._known.get(jwks_url, _Known()), self._clock.now()
            if now < known.good_until and key_id in known.keys:
                return known.keys[key_id]
            if now >= known.ask_at:
                known = self._known[jwks_url] = self._asked(jwks_url, known)
        if known.trouble:
            raise Unreachable(known.trouble)
        return known.keys.get(key_id)

    def _asked(self, url: str, known: _Known) -> _Known:
        """What is known afterwards. What was fetched before stays good for its time, though the issuer is down."""
        try:
            keys = self._fetched(url)
        except Unreachable as error:
            pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(known.failures, 10), _ASKED_AT_MOST_EVERY_S)
            ask_at = self._clock.now() + pause_s  # from when it has failed, which may be 15 s later
            return replace(known, ask_at=ask_at, failures=known.failures + 1, trouble=str(error))
        now = self._clock.now()
        return _Known(keys, now + _KEPT_S, now + _ASKED_AT_MOST_EVERY_S)

    def _fetched(self, url: str) -> Mapping[str, Mapping[str, str]]:
        try:
            document = json.loads(self._http.ask("GET", url, {"Accept": "application/json"}))
            return {key["kid"]: key for key in document["keys"] if _is_for_signing(key)}
        except (NotFound, Invalid) as error:
            raise Unreachable(f"The issuer's keys cannot be fetched: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unreachable(f"The issuer's keys at {url} are not of the form that was expected.") from error


def _is_for_signing(key: Mapping[str, Any]) -> bool:
    return key.get("kty") == "RSA" and key.get("use", "sig") == "sig" and isinstance(key.get("kid"), str)
