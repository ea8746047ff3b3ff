"""Who a CI job is: its forge's token, and the key that the control plane gives for it."""

from __future__ import annotations

import httpx
from pydantic import BaseModel, ValidationError

from chalicelib.api import schemas
from chalicelib.errors import Invalid, Unreachable
from chalicelib.model import OidcIssuer
from sailplane.cli.client import TIMEOUT_S
from sailplane.cli.failures import NotTrusted, Refused, from_problem


class _Token(BaseModel):
    value: str


def asked_of_github(request_url: str, request_token: str, audience: str) -> str:
    """The job's identity token, made out to `audience`. Raises `Unreachable` or `Invalid`.

    https://docs.github.com/en/actions/reference/security/oidc#methods-for-requesting-the-oidc-token
    """
    url = httpx.URL(request_url).copy_merge_params({"audience": audience})
    answer = _sent(httpx.Request("GET", url, headers={"Authorization": f"Bearer {request_token}"}))
    try:
        return _Token.model_validate_json(answer.content).value
    except ValidationError as error:
        raise Invalid(f"GitHub gives this job no identity token: it answered {answer.status_code}.") from error


def exchanged(audience: str, kind: OidcIssuer, id_token: str) -> schemas.NewAdminKey:
    """A key for 15 minutes, from the control plane that the token is made out to. Raises `NotTrusted`, what another problem stands for, or `Unreachable`."""
    answer = _sent(httpx.Request("POST", f"{audience.rstrip('/')}/v1/auth/{kind}", json={"token": id_token}))
    if answer.is_error:
        is_problem = answer.headers.get("content-type", "").startswith("application/problem+json")
        error = from_problem(answer.status_code, answer.json() if is_problem else {})
        raise NotTrusted(str(error)) if isinstance(error, Refused) else error
    return schemas.NewAdminKey.model_validate_json(answer.content)


def _sent(request: httpx.Request) -> httpx.Response:
    try:
        with httpx.Client(timeout=TIMEOUT_S) as client:
            return client.send(request)
    except httpx.TransportError as error:
        raise Unreachable(f"{request.url.host} does not answer: {str(error) or type(error).__name__}.") from error
