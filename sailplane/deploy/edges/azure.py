"""Edges on Azure Functions, plan Flex Consumption, through azure-mgmt-storage and azure-mgmt-web, and the app's SCM site.

    storage account + container -> plan FC1 -> function app -> the zip to its SCM site, which builds it -> mark as done

https://learn.microsoft.com/azure/azure-functions/functions-infrastructure-as-code?pivots=flex-consumption-plan
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.mgmt.web.models import Site

from chalicelib.errors import SailplaneError
from sailplane.deploy.edges import scm
from sailplane.deploy.edges.arm import Arm, asking, gone
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

_CONTAINER = "package"
_UNFINISHED = "unfinished"
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
        self._arm = Arm(subscription, endpoint_url, poll_s)
        self._pause = partial(pause, poll_s)

    def parts(self, region: str) -> tuple[Part, ...]:
        return (
            Part("storage account, for the package", self._storage_name(region)),
            Part(f"plan Flex Consumption in {region}", self._app_name(region)),
            Part("function app", self._app_name(region)),
        )

    def find(self, region: str) -> Found | None:
        with asking():
            app = self._app(region)
            if app is not None:
                return self._found(app)
            if self._storage_exists(region):
                return Found(self.cloud, region, self._storage_name(region), "", State.UNFINISHED)
            return None

    def is_current(self, found: Found, wanted: Wanted) -> bool:
        return found.state is State.READY and found.content == self._content(wanted)

    def deploy(self, region: str, wanted: Wanted, show: Show) -> Found:
        with asking():
            before = self._app(region)
        has_served = before is not None and CONTENT in (before.tags or {})
        try:
            with asking():
                show("Making the storage account")
                connection = self._make_storage(region)
                show("Making the plan")
                plan_id = self._make_plan(region)
                show("Making the function app")
                body = self._body(region, plan_id, connection, wanted, _UNFINISHED if has_served else "")
                app = self._make_app(region, body)
                self._forbid_passwords(region)
                show("Uploading the function")
                site = scm.ScmSite(self._scm_url(app), partial(self._arm.token, scm.SCOPE), show, self._pause)
                site.publish(wanted.archive)
                show("Marking it as done")
                app = self._make_app(region, self._body(region, plan_id, connection, wanted, self._content(wanted)))
                return self._found(app)
        except SailplaneError as error:
            raise failed(error, wanted, None if has_served else lambda: self.remove(region, show)) from None

    def remove(self, region: str, show: Show) -> bool:
        with asking():
            app = self._app(region)
            was_there = app is not None or self._storage_exists(region)
            name, storage = self._app_name(region), self._storage_name(region)
            show("Deleting the function app")
            gone(lambda: self._arm.web.web_apps.delete(self._group, name, delete_empty_server_farm=False))
            show("Deleting the plan")
            gone(lambda: self._arm.web.app_service_plans.delete(self._group, name))
            show("Deleting the storage account")
            gone(lambda: self._arm.storage.storage_accounts.delete(self._group, storage))
            return was_there

    def edges(self) -> tuple[Found, ...]:
        with asking():
            apps = [
                app for app in self._arm.web.web_apps.list_by_resource_group(self._group) if self._is_ours(app.tags)
            ]
            found = [self._found(app) for app in apps]
            complete = {each.region for each in found}
            return (
                *found,
                *(
                    Found(self.cloud, region, str(account.name), "", State.UNFINISHED)
                    for account in self._arm.storage.storage_accounts.list_by_resource_group(self._group)
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
        self._arm.finished(
            self._arm.storage.storage_accounts.begin_create(self._group, name, account, **self._arm.polling)
        )
        container: Any = {"properties": {"publicAccess": "None"}}
        self._arm.storage.blob_containers.create(self._group, name, _CONTAINER, container)
        key = (self._arm.storage.storage_accounts.list_keys(self._group, name).keys_property or [])[0].value
        return f"DefaultEndpointsProtocol=https;AccountName={name};AccountKey={key};EndpointSuffix=core.windows.net"

    def _make_plan(self, region: str) -> str:
        plan: Any = {
            "location": region,
            "kind": "functionapp",
            "sku": {"name": "FC1", "tier": "FlexConsumption"},
            "tags": self._tags(region),
            "properties": {"reserved": True},  # Linux
        }
        plans = self._arm.web.app_service_plans
        made = self._arm.finished(
            plans.begin_create_or_update(self._group, self._app_name(region), plan, **self._arm.polling)
        )
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
        return self._arm.finished(
            self._arm.web.web_apps.begin_create_or_update(self._group, name, body, **self._arm.polling)
        )

    def _forbid_passwords(self, region: str) -> None:
        """Nobody but Azure's own identities may deploy: an app that is made by its API takes passwords otherwise."""
        name, never = self._app_name(region), {"properties": {"allow": False}}
        apps: Any = self._arm.web.web_apps
        apps.update_scm_allowed(self._group, name, never)
        apps.update_ftp_allowed(self._group, name, never)

    def _app(self, region: str) -> Site | None:
        try:
            app = self._arm.web.web_apps.get(self._group, self._app_name(region))
        except ResourceNotFoundError as error:
            if error.error and error.error.code in ("ResourceGroupNotFound", "SubscriptionNotFound"):
                raise
            return None
        if not self._is_ours(app.tags):
            raise EdgeFailed(f"{app.name} is not Sailplane's: it lacks the tag {DEPLOYMENT}={self._deployment}.")
        return app

    def _storage_exists(self, region: str) -> bool:
        try:
            self._arm.storage.storage_accounts.get_properties(self._group, self._storage_name(region))
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

    def _scm_url(self, app: Site) -> str:
        """The app's SCM site, as Azure says: the hosts of newer apps cannot be made of their names."""
        states = (app.properties.host_name_ssl_states if app.properties else None) or []
        host = next((state.name for state in states if state.host_type == "Repository"), None)
        if not host:
            raise EdgeFailed(f"Azure names no SCM site of {app.name}.")
        return f"{self._arm.scheme}://{host}"
