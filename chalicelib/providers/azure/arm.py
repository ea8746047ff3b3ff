"""The way to Azure Resource Manager: one client, and plain REST for what azure-mgmt-compute has no operations for.

https://learn.microsoft.com/azure/azure-resource-manager/management/overview
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.pipeline.policies import HeadersPolicy, HTTPPolicy, RequestIdPolicy, SansIOHTTPPolicy, UserAgentPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest, HttpResponse
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

from chalicelib.errors import Unreachable

_PUBLIC = "https://management.azure.com"
# A pass has 50 s in all and repeats by itself what failed, so there are no retries within it.
TIMEOUTS: Mapping[str, Any] = {"connection_timeout": 4, "read_timeout": 10}


def client(
    subscription: str, endpoint_url: str | None, credentials: Mapping[str, str] = MappingProxyType({})
) -> ComputeManagementClient:
    """A client for Azure, or for a stand-in at `http://<bearer token>@host:port`.

    `credentials` are an app registration's `tenant_id`, `client_id` and `client_secret`; without any, the SDK looks for some.

    It has its own few policies: the SDK's would register a resource provider when one is missing, and wait for that
    without an end.
    """
    url = urlsplit(endpoint_url or _PUBLIC)
    credential = _StandInToken(url.username or "") if endpoint_url else find_credential(credentials)
    return ComputeManagementClient(
        credential,
        subscription,
        f"{url.scheme}://{url.hostname}:{url.port}" if endpoint_url else _PUBLIC,
        policies=[RequestIdPolicy(), UserAgentPolicy("sailplane"), _authentication(credential)],
        **TIMEOUTS,
    )


def get(client: ComputeManagementClient, path: str, api_version: str) -> Mapping[str, Any] | None:
    """A resource, None when there is none. Raises the SDK's errors."""
    response = client.send_request(HttpRequest("GET", path, params={"api-version": api_version}))
    if response.status_code == 404:
        return None
    return _checked(response)


def put(client: ComputeManagementClient, path: str, api_version: str, body: Mapping[str, Any]) -> None:
    """Ask for a resource; it may take a while to come. Raises the SDK's errors."""
    response = client.send_request(HttpRequest("PUT", path, params={"api-version": api_version}, json=dict(body)))
    response.raise_for_status()


def delete(client: ComputeManagementClient, path: str, api_version: str) -> None:
    """Ask for a resource's removal; gone already is fine. Raises the SDK's errors."""
    response = client.send_request(HttpRequest("DELETE", path, params={"api-version": api_version}))
    if response.status_code != 404:
        response.raise_for_status()


def pages(client: ComputeManagementClient, path: str, **params: str) -> Iterator[Mapping[str, Any]]:
    """Every resource of a list, over all its pages. Raises the SDK's errors."""
    page = _checked(client.send_request(HttpRequest("GET", path, params=params)))
    yield from page["value"]
    while link := page.get("nextLink"):
        # The path of the link only: our token goes to the host that was configured and to no other.
        parts = urlsplit(link)
        page = _checked(client.send_request(HttpRequest("GET", f"{parts.path}?{parts.query}")))
        yield from page["value"]


def text(uri: str) -> str | None:
    """What a signed address holds, None when nothing. It is not shown our token, and it is a secret by itself."""
    with RequestsTransport(**TIMEOUTS) as transport:
        response = transport.send(HttpRequest("GET", uri))
        if response.status_code == 404:
            return None
        if response.status_code != 200:
            raise Unreachable(f"Azure's boot diagnostics: HTTP {response.status_code}")
        return bytes(response.read()).decode(errors="replace")


def _checked(response: HttpResponse) -> Mapping[str, Any]:
    response.raise_for_status()
    document: Mapping[str, Any] = response.json()
    return document


def find_credential(credentials: Mapping[str, str]) -> TokenCredential:
    """What is shown to Azure. Nothing is asked yet."""
    # A quarter of a second that stand-ins save.
    from azure.identity import ClientSecretCredential, DefaultAzureCredential  # noqa: PLC0415 see above

    if credentials:
        return ClientSecretCredential(**credentials, retry_total=0, **TIMEOUTS)
    return DefaultAzureCredential()


class _StandInToken:
    """A stand-in's one token, as a credential."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """Good for everything, for good."""
        return AccessToken(self._token, sys.maxsize)


def _authentication(credential: TokenCredential) -> HTTPPolicy[Any, Any] | SansIOHTTPPolicy[Any, Any]:
    if isinstance(credential, _StandInToken):  # spoken to over http, for which the SDK's own policy shows no token
        return HeadersPolicy({"Authorization": f"Bearer {credential.get_token().token}"})
    return ARMChallengeAuthenticationPolicy(credential, f"{_PUBLIC}/.default")
