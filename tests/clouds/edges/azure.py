"""One resource group of Azure in a box: storage accounts, plans, function apps and the SCM site of each app.

Requests are held against azure-mgmt-web and azure-mgmt-storage, which Microsoft generates from the published specification:
their request builders say method, path and version, their models every field. What those do not say (a plan must be there
and be of the kind that the app is for, settings that Flex Consumption refuses) is checked by hand. SCM sites have no
machine-readable contract: https://github.com/projectkudu/kudu/wiki/REST-API, as the Azure CLI uses it.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from azure.mgmt.storage import models as storage
from azure.mgmt.storage.operations import _operations as storage_sdk
from azure.mgmt.web import models as web
from azure.mgmt.web.operations import _operations as web_sdk

from tests.clouds.azure.contract import Operation, built, problem
from tests.clouds.azure.wire import Refused, Request
from tests.clouds.edges.line import Answer, Line, served

SUBSCRIPTION, GROUP, TOKEN = "00000000-0000-0000-0000-000000000001", "sailplane", "eyJ0.of-the-box"
_REGIONS = {"eastus", "westeurope"}
_PYTHONS = {"3.10", "3.11", "3.12", "3.13"}
_MEMORY_MB = {512, 2048, 4096}
# https://learn.microsoft.com/azure/azure-functions/functions-app-settings#flex-consumption-plan-deprecations
_REFUSED_SETTINGS = re.compile(
    r"FUNCTIONS_(EXTENSION_VERSION|WORKER_RUNTIME.*)|WEBSITE_.*|(ENABLE_ORYX|SCM_DO)_BUILD.*"
)
_STORAGE_NAME, _APP_NAME = re.compile(r"[a-z0-9]{3,24}"), re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,58}[A-Za-z0-9]")
_ARGUMENTS = ("{group}", "{name}", "{sub}")

OPERATIONS: tuple[Operation, ...] = (
    built(
        "storage.create",
        storage_sdk.build_storage_accounts_create_request,
        *_ARGUMENTS,
        body=storage.StorageAccountCreateParameters,
    ),
    built("storage.get", storage_sdk.build_storage_accounts_get_properties_request, *_ARGUMENTS, query="$expand"),
    built("storage.delete", storage_sdk.build_storage_accounts_delete_request, *_ARGUMENTS),
    built("storage.list", storage_sdk.build_storage_accounts_list_by_resource_group_request, "{group}", "{sub}"),
    built("storage.keys", storage_sdk.build_storage_accounts_list_keys_request, *_ARGUMENTS, query="$expand"),
    built(
        "containers.create",
        storage_sdk.build_blob_containers_create_request,
        "{group}",
        "{name}",
        "{container}",
        "{sub}",
        body=storage.BlobContainer,
    ),
    built(
        "plans.create", web_sdk.build_app_service_plans_create_or_update_request, *_ARGUMENTS, body=web.AppServicePlan
    ),
    built("plans.delete", web_sdk.build_app_service_plans_delete_request, *_ARGUMENTS),
    built("apps.create", web_sdk.build_web_apps_create_or_update_request, *_ARGUMENTS, body=web.Site),
    built("apps.get", web_sdk.build_web_apps_get_request, *_ARGUMENTS),
    built(
        "apps.delete", web_sdk.build_web_apps_delete_request, *_ARGUMENTS, query="deleteMetrics deleteEmptyServerFarm"
    ),
    built("apps.list", web_sdk.build_web_apps_list_by_resource_group_request, "{group}", "{sub}", query="includeSlots"),
    built(
        "apps.scm",
        web_sdk.build_web_apps_update_scm_allowed_request,
        *_ARGUMENTS,
        body=web.CsmPublishingCredentialsPoliciesEntity,
    ),
    built(
        "apps.ftp",
        web_sdk.build_web_apps_update_ftp_allowed_request,
        *_ARGUMENTS,
        body=web.CsmPublishingCredentialsPoliciesEntity,
    ),
    Operation("pending", "GET", "/subscriptions/{sub}/providers/Microsoft.Box/operations/{name}", "box"),
)


@dataclass
class _Pending:
    """What is being made until it was looked at `looks` times."""

    looks: int
    resource: dict[str, Any]


_NO_RIGHTS = "The client does not have authorization to perform the action over the scope."


@dataclass
class AppsBox:
    """One resource group. Times are counted in looks; with none, everything is done at once."""

    line: Line = field(default_factory=Line)
    looks: int = 2  # until a build, or an operation of Resource Manager, is done
    build_error: str = ""  # what is wrong with every build from now on
    scm_sleeps: int = 0  # how many questions an SCM site leaves without its answer, because it is not up
    address: str = ""
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    containers: set[tuple[str, str]] = field(default_factory=set)
    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    apps: dict[str, dict[str, Any]] = field(default_factory=dict)
    passwords: dict[str, dict[str, bool]] = field(default_factory=dict)  # app -> scm and ftp: whether they are taken
    artefacts: dict[str, bytes] = field(default_factory=dict)  # app -> the zip that was built last
    requests: list[Request] = field(default_factory=list)  # that kept the contract
    published: list[str] = field(default_factory=list)  # apps, each time that one took a zip
    _builds: dict[str, dict[str, Any]] = field(default_factory=dict)
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _scm: dict[str, str] = field(default_factory=dict)  # app -> host:port
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _open: ExitStack = field(default_factory=ExitStack)

    @property
    def endpoint_url(self) -> str:
        return f"http://{TOKEN}@{self.address}"

    @contextmanager
    def running(self) -> Iterator[AppsBox]:
        """Served inside the block, each app's SCM site on a port of its own."""
        with self._open:
            self.address = self._serve(self._arm)
            yield self

    def is_empty(self) -> bool:
        """Whether nothing of anybody's is left."""
        return not (self.accounts or self.plans or self.apps)

    def settings(self, name: str) -> dict[str, str]:
        """The environment that an app gets."""
        pairs = self.apps[name]["properties"]["siteConfig"]["appSettings"]
        return {pair["name"]: pair["value"] for pair in pairs}

    def _serve(self, serve: Any) -> str:
        refusal = _sent(Refused(403, "AuthorizationFailed", _NO_RIGHTS))
        return self._open.enter_context(served(self.line, serve, refusal))

    # --- Resource Manager -------------------------------------------------------------------------------------------

    def _arm(self, method: str, target: str, headers: Mapping[str, str], content: bytes) -> Answer:
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return _sent(Refused(401, "InvalidAuthenticationToken", "The access token is invalid."))
        try:
            request = self._understood(method, target, headers, content)
            self.requests.append(request)
            return self._done(request)
        except Refused as refused:
            return _sent(refused)

    def _understood(self, method: str, target: str, headers: Mapping[str, str], content: bytes) -> Request:
        url = urlsplit(target)
        path, query = unquote(url.path), dict(parse_qsl(url.query))
        for operation in OPERATIONS:
            parameters = operation.match(method, path)
            if parameters is None:
                continue
            if parameters["sub"] != SUBSCRIPTION:
                raise Refused(404, "SubscriptionNotFound", "The subscription could not be found.")
            if parameters.get("group", GROUP) != GROUP:
                raise Refused(404, "ResourceGroupNotFound", "The resource group could not be found.")
            if query.get("api-version") != operation.api_version or query.keys() - operation.query - {"api-version"}:
                raise Refused(400, "InvalidApiVersionParameter", f"These parameters are wrong: {query}")
            body = json.loads(content) if content else {}
            if operation.body and (wrong := problem(operation.body, body)):
                raise Refused(400, "InvalidRequestContent", f"The request content was invalid: {wrong}")
            return Request(operation.name, method, path, parameters, query, headers, body)
        raise Refused(404, "InvalidResourceType", f"The resource type of {method} {path} could not be found.")

    def _done(self, request: Request) -> Answer:
        special = {
            "pending": self._look,
            "apps.scm": self._allow,
            "apps.ftp": self._allow,
            "containers.create": self._create_container,
            "storage.keys": self._keys,
        }
        if request.operation in special:
            return special[request.operation](request)
        kind, _, verb = request.operation.partition(".")
        book = {"storage": self.accounts, "plans": self.plans, "apps": self.apps}[kind]
        if verb == "list":
            return _json(200, {"value": list(book.values())})
        if verb == "get":
            return _json(200, self._existing(book, request))
        return self._delete(kind, book, request) if verb == "delete" else self._create(kind, book, request)

    def _allow(self, request: Request) -> Answer:
        self._existing(self.apps, request)
        which = request.operation.partition(".")[2]
        self.passwords[request.name][which] = request.body["properties"]["allow"]
        return _json(200, {"id": request.path, "name": which, **request.body})

    def _create_container(self, request: Request) -> Answer:
        self._existing(self.accounts, request)
        self.containers.add((request.name, request.parameters["container"]))
        return _json(201, {"id": request.path, **request.body})

    def _keys(self, request: Request) -> Answer:
        self._existing(self.accounts, request)
        key = {"keyName": "key1", "value": f"a2V5of{request.name}==", "permissions": "FULL"}
        return _json(200, {"keys": [key]})

    def _existing(self, book: Mapping[str, dict[str, Any]], request: Request) -> dict[str, Any]:
        if request.name not in book:
            raise Refused(404, "ResourceNotFound", f"The Resource '{request.path}' was not found.")
        return book[request.name]

    def _create(self, kind: str, book: dict[str, dict[str, Any]], request: Request) -> Answer:
        name, body = request.name, request.body
        if body["location"] not in _REGIONS:
            raise Refused(400, "LocationNotAvailableForResourceType", f"'{body['location']}' is not available.")
        {"storage": self._admit_account, "plans": self._admit_plan, "apps": self._admit_app}[kind](name, body)
        existed = name in book
        book[name] = {**body, "id": request.path, "name": name}
        if kind == "apps":
            book[name]["properties"] = {**body["properties"], **self._hosts(name)}
            self.passwords.setdefault(name, {"scm": True, "ftp": True})
        if existed or kind == "apps" or not self.looks:
            return _json(200, book[name])
        # Storage accounts and plans take their time: the answer says where to look.
        number = str(next(self._numbers))
        self._pending[number] = _Pending(self.looks, book[name])
        address = f"http://{self.address}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Box/operations/{number}"
        return _json(202, None, Location=f"{address}?api-version=box")

    def _look(self, request: Request) -> Answer:
        pending = self._pending[request.name]
        pending.looks -= 1
        return _json(202, None) if pending.looks > 0 else _json(200, pending.resource)

    def _delete(self, kind: str, book: dict[str, dict[str, Any]], request: Request) -> Answer:
        if request.name not in book:
            if kind == "storage":
                return 204, b"", "text/plain", {}
            self._existing(book, request)
        if kind == "plans" and any(_plan_of(app) == request.name for app in self.apps.values()):
            raise Refused(409, "Conflict", "Server farm cannot be deleted because it has web app(s) assigned to it.")
        del book[request.name]
        return 200, b"", "text/plain", {}

    def _admit_account(self, name: str, _body: Any) -> None:
        if not _STORAGE_NAME.fullmatch(name):
            raise Refused(400, "AccountNameInvalid", f"{name} is not a valid storage account name.")

    def _admit_plan(self, _name: str, body: Any) -> None:
        if body["sku"] != {"name": "FC1", "tier": "FlexConsumption"} or body["properties"] != {"reserved": True}:
            raise Refused(400, "BadRequest", f"This box has no plan {body['sku']}.")

    def _admit_app(self, name: str, body: Any) -> None:
        properties = body["properties"]
        config = properties["functionAppConfig"]
        plan = self.plans.get(_plan_of(body))
        settings = [pair["name"] for pair in properties["siteConfig"]["appSettings"]]
        source = config["deployment"]["storage"]
        account, _, container = source["value"].removeprefix("https://").partition(".blob.core.windows.net/")
        for is_wrong, what in (
            (not _APP_NAME.fullmatch(name), f"the name {name}"),
            (plan is None or plan["location"] != body["location"], "the plan"),
            (body["kind"] != "functionapp,linux", "the kind"),
            ((account, container) not in self.containers, "the container of the package"),
            (source["authentication"]["storageAccountConnectionStringName"] not in settings, "the connection string"),
            (config["runtime"]["version"] not in _PYTHONS, "the version of Python"),
            (config["scaleAndConcurrency"]["instanceMemoryMB"] not in _MEMORY_MB, "the memory"),
            (any(map(_REFUSED_SETTINGS.fullmatch, settings)), "a setting that Flex Consumption does not take"),
            (bool(config["scaleAndConcurrency"].get("alwaysReady")), "instances that are paid for while nobody asks"),
        ):
            if is_wrong:
                raise Refused(400, "BadRequest", f"Site.{what} is invalid.")

    def _hosts(self, name: str) -> dict[str, Any]:
        if name not in self._scm:
            self._scm[name] = self._serve(partial(self._scm_site, name))
        states = [
            {"name": f"{name}.azurewebsites.net", "sslState": "Disabled", "hostType": "Standard"},
            {"name": self._scm[name], "sslState": "Disabled", "hostType": "Repository"},
        ]
        return {"defaultHostName": f"{name}.azurewebsites.net", "hostNameSslStates": states, "state": "Running"}

    # --- SCM sites --------------------------------------------------------------------------------------------------

    def _scm_site(self, app: str, method: str, target: str, headers: Mapping[str, str], content: bytes) -> Answer:
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, b"", "text/plain", {}
        if self.scm_sleeps or app not in self.apps:
            self.scm_sleeps = max(0, self.scm_sleeps - 1)
            return 503, b"The service is unavailable.", "text/plain", {}
        url = urlsplit(target)
        if (method, url.path) == ("POST", "/api/publish"):
            return self._take(app, dict(parse_qsl(url.query)), headers, content)
        build = self._builds.get(url.path.removeprefix("/api/deployments/"))
        if method != "GET" or build is None:
            return 404, b"", "text/plain", {}
        self._advance(app, build)
        return _json(200, {name: build[name] for name in ("id", "status", "status_text", "complete")})

    def _take(self, app: str, query: Mapping[str, str], headers: Mapping[str, str], content: bytes) -> Answer:
        under_way = [build for build in self._builds.values() if build["app"] == app and not build["complete"]]
        if under_way:
            self._advance(app, under_way[0])
            return 409, b"There is a deployment currently in progress.", "text/plain", {}
        if headers.get("content-type") != "application/zip" or query != {
            "RemoteBuild": "true",
            "Deployer": "sailplane",
        }:
            return 400, b"Not as One Deploy wants it.", "text/plain", {}
        number = str(uuid.UUID(int=next(self._numbers)))
        self.published.append(app)
        self._builds[number] = {
            "id": number, "app": app, "status": 1, "status_text": "Building", "complete": False,
            "looks": self.looks, "content": content,
        }  # fmt: skip
        return _json(202, number)

    def _advance(self, app: str, build: dict[str, Any]) -> None:
        build["looks"] -= 1
        if build["complete"] or build["looks"] > 0:
            return
        build["complete"] = True
        build["status"], build["status_text"] = (3, self.build_error) if self.build_error else (4, "")
        if not self.build_error:
            self.artefacts[app] = build["content"]


def _plan_of(app: Mapping[str, Any]) -> str:
    return str(app["properties"]["serverFarmId"]).rpartition("/")[2]


def _json(status: int, document: Any, **headers: str) -> Answer:
    content = b"" if document is None else json.dumps(document).encode()
    return status, content, "application/json", headers


def _sent(refused: Refused) -> Answer:
    return _json(refused.status, refused.answer.body)
