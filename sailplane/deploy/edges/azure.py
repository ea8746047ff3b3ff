"""Edges on Azure Functions, plan Flex Consumption, through azure-mgmt-storage and azure-mgmt-web, and the app's SCM site.

    storage account + container -> plan FC1 -> function app -> the zip to its SCM site, which builds it -> mark as done

https://learn.microsoft.com/azure/azure-functions/functions-infrastructure-as-code?pivots=flex-consumption-plan
https://learn.microsoft.com/azure/azure-functions/functions-deployment-technologies#one-deploy
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.policies import HeadersPolicy, RequestIdPolicy, RetryPolicy, UserAgentPolicy
from azure.core.polling import LROPoller
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy
from azure.mgmt.storage import StorageManagementClient
from azure.mgmt.web import WebSiteManagementClient
from azure.mgmt.web.models import Site

from chalicelib.errors import SailplaneError
from sailplane.deploy.account import CloudUnreachable, NoAccess
from sailplane.deploy.edges.edge import (
    CONTENT,
    DEPLOYMENT,
    REGION,
    EdgeFailed,
    Found,
    Part,
    Show,
    State,
    Wanted,
    digest,
    failed,
)

_T = TypeVar("_T")

_PUBLIC = "https://management.azure.com"
# What SCM sites take tokens for; those for _PUBLIC are not accepted by all of them.
_SCM_SCOPE = "https://management.core.windows.net//.default"
_TIMEOUT_S = 60.0
_PATIENCE_S = 900.0
_LOOKS = 300  # at the build, with a pause after each: it takes one to three minutes
# The SCM site of a new app does not answer, or does not know the roles yet, for up to a minute; 409 while it still builds
# what an interrupted run gave it.
_SCM_TRIES = 100
_SCM_NOT_YET = {401, 403, 404, 409, 500, 502, 503}
_CONTAINER = "package"
_UNFINISHED = "unfinished"
# https://github.com/projectkudu/kudu/wiki/REST-API#deployment: pending, building, deploying; failed; success.
_SCM_UNDER_WAY, _SCM_SUCCESS = {0, 1, 2}, 4

_SETTINGS = {"PYTHON_THREADPOOL_THREAD_COUNT": "100"}
# With 3.13 comes azure-functions 2, which is not what the edge is tested with.
_RUNTIME = {"name": "python", "version": "3.12"}
# The smallest instance; none is kept when nobody asks, so nothing is paid for then. Azure gives a Python instance one
# request at a time if it is not told otherwise.
_SCALE = {
    "instanceMemoryMB": 512,
    "maximumInstanceCount": 100,
    "triggers": {"http": {"perInstanceConcurrency": 100}},
}
_STORAGE = {
    "allowBlobPublicAccess": False,
    "minimumTlsVersion": "TLS1_2",
    "supportsHttpsTrafficOnly": True,
}
_HINTS = {
    "AuthorizationFailed": "Have the role Contributor on the resource group.",
    "ExpiredAuthenticationToken": "Log in: az login.",
    "InvalidAuthenticationToken": "Log in: az login.",
    "LocationNotAvailableForResourceType": "Choose a region of: az functionapp list-flexconsumption-locations.",
    "MissingSubscriptionRegistration": "Run az provider register for Microsoft.Web and Microsoft.Storage.",
    "ResourceGroupNotFound": "Create it with az group create, or name an existing one.",
    "SubscriptionNotFound": "Name a subscription that az account list shows.",
}


class AzureEdges:
    """`Edges` in one resource group. `endpoint_url` (`http://token@host:port`) is a stand-in's for Resource Manager.

    What serves and what is asked for next is told by the app's tag: none while it is being made for the first time.
    """

    cloud = "azure"

    def __init__(
        self,
        *,
        deployment: str,
        subscription: str,
        resource_group: str,
        endpoint_url: str | None = None,
        pause: Callable[[float], None] = time.sleep,
        poll_s: float = 3.0,
    ) -> None:
        self._deployment = deployment
        self._subscription = subscription
        self._group = resource_group
        self._endpoint_url = endpoint_url
        self._pause = pause
        self._poll_s = poll_s

    def parts(self, region: str) -> tuple[Part, ...]:
        return (
            Part("storage account, for the package", self._storage_name(region)),
            Part(f"plan Flex Consumption in {region}", self._app_name(region)),
            Part("function app", self._app_name(region)),
        )

    def find(self, region: str) -> Found | None:
        with _asking():
            app = self._app(region)
            if app is not None:
                return self._found(app)
            if self._storage_exists(region):
                return Found(self.cloud, region, self._storage_name(region), "", State.UNFINISHED)
            return None

    def is_current(self, found: Found, wanted: Wanted) -> bool:
        return found.state is State.READY and found.content == self._content(wanted)

    def deploy(self, region: str, wanted: Wanted, show: Show) -> Found:
        with _asking():
            before = self._app(region)
        has_served = before is not None and CONTENT in (before.tags or {})
        try:
            with _asking():
                show("Making the storage account")
                connection = self._make_storage(region)
                show("Making the plan")
                plan_id = self._make_plan(region)
                show("Making the function app")
                body = self._body(region, plan_id, connection, wanted, _UNFINISHED if has_served else "")
                app = self._make_app(region, body)
                self._forbid_passwords(region)
                show("Uploading the function")
                self._publish(_scm_url(app, self._scheme), wanted.archive, show)
                show("Marking it as done")
                app = self._make_app(region, self._body(region, plan_id, connection, wanted, self._content(wanted)))
                return self._found(app)
        except SailplaneError as error:
            raise failed(error, wanted, None if has_served else lambda: self.remove(region, show)) from None

    def remove(self, region: str, show: Show) -> bool:
        with _asking():
            app = self._app(region)
            was_there = app is not None or self._storage_exists(region)
            name, storage = self._app_name(region), self._storage_name(region)
            show("Deleting the function app")
            _gone(lambda: self._web.web_apps.delete(self._group, name, delete_empty_server_farm=False))
            show("Deleting the plan")
            _gone(lambda: self._web.app_service_plans.delete(self._group, name))
            show("Deleting the storage account")
            _gone(lambda: self._storage.storage_accounts.delete(self._group, storage))
            return was_there

    def edges(self) -> tuple[Found, ...]:
        with _asking():
            apps = [app for app in self._web.web_apps.list_by_resource_group(self._group) if self._is_ours(app.tags)]
            found = [self._found(app) for app in apps]
            complete = {each.region for each in found}
            return (
                *found,
                *(
                    Found(self.cloud, region, str(account.name), "", State.UNFINISHED)
                    for account in self._storage.storage_accounts.list_by_resource_group(self._group)
                    if self._is_ours(account.tags) and (region := (account.tags or {})[REGION]) not in complete
                ),
            )

    # --- names and tags -----------------------------------------------------------------------------------------------

    def _digest(self, region: str) -> str:
        return digest(self._subscription, self._group, self._deployment, region)

    def _app_name(self, region: str) -> str:
        """At most 59 of the 60 characters that an app may have; unique in all of Azure, as it is part of a host's name."""
        return f"sailplane-{self._deployment}-{self._digest(region)[:8]}"

    def _storage_name(self, region: str) -> str:
        """24 lower-case letters and digits, unique in all of Azure."""
        return f"sailplane{self._digest(region)[:15]}"

    def _tags(self, region: str) -> dict[str, str]:
        return {DEPLOYMENT: self._deployment, REGION: region}

    def _is_ours(self, tags: Mapping[str, str] | None) -> bool:
        return (tags or {}).get(DEPLOYMENT) == self._deployment

    # --- what an edge consists of -------------------------------------------------------------------------------------

    def _make_storage(self, region: str) -> str:
        """The account with its container; the connection string, which is a secret."""
        name = self._storage_name(region)
        account: Any = {
            "location": region,
            "kind": "StorageV2",
            "sku": {"name": "Standard_LRS"},
            "tags": self._tags(region),
            "properties": _STORAGE,
        }
        self._waited(self._storage.storage_accounts.begin_create(self._group, name, account, **self._polling))
        container: Any = {"properties": {"publicAccess": "None"}}
        self._storage.blob_containers.create(self._group, name, _CONTAINER, container)
        key = (self._storage.storage_accounts.list_keys(self._group, name).keys_property or [])[0].value
        return f"DefaultEndpointsProtocol=https;AccountName={name};AccountKey={key};EndpointSuffix=core.windows.net"

    def _make_plan(self, region: str) -> str:
        plan: Any = {
            "location": region,
            "kind": "functionapp",
            "sku": {"name": "FC1", "tier": "FlexConsumption"},
            "tags": self._tags(region),
            "properties": {"reserved": True},  # Linux
        }
        plans = self._web.app_service_plans
        made = self._waited(plans.begin_create_or_update(self._group, self._app_name(region), plan, **self._polling))
        return str(made.id)

    def _body(self, region: str, plan_id: str, connection: str, wanted: Wanted, content: str) -> Any:
        """The whole app, with the tag `content` unless that is empty."""
        settings = {"AzureWebJobsStorage": connection, **_SETTINGS, **wanted.env}
        storage = {
            "type": "blobContainer",
            "value": f"https://{self._storage_name(region)}.blob.core.windows.net/{_CONTAINER}",
            "authentication": {
                "type": "StorageAccountConnectionString",
                "storageAccountConnectionStringName": "AzureWebJobsStorage",
            },
        }
        return {
            "location": region,
            "kind": "functionapp,linux",
            "tags": self._tags(region) | ({CONTENT: content} if content else {}),
            "properties": {
                "serverFarmId": plan_id,
                "reserved": True,
                "httpsOnly": True,
                "clientAffinityEnabled": False,
                "functionAppConfig": {
                    "deployment": {"storage": storage},
                    "runtime": _RUNTIME,
                    "scaleAndConcurrency": _SCALE,
                },
                "siteConfig": {
                    "minTlsVersion": "1.2",
                    "scmMinTlsVersion": "1.2",
                    "ftpsState": "Disabled",
                    "appSettings": [{"name": name, "value": value} for name, value in settings.items()],
                },
            },
        }

    def _content(self, wanted: Wanted) -> str:
        return wanted.content({**_SETTINGS, **_RUNTIME, **_SCALE, **_STORAGE})

    def _make_app(self, region: str, body: Any) -> Site:
        name = self._app_name(region)
        return self._waited(self._web.web_apps.begin_create_or_update(self._group, name, body, **self._polling))

    def _forbid_passwords(self, region: str) -> None:
        """Nobody but Azure's own identities may deploy: an app that is made by its API takes passwords otherwise."""
        name, never = self._app_name(region), {"properties": {"allow": False}}
        apps: Any = self._web.web_apps
        apps.update_scm_allowed(self._group, name, never)
        apps.update_ftp_allowed(self._group, name, never)

    def _app(self, region: str) -> Site | None:
        try:
            app = self._web.web_apps.get(self._group, self._app_name(region))
        except ResourceNotFoundError as error:
            if error.error and error.error.code in ("ResourceGroupNotFound", "SubscriptionNotFound"):
                raise
            return None
        if not self._is_ours(app.tags):
            raise EdgeFailed(f"{app.name} is not Sailplane's: it lacks the tag {DEPLOYMENT}={self._deployment}.")
        return app

    def _storage_exists(self, region: str) -> bool:
        try:
            self._storage.storage_accounts.get_properties(self._group, self._storage_name(region))
        except ResourceNotFoundError:
            return False
        return True

    def _found(self, app: Site) -> Found:
        tags = app.tags or {}
        content = tags.get(CONTENT, "")
        is_ready = content not in ("", _UNFINISHED)
        host = app.properties.default_host_name if app.properties else ""
        return Found(
            self.cloud,
            tags[REGION],
            str(app.name),
            f"https://{host}" if host else "",
            State.READY if is_ready else State.UNFINISHED,
            content if is_ready else "",
        )

    # --- the app's SCM site, which takes the zip ----------------------------------------------------------------------

    def _publish(self, scm: str, archive: bytes, show: Show) -> None:
        """Hand over the zip, and wait until it is built: `azure-functions` is installed by Azure."""
        answer = self._scm("POST", f"{scm}/api/publish?RemoteBuild=true&Deployer=sailplane", archive, show)
        if answer.status_code != 202:
            raise EdgeFailed(f"Azure does not take the upload (HTTP {answer.status_code}): {_said(answer)}")
        deployment = f"{scm}/api/deployments/{answer.json()}"
        for _ in range(_LOOKS):
            document = self._scm("GET", deployment, None, show).json()
            if document["status"] not in _SCM_UNDER_WAY:
                break
            show("Waiting for Azure to build it")
            self._pause(self._poll_s)
        else:
            raise CloudUnreachable("Azure has not built the app in a quarter of an hour. Run the same command again.")
        if document["status"] != _SCM_SUCCESS:
            raise EdgeFailed(f"Azure could not build the app: {document.get('status_text') or document['status']}")

    def _scm(self, method: str, url: str, content: bytes | None, show: Show) -> requests.Response:
        """An answer of the SCM site, asked again while it is not up."""
        headers = {"Authorization": f"Bearer {self._credential.get_token(_SCM_SCOPE).token}"}
        if content is not None:
            headers["Content-Type"] = "application/zip"
        refusal = ""
        for _ in range(_SCM_TRIES):
            try:
                answer = requests.request(
                    method, url, data=content, headers=headers, timeout=_TIMEOUT_S, allow_redirects=False
                )
            except requests.ConnectionError as error:  # its name is not known everywhere yet
                refusal = str(error)
            else:
                if answer.status_code not in _SCM_NOT_YET:
                    return answer
                refusal = f"HTTP {answer.status_code}: {_said(answer)}"
            show("Waiting for the app's SCM site")
            self._pause(self._poll_s)
        raise EdgeFailed(f"The app's SCM site refuses: {refusal}")

    # --- the way to Azure ---------------------------------------------------------------------------------------------

    def _waited(self, poller: LROPoller[_T]) -> _T:
        poller.wait(_PATIENCE_S)
        if not poller.done():
            raise CloudUnreachable(f"Azure has not finished after {_PATIENCE_S:.0f} s. Run the same command again.")
        return poller.result()

    @property
    def _polling(self) -> dict[str, Any]:
        return {"polling_interval": self._poll_s}

    @cached_property
    def _web(self) -> WebSiteManagementClient:
        return WebSiteManagementClient(self._credential, self._subscription, self._base, **self._policies)

    @cached_property
    def _storage(self) -> StorageManagementClient:
        return StorageManagementClient(self._credential, self._subscription, self._base, **self._policies)

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
    def _scheme(self) -> str:
        return urlsplit(self._base).scheme

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


def _scm_url(app: Site, scheme: str) -> str:
    """The app's SCM site, as Azure says: the hosts of newer apps cannot be made of their names."""
    states = (app.properties.host_name_ssl_states if app.properties else None) or []
    host = next((state.name for state in states if state.host_type == "Repository"), None)
    if not host:
        raise EdgeFailed(f"Azure names no SCM site of {app.name}.")
    return f"{scheme}://{host}"


def _gone(delete: Callable[[], object]) -> None:
    try:
        delete()
    except ResourceNotFoundError:
        return


def _said(answer: requests.Response) -> str:
    return answer.text[:500]


@contextmanager
def _asking() -> Iterator[None]:
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
    except requests.RequestException as error:
        raise CloudUnreachable(f"The app's SCM site does not answer: {error}") from error
