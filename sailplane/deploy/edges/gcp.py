"""Edges on Cloud Run functions (Google Cloud Functions, 2nd gen.), through google-cloud-functions' REST transport.

    service account (no rights) -> upload of the zip -> function -> its Cloud Run service may be invoked by all

https://docs.cloud.google.com/functions/docs/reference/rest/v2/projects.locations.functions
https://docs.cloud.google.com/functions/docs/securing/managing-access-iam#allowing_unauthenticated_http_function_invocation
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import requests
from google.api_core.exceptions import Conflict, GoogleAPICallError, NotFound, from_http_response
from google.cloud import functions_v2

from chalicelib.errors import SailplaneError
from sailplane.deploy.account import CloudUnreachable
from sailplane.deploy.edges.edge import (
    CONTENT,
    DEPLOYMENT,
    EdgeFailed,
    Found,
    Part,
    Show,
    State,
    Wanted,
    digest,
    failed,
)
from sailplane.deploy.edges.google_apis import PASSING, TIMEOUT_S, Google, asking

_POLL_S = 3.0
_LOOKS = 300  # at something under way. A build takes one to three minutes; Google itself gives up after ten
# A new service account may not be known to others for 60 s or more.
# https://docs.cloud.google.com/iam/docs/service-accounts-create
_ACCOUNT_TRIES = 40
_UNDER_WAY = {functions_v2.Function.State.DEPLOYING, functions_v2.Function.State.DELETING}
_INVOKER = "roles/run.invoker"
_BUILD = {"runtime": "python313", "entry_point": "handle"}
# See docs/edge-platforms.md. No instance is kept when nobody asks, so nothing is paid for then.
_SERVICE: dict[str, Any] = {
    "available_memory": "512Mi",
    "available_cpu": "1",
    "timeout_seconds": 60,  # a client is held for 25 s at a time
    "max_instance_request_concurrency": 80,
    "min_instance_count": 0,
    "max_instance_count": 100,
    "ingress_settings": "ALLOW_ALL",
    "all_traffic_on_latest_revision": True,
}
_THREADS = {"THREADS": "80"}  # functions-framework's, or 80 requests at a time wait for each other


class GcpEdges:
    """`Edges` in one project. `endpoint_url` (`http://token@host:port`) is a stand-in's for all of Google's APIs."""

    cloud = "gcp"

    def __init__(
        self,
        *,
        deployment: str,
        project: str,
        endpoint_url: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._deployment = deployment
        self._project = project
        self._pause = partial(pause, _POLL_S)
        self._google = Google(endpoint_url, self._pause)
        self._function_id = f"sailplane-{deployment}-edge"
        # At most 30 characters, so that the deployment's name may not fit in.
        self._account_id = f"sailplane-{digest(deployment)[:12]}"
        self._account = f"{self._account_id}@{project}.iam.gserviceaccount.com"

    def parts(self, region: str) -> tuple[Part, ...]:
        return (
            Part("service account, no roles", self._account),
            Part(f"function in {region}", self._function_id),
            Part("invoker of its Cloud Run service", "allUsers"),
        )

    def find(self, region: str) -> Found | None:
        with asking():
            function = self._function(region)
            return function and self._found(function, is_open=self._is_open(function))

    def is_current(self, found: Found, wanted: Wanted) -> bool:
        return found.state is State.READY and found.content == self._content(wanted)

    def deploy(self, region: str, wanted: Wanted, show: Show) -> Found:
        with asking():
            before = self._settled(region, show)
            has_served = before is not None and self._is_open(before)
        try:
            with asking():
                show("Making the service account")
                self._google.again(self._make_account)
                show("Uploading the function")
                source = self._google.again(lambda: self._upload(region, wanted.archive))
                function = self._written(region, before, self._wanted(region, wanted, source), show)
                show("Opening it to everybody")
                self._google.again(lambda: self._open(function))
                return self._found(function, is_open=True)
        except SailplaneError as error:
            raise failed(error, wanted, None if has_served else lambda: self.remove(region, show)) from None

    def remove(self, region: str, show: Show) -> bool:
        with asking():
            function = self._settled(region, show)
            if function is not None:
                show("Deleting the function")
                deleting = self._google.functions.delete_function(name=function.name, timeout=TIMEOUT_S)
                self._finished(deleting.operation.name, show)
            return self._google.again(self._remove_account) or function is not None

    def edges(self) -> tuple[Found, ...]:
        with asking():
            found = tuple(self._found(each, is_open=self._is_open(each)) for each in self._all_functions())
            if not found and self._account_exists():
                return (Found(self.cloud, "-", self._account, "", State.UNFINISHED),)
            return found

    # --- the function -------------------------------------------------------------------------------------------------

    def _name(self, region: str) -> str:
        return f"projects/{self._project}/locations/{region}/functions/{self._function_id}"

    def _function(self, region: str) -> functions_v2.Function | None:
        try:
            function = self._google.again(
                lambda: self._google.functions.get_function(name=self._name(region), timeout=TIMEOUT_S)
            )
        except NotFound:
            return None
        if function.labels.get(DEPLOYMENT) != self._deployment:
            raise EdgeFailed(f"{function.name} is not Sailplane's: it lacks the label {DEPLOYMENT}={self._deployment}.")
        return function

    def _settled(self, region: str, show: Show) -> functions_v2.Function | None:
        """The function when nothing is under way with it any more: an interrupted run leaves Google at work."""
        for _ in range(_LOOKS):
            function = self._function(region)
            if function is None or function.state not in _UNDER_WAY:
                return function
            show("Waiting for Google to finish an earlier change")
            self._pause()
        raise EdgeFailed(
            f"Google has been at work on {self._function_id} for {_LOOKS * _POLL_S:.0f} s. Try again later."
        )

    def _wanted(self, region: str, wanted: Wanted, source: functions_v2.StorageSource) -> functions_v2.Function:
        return functions_v2.Function(
            name=self._name(region),
            description=f"Edge router of the Sailplane deployment {self._deployment}",
            environment=functions_v2.Environment.GEN_2,
            labels={DEPLOYMENT: self._deployment, CONTENT: self._content(wanted)},
            build_config={**_BUILD, "source": {"storage_source": source}},
            service_config={
                **_SERVICE,
                "service_account_email": self._account,
                "environment_variables": {**_THREADS, **wanted.env},
            },
        )

    def _content(self, wanted: Wanted) -> str:
        return wanted.content({**_BUILD, **_SERVICE, **_THREADS})

    def _upload(self, region: str, archive: bytes) -> functions_v2.StorageSource:
        parent = f"projects/{self._project}/locations/{region}"
        request = functions_v2.GenerateUploadUrlRequest(parent=parent, environment=functions_v2.Environment.GEN_2)
        place = self._google.functions.generate_upload_url(request, timeout=TIMEOUT_S)
        # The address is signed: with our credentials beside it, Google would look at those and refuse.
        put = requests.put(
            place.upload_url, data=archive, headers={"Content-Type": "application/zip"}, timeout=TIMEOUT_S
        )
        if not put.ok:
            raise from_http_response(put)  # type: ignore[no-untyped-call]  # Google's
        return place.storage_source

    def _written(
        self, region: str, before: functions_v2.Function | None, wanted: functions_v2.Function, show: Show
    ) -> functions_v2.Function:
        """The function as it is when Google has built it."""
        for left in reversed(range(_ACCOUNT_TRIES)):
            try:
                self._finished(self._write(region, before, wanted), show)
                break
            except (GoogleAPICallError, EdgeFailed) as error:
                if not left or not self._is_unknown_account(str(error)):
                    raise
            show("Waiting for the service account to be known everywhere")
            self._pause()
            before = self._settled(region, show)
        return self._google.again(lambda: self._google.functions.get_function(name=wanted.name, timeout=TIMEOUT_S))

    def _is_unknown_account(self, message: str) -> bool:
        return self._account in message and bool(re.search("not (found|exist)", message))

    def _write(self, region: str, before: functions_v2.Function | None, wanted: functions_v2.Function) -> str:
        """The name of the operation that was begun."""
        if before is None:
            parent = f"projects/{self._project}/locations/{region}"
            begun = self._google.functions.create_function(
                parent=parent, function=wanted, function_id=self._function_id, timeout=TIMEOUT_S
            )
            return str(begun.operation.name)
        mask = {"paths": ["description", "labels", "build_config", "service_config"]}
        request = functions_v2.UpdateFunctionRequest(function=wanted, update_mask=mask)
        return str(self._google.functions.update_function(request, timeout=TIMEOUT_S).operation.name)

    def _finished(self, operation: str, show: Show) -> None:
        """Wait for it.

        Not by the SDK, which asks the public endpoint whatever it was given, and cannot read how Google writes an operation
        that has nothing to say (`{"@type": "…/google.protobuf.Empty", "value": {}}`).
        """
        for _ in range(_LOOKS):
            with suppress(*PASSING):
                document = self._google.ask("GET", "cloudfunctions", f"v2/{operation}")
                if "error" in document:
                    raise EdgeFailed(f"Google could not do it: {document['error'].get('message')}")
                if document.get("done"):
                    return
            show("Waiting for Google")
            self._pause()
        raise CloudUnreachable(f"Google has not finished after {_LOOKS * _POLL_S:.0f} s. Run the same command again.")

    def _all_functions(self) -> Iterator[functions_v2.Function]:
        request = functions_v2.ListFunctionsRequest(
            parent=f"projects/{self._project}/locations/-", filter=f'labels.{DEPLOYMENT}="{self._deployment}"'
        )
        for function in self._google.functions.list_functions(request, timeout=TIMEOUT_S):
            if function.labels.get(DEPLOYMENT) == self._deployment:
                yield function

    def _found(self, function: functions_v2.Function, *, is_open: bool) -> Found:
        is_built = function.state is functions_v2.Function.State.ACTIVE and not any(
            message.severity == functions_v2.StateMessage.Severity.ERROR for message in function.state_messages
        )
        is_ready = is_built and is_open
        return Found(
            self.cloud,
            function.name.split("/")[3],
            function.name.rpartition("/")[2],
            # Not `function.url`: below that the router would see another path than the client asked for.
            function.service_config.uri,
            State.READY if is_ready else State.UNFINISHED,
            function.labels.get(CONTENT, "") if is_ready else "",
        )

    # --- who may invoke it --------------------------------------------------------------------------------------------

    def _is_open(self, function: functions_v2.Function) -> bool:
        service = function.service_config.service
        return bool(service) and _opens(self._policy(service))

    def _open(self, function: functions_v2.Function) -> None:
        service = function.service_config.service
        policy = self._policy(service)
        if not _opens(policy):
            bindings = [*policy.get("bindings", []), {"role": _INVOKER, "members": ["allUsers"]}]
            # With the etag of what was read, so that nobody's change in between is lost.
            self._google.ask("POST", "run", f"v2/{service}:setIamPolicy", {"policy": {**policy, "bindings": bindings}})

    def _policy(self, service: str) -> dict[str, Any]:
        try:
            return self._google.ask("GET", "run", f"v2/{service}:getIamPolicy")
        except NotFound:
            return {}

    # --- who it is ----------------------------------------------------------------------------------------------------

    def _make_account(self) -> None:
        """An identity without any rights. The default one of functions may, in many projects, change everything."""
        account = {"displayName": f"Sailplane edge of {self._deployment}"}
        try:
            body = {"accountId": self._account_id, "serviceAccount": account}
            self._google.ask("POST", "iam", f"v1/projects/{self._project}/serviceAccounts", body)
        except Conflict:
            return

    def _account_exists(self) -> bool:
        try:
            self._google.ask("GET", "iam", f"v1/projects/{self._project}/serviceAccounts/{self._account}")
        except NotFound:
            return False
        return True

    def _remove_account(self) -> bool:
        """Delete it when no region needs it any more; whether that was so."""
        if any(True for _ in self._all_functions()):
            return False
        try:
            self._google.ask("DELETE", "iam", f"v1/projects/{self._project}/serviceAccounts/{self._account}")
        except NotFound:
            return False
        return True


def _opens(policy: dict[str, Any]) -> bool:
    return any(
        binding["role"] == _INVOKER and "allUsers" in binding["members"] and not binding.get("condition")
        for binding in policy.get("bindings", [])
    )
