"""The control API as Python: one method an operation, its answers as the API's own models, its problems as our errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from chalicelib.api import schemas
from chalicelib.errors import Unreachable
from sailplane.cli.failures import from_problem

# Longer than the slowest handler: `why` asks every replica's agent, each of which may use its probe's whole timeout.
TIMEOUT_S = 30.0

_A = TypeVar("_A", bound=BaseModel)


class Client:
    """A control plane. Every method raises the tree of `chalicelib.errors`; `Unreachable` when nobody answers.

    Args:
        locate: finds the control plane's URL and admin key; asked at the first request, so that a command can refuse bad
            input without any control plane.
    """

    def __init__(self, locate: Callable[[], tuple[str, str]]) -> None:
        self._locate = locate
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

    def info(self) -> schemas.Info:
        return self._ask(schemas.Info, "GET", "/v1/info")

    def create(self, name: str, yaml: str, envs: Mapping[str, str]) -> schemas.Service:
        return self._ask(schemas.Service, "POST", "/v1/services", {"name": name, "yaml": yaml, "envs": envs})

    def services(self) -> tuple[schemas.Service, ...]:
        return self._ask(schemas.Services, "GET", "/v1/services").services

    def service(self, name: str) -> schemas.Service:
        return self._ask(schemas.Service, "GET", _path(name))

    def update(self, name: str, yaml: str, envs: Mapping[str, str]) -> schemas.Service:
        return self._ask(schemas.Service, "PUT", _path(name), {"yaml": yaml, "envs": envs})

    def delete(self, name: str) -> schemas.Service:
        return self._ask(schemas.Service, "DELETE", _path(name))

    def versions(self, name: str) -> tuple[schemas.Version, ...]:
        return self._ask(schemas.Versions, "GET", f"{_path(name)}/versions").versions

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
        return self._ask(schemas.Keys, "GET", "/v1/keys").keys

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

    def leftovers(self) -> schemas.Leftovers:
        return self._ask(schemas.Leftovers, "GET", "/v1/leftovers")

    def remove_leftovers(self, leftovers: Sequence[schemas.Leftover]) -> schemas.Leftovers:
        names = [{"provider": one.provider, "id": one.id} for one in leftovers]
        return self._ask(schemas.Leftovers, "POST", "/v1/leftovers/remove", {"leftovers": names})

    def act(self, name: str, replica: str, action: str, query: Mapping[str, Any] | None = None) -> schemas.Accepted:
        return self._ask(schemas.Accepted, "POST", f"{_path(name, replica)}/{action}", query=query)

    def _ask(
        self,
        answer: type[_A],
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> _A:
        http = self._connected()
        try:
            response = http.request(method, path, json=body, params=query)
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            raise Unreachable(f"The control plane at {http.base_url} does not answer: {why}.") from error
        if response.is_error:
            raise from_problem(response.status_code, _document(response))
        return answer.model_validate_json(response.content)


def _path(service: str, replica: str = "") -> str:
    path = f"/v1/services/{quote(service, safe='')}"
    return f"{path}/replicas/{quote(replica, safe='')}" if replica else path


def _document(response: httpx.Response) -> Mapping[str, Any]:
    """The answer's problem document, or nothing when something between us and the control plane answered."""
    is_json = response.headers.get("content-type", "").startswith("application/problem+json")
    document: Mapping[str, Any] = response.json() if is_json else {}
    return document
