"""Azure's Resource Manager, as edges are made through it: the SDK's clients, who asks, and errors as ours."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.policies import HeadersPolicy, RequestIdPolicy, RetryPolicy, UserAgentPolicy
from azure.core.polling import LROPoller
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy
from azure.mgmt.storage import StorageManagementClient
from azure.mgmt.web import WebSiteManagementClient

from sailplane.deploy.account import CloudUnreachable, NoAccess
from sailplane.deploy.edges.edge import EdgeFailed

_T = TypeVar("_T")

_PUBLIC = "https://management.azure.com"
_PATIENCE_S = 900.0
_HINTS = {
    "AuthorizationFailed": "Have the role Contributor on the resource group.",
    "ExpiredAuthenticationToken": "Log in: az login.",
    "InvalidAuthenticationToken": "Log in: az login.",
    "LocationNotAvailableForResourceType": "Choose a region of: az functionapp list-flexconsumption-locations.",
    "MissingSubscriptionRegistration": "Run az provider register for Microsoft.Web and Microsoft.Storage.",
    "ResourceGroupNotFound": "Create it with az group create, or name an existing one.",
    "SubscriptionNotFound": "Name a subscription that az account list shows.",
}


class Arm:
    """One subscription's Resource Manager.

    Args:
        endpoint_url: of a stand-in, `http://token@host:port`.
        poll_s: between two looks at what takes long.
    """

    def __init__(self, subscription: str, endpoint_url: str | None, poll_s: float) -> None:
        self._subscription = subscription
        self._endpoint_url = endpoint_url
        self._poll_s = poll_s

    @cached_property
    def web(self) -> WebSiteManagementClient:
        """Plans and apps."""
        return WebSiteManagementClient(self._credential, self._subscription, self._base, **self._policies)

    @cached_property
    def storage(self) -> StorageManagementClient:
        """Accounts and containers."""
        return StorageManagementClient(self._credential, self._subscription, self._base, **self._policies)

    @property
    def polling(self) -> dict[str, Any]:
        """How the clients' `begin_…` methods look whether they are done."""
        return {"polling_interval": self._poll_s}

    @property
    def scheme(self) -> str:
        """`https`, or a stand-in's."""
        return urlsplit(self._base).scheme

    def finished(self, poller: LROPoller[_T]) -> _T:
        """What was begun, when it is done. Raises `CloudUnreachable` after a quarter of an hour."""
        poller.wait(_PATIENCE_S)
        if not poller.done():
            raise CloudUnreachable(f"Azure has not finished after {_PATIENCE_S:.0f} s. Run the same command again.")
        return poller.result()

    def token(self, scope: str) -> str:
        """A bearer token for what is not Resource Manager's."""
        return self._credential.get_token(scope).token

    @cached_property
    def _credential(self) -> TokenCredential:
        if self._endpoint_url:
            return _StandInToken(urlsplit(self._endpoint_url).username or "")
        from azure.identity import DefaultAzureCredential  # noqa: PLC0415 a quarter of a second that stand-ins save

        return DefaultAzureCredential()

    @property
    def _base(self) -> str:
        if not self._endpoint_url:
            return _PUBLIC
        url = urlsplit(self._endpoint_url)
        return f"{url.scheme}://{url.hostname}:{url.port}"

    @property
    def _policies(self) -> dict[str, Any]:
        """Few of our own: the SDK's would register a missing resource provider, and wait for that without an end."""
        if self._endpoint_url:  # spoken to over http, for which the SDK's own policy shows no token
            token = self._credential.get_token().token
            authentication: Any = HeadersPolicy({"Authorization": f"Bearer {token}"})
        else:
            authentication = ARMChallengeAuthenticationPolicy(self._credential, f"{_PUBLIC}/.default")
        again = RetryPolicy(retry_total=3, retry_backoff_factor=self._poll_s / 4)
        return {"policies": [RequestIdPolicy(), UserAgentPolicy("sailplane"), again, authentication]}


class _StandInToken:
    """A stand-in's one token, as a credential."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """Good for everything, for good."""
        return AccessToken(self._token, sys.maxsize)


def gone(delete: Callable[[], object]) -> None:
    """Delete what may be gone."""
    try:
        delete()
    except ResourceNotFoundError:
        return


@contextmanager
def asking() -> Iterator[None]:
    """Raise what Azure's libraries raise as ours."""
    try:
        yield
    except HttpResponseError as error:
        if isinstance(error, ClientAuthenticationError) and error.response is None:  # nothing to show to Azure
            said = error.message.partition("\n")[0][:500]
            raise NoAccess(f"There are no credentials for Azure: {said} Log in: az login.") from error
        code = (error.error.code if error.error else None) or f"HTTP {error.status_code}"
        said = str((error.error.message if error.error else None) or error.reason)[:500]
        # Azure may repeat what it rejects, which holds the key of the edge's storage account.
        said = re.sub(r"AccountKey=[^;'\"]+", "AccountKey=…", said)
        if error.status_code in (408, 429) or (error.status_code or 0) >= 500:
            raise CloudUnreachable(f"Azure asks to try later ({code}): {said}") from None
        raise EdgeFailed(f"Azure refuses ({code}): {said} {_HINTS.get(code, '')}".rstrip()) from None
    except AzureError as error:
        raise CloudUnreachable(f"Azure does not answer: {error.message[:500]}") from error
