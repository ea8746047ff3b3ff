"""The public keys of issuers of identity tokens, fetched when they are needed and kept for a while."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.errors import Invalid, NotFound, Unreachable
from chalicelib.forges.http import Http
from chalicelib.ports import Clock

# A key that its issuer has withdrawn goes on being believed for so long.
_KEPT_S = 3600.0
# New keys appear with their first token. Whoever invents key ids has an issuer asked once a minute, no more.
_ASKED_AT_MOST_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class _Known:
    at: float
    keys: Mapping[str, Mapping[str, str]]


class JwksKeys:
    """`ports.IssuerKeys` over HTTP, one set a URL (https://www.rfc-editor.org/rfc/rfc7517#section-5)."""

    def __init__(self, http: Http, clock: Clock) -> None:
        self._http = http
        self._clock = clock
        self._asking = threading.Lock()
        self._known: dict[str, _Known] = {}

    def find(self, jwks_url: str, key_id: str) -> Mapping[str, str] | None:
        with self._asking:
            known = self._known.get(jwks_url)
            age_s = self._clock.now() - known.at if known else _KEPT_S
            if known is None or age_s >= _KEPT_S or (key_id not in known.keys and age_s >= _ASKED_AT_MOST_EVERY_S):
                known = self._known[jwks_url] = _Known(self._clock.now(), self._fetched(jwks_url))
        return known.keys.get(key_id)

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
