"""The control API as Python: one method an operation, its answers as the API's own models, its problems as our errors."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from chalicelib.api import schemas
from chalicelib.errors import Unreachable
from sailplane.cli.failures import Away, from_problem

# Longer than the slowest handler: `why` asks every replica's agent, each of which may use its probe's whole timeout.
TIMEOUT_S = 30.0
# A write whose answer got lost is sent again: its Idempotency-Key has it done once. The control plane takes one that says
# nothing for 60 s for dead.
LOST_PAUSES_S = (0.5, 1.0, 2.0)
UNDER_WAY_PAUSES_S = (1.0,) * 75
# Somebody else is at work on the service (423), the gateway has too many requests (429), or something that the control plane
# needs does not answer (503): asked three times more, after as long as the answer says, or this long.
BUSY_PAUSES_S = (1.0, 2.0, 4.0)
LONGEST_PAUSE_S = 10.0
_BUSY = (HTTPStatus.LOCKED, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_UNDER_WAY = "urn:sailplane:problem:in-progress"

_A = TypeVar("_A", bound=BaseModel)
_P = TypeVar(
    "_P",
    schemas.Services,
    schemas.Keys,
    schemas.AdminKeys,
    schemas.Secrets,
    schemas.Webhooks,
    schemas.Trusts,
    schemas.Audit,
    schemas.Backup,
)


class Client:
    """A control plane. Every method raises the tree of `chalicelib.errors`; `Unreachable` when nobody answers.

    Args:
        locate: finds the control plane's URL and admin key; asked at the first request, so that a command can refuse bad
            input without any control plane.
        tell: is told what takes long.
        pause: sleeps so many seconds.
    """

    def __init__(
        self,
        locate: Callable[[], tuple[str, str]],
        tell: Callable[[str], None] = lambda _text: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._locate = locate
        self._tell = tell
        self._pause = pause
        self._http: httpx.Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._http:
            self._http.close()

    def _connected(self) -> httpx.Client:
        if self._http is None:
            url, key = self._locate()
            headers = {"Authorization": f"Bearer {key}"}
            self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S)
        return self._http

    @property
    def url(self) -> str:
        """The control plane's address."""
        return str(self._connected().base_url).rstrip("/")

    def info(self) -> schemas.Info:
        return self._ask(schemas.Info, "GET", "/v1/info")

    def create(self, name: str, yaml: str, envs: Mapping[str, str]) -> schemas.Service:
        return self._ask(schemas.Service, "POST", "/v1/services", {"name": name, "yaml": yaml, "envs": envs})

    def services(self) -> tuple[schemas.Service, ...]:
        return tuple(one for page in self._pages(schemas.Services, "/v1/services") for one in page.services)

    def service(self, name: str) -> schemas.Service:
        return self._ask(schemas.Service, "GET", _path(name))

    def update(self, name: str, yaml: str, envs: Mapping[str, str], etag: str) -> schemas.Service:
        """Raises `Conflict` when the service has another tag by now."""
        return self._ask(schemas.Service, "PUT", _path(name), {"yaml": yaml, "envs": envs}, if_match=etag)

    def delete(self, name: str) -> schemas.Service:
        return self._ask(schemas.Service, "DELETE", _path(name))

    def version(self, name: str, number: int) -> schemas.Version:
        return self._ask(schemas.Version, "GET", f"{_path(name)}/versions/{number}")

    def events(self, name: str, *, after: datetime | None = None, limit: int = 200) -> tuple[schemas.Event, ...]:
        query = {"limit": limit} | ({"after": after.isoformat()} if after else {})
        return self._ask(schemas.Events, "GET", f"{_path(name)}/events", query=query).events

    def why(self, name: str) -> schemas.Why:
        return self._ask(schemas.Why, "GET", f"{_path(name)}/why")

    def log(self, name: str, replica: str, tail: int) -> schemas.Log:
        return self._ask(schemas.Log, "GET", f"{_path(name, replica)}/log", query={"tail": tail})

    def costs(self) -> schemas.Costs:
        return self._ask(schemas.Costs, "GET", "/v1/cost")

    def cost(self, name: str) -> schemas.ServiceCost:
        return self._ask(schemas.ServiceCost, "GET", f"{_path(name)}/cost")

    def endpoint_keys(self) -> tuple[schemas.Key, ...]:
        return tuple(one for page in self._pages(schemas.Keys, "/v1/keys") for one in page.keys)

    def create_key(
        self,
        services: Sequence[str],
        *,
        name: str,
        expires_in_s: float | None,
        rate_per_s: float | None,
        concurrency: int | None,
    ) -> schemas.NewKey:
        limits = {"expires_in_s": expires_in_s, "rate_per_s": rate_per_s, "concurrency": concurrency}
        return self._ask(schemas.NewKey, "POST", "/v1/keys", {"services": services, "name": name, **limits})

    def revoke_key(self, key_id: str) -> schemas.Revoked:
        return self._ask(schemas.Revoked, "DELETE", f"/v1/keys/{quote(key_id, safe='')}")

    def rotate_key(self, key_id: str, overlap_s: float) -> schemas.NewKey:
        return self._ask(schemas.NewKey, "POST", f"/v1/keys/{quote(key_id, safe='')}/rotate", {"overlap_s": overlap_s})

    def secrets(self) -> tuple[schemas.Secret, ...]:
        return tuple(one for page in self._pages(schemas.Secrets, "/v1/secrets") for one in page.secrets)

    def set_secret(self, name: str, text: str, services: Sequence[str] | None) -> schemas.SecretUse:
        """None in `services` leaves a secret that there is with those that have it."""
        wanted = {"text": text, "services": services}
        return self._ask(schemas.SecretUse, "PUT", f"/v1/secrets/{quote(name, safe='')}", wanted)

    def allow_secret(self, name: str, services: Sequence[str], *, only: bool) -> schemas.SecretUse:
        wanted = {"services": services, "only": only}
        return self._ask(schemas.SecretUse, "POST", f"/v1/secrets/{quote(name, safe='')}/services", wanted)

    def remove_secret(self, name: str, *, force: bool) -> schemas.SecretUse:
        query = {"force": force}
        return self._ask(schemas.SecretUse, "DELETE", f"/v1/secrets/{quote(name, safe='')}", query=query)

    def admin_keys(self) -> tuple[schemas.AdminKey, ...]:
        return tuple(one for page in self._pages(schemas.AdminKeys, "/v1/admin-keys") for one in page.keys)

    def create_admin_key(
        self, name: str, *, scopes: Sequence[str], services: Sequence[str], expires_in_s: float | None
    ) -> schemas.NewAdminKey:
        body = {"name": name, "scopes": scopes, "services": services, "expires_in_s": expires_in_s}
        return self._ask(schemas.NewAdminKey, "POST", "/v1/admin-keys", body)

    def revoke_admin_key(self, key_id: str) -> schemas.Revoked:
        return self._ask(schemas.Revoked, "DELETE", f"/v1/admin-keys/{quote(key_id, safe='')}")

    def audit(self) -> Iterator[schemas.AuditEntry]:
        """Entries, newest first; asked for as they are taken."""
        return (entry for page in self._pages(schemas.Audit, "/v1/audit") for entry in page.entries)

    def backup(self) -> Iterator[schemas.Backup]:
        """Page by page; asked for as they are taken."""
        return self._pages(schemas.Backup, "/v1/backup")

    def restore(self, entry: schemas.BackupEntry) -> schemas.RestoredEntry:
        return self._ask(schemas.RestoredEntry, "POST", "/v1/backup/entries", entry.model_dump(mode="json"))

    def webhooks(self) -> tuple[schemas.Webhook, ...]:
        return tuple(one for page in self._pages(schemas.Webhooks, "/v1/webhooks") for one in page.webhooks)

    def create_webhook(self, wanted: Mapping[str, Any]) -> schemas.NewWebhook:
        return self._ask(schemas.NewWebhook, "POST", "/v1/webhooks", wanted)

    def rotate_webhook(self, hook_id: str, overlap_s: float) -> schemas.NewWebhook:
        return self._ask(
            schemas.NewWebhook, "POST", f"/v1/webhooks/{quote(hook_id, safe='')}/rotate", {"overlap_s": overlap_s}
        )

    def remove_webhook(self, hook_id: str) -> schemas.Removed:
        return self._ask(schemas.Removed, "DELETE", f"/v1/webhooks/{quote(hook_id, safe='')}")

    def trusts(self) -> tuple[schemas.Trust, ...]:
        return tuple(one for page in self._pages(schemas.Trusts, "/v1/trusts") for one in page.trusts)

    def create_trust(self, wanted: Mapping[str, Any]) -> schemas.Trust:
        return self._ask(schemas.Trust, "POST", "/v1/trusts", wanted)

    def remove_trust(self, trust_id: str) -> schemas.Removed:
        return self._ask(schemas.Removed, "DELETE", f"/v1/trusts/{quote(trust_id, safe='')}")

    def leftovers(self) -> schemas.Leftovers:
        return self._ask(schemas.Leftovers, "GET", "/v1/leftovers")

    def remove_leftovers(self, leftovers: Sequence[schemas.Leftover]) -> schemas.Leftovers:
        names = [{"provider": one.provider, "id": one.id} for one in leftovers]
        return self._ask(schemas.Leftovers, "POST", "/v1/leftovers/remove", {"leftovers": names})

    def close_intake(self, by: str) -> schemas.Intake:
        return self._ask(schemas.Intake, "DELETE", "/v1/intake", query={"by": by})

    def open_intake(self, by: str) -> schemas.Intake:
        return self._ask(schemas.Intake, "PUT", "/v1/intake", query={"by": by})

    def act(self, name: str, replica: str, action: str, query: Mapping[str, Any] | None = None) -> schemas.Accepted:
        return self._ask(schemas.Accepted, "POST", f"{_path(name, replica)}/{action}", query=query)

    def _pages(self, answer: type[_P], path: str) -> Iterator[_P]:
        cursor: str | None = ""
        while cursor is not None:
            page = self._ask(answer, "GET", path, query={"cursor": cursor} if cursor else None)
            yield page
            cursor = page.next

    def _ask(
        self,
        answer: type[_A],
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        if_match: str | None = None,
    ) -> _A:
        http = self._connected()
        headers = {"If-Match": if_match} if if_match else {}
        if method != "GET":
            headers["Idempotency-Key"] = secrets.token_hex(16)
        try:
            response = self._send(http, http.build_request(method, path, json=body, params=query, headers=headers))
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            kind = Unreachable if http.base_url.host in ("127.0.0.1", "localhost") else Away
            raise kind(f"The control plane at {http.base_url} does not answer: {why}.") from error
        if response.is_error:
            raise from_problem(response.status_code, _document(response))
        return answer.model_validate_json(response.content)

    def _send(self, http: httpx.Client, request: httpx.Request) -> httpx.Response:
        """The answer; of a write the one that it has had in the end. Raises `httpx.TransportError`."""
        # Whoever watches asks again by themselves.
        lost = iter(() if request.method == "GET" else LOST_PAUSES_S)
        under_way, busy = iter(UNDER_WAY_PAUSES_S), iter(BUSY_PAUSES_S)
        while True:
            try:
                response = http.send(request)
            except (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.WriteError):
                if (pause_s := next(lost, None)) is None:
                    raise
                self._tell("The control plane's answer got lost; asking for it again.")
            else:
                if response.status_code in _BUSY:
                    pause_s = self._asked_to_wait(response, next(busy, None))
                elif _is_under_way(response):
                    pause_s = next(under_way, None)
                else:
                    pause_s = next(lost, None) if _may_come(response) else None
                if pause_s is None:
                    return response
            self._pause(pause_s)

    def _asked_to_wait(self, response: httpx.Response, pause_s: float | None) -> float | None:
        if pause_s is None:
            return None
        asked_s = min(max(pause_s, _retry_after_s(response)), LONGEST_PAUSE_S)
        why = _document(response).get("detail") or f"HTTP {response.status_code}"
        self._tell(f"The control plane is busy: {why} Asking again in {asked_s:g} s.")
        return asked_s


def _is_under_way(response: httpx.Response) -> bool:
    return response.status_code == HTTPStatus.CONFLICT and _document(response).get("type") == _UNDER_WAY


def _may_come(response: httpx.Response) -> bool:
    """Whether somebody between us and the control plane gave up; it may have done what was asked."""
    return response.status_code in (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT)


def _retry_after_s(response: httpx.Response) -> float:
    """What the answer asks us to wait; 0 when it does not say, or says it as a date, which the control plane never does."""
    given = response.headers.get("retry-after", "")
    return float(given) if given.isdecimal() else 0.0


def _path(service: str, replica: str = "") -> str:
    path = f"/v1/services/{quote(service, safe='')}"
    return f"{path}/replicas/{quote(replica, safe='')}" if replica else path


def _document(response: httpx.Response) -> Mapping[str, Any]:
    """The answer's problem document, or nothing when something between us and the control plane answered."""
    is_json = response.headers.get("content-type", "").startswith("application/problem+json")
    document: Mapping[str, Any] = response.json() if is_json else {}
    return document
