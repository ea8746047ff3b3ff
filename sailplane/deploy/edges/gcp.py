"""Edges on Cloud Run functions (Google Cloud Functions, 2nd gen.), through google-cloud-functions' REST transport.

    service account (no rights) -> upload of the zip -> function -> its Cloud Run service may be invoked by all

https://docs.cloud.google.com/functions/docs/reference/rest/v2/projects.locations.functions
https://docs.cloud.google.com/functions/docs/securing/managing-access-iam#allowing_unauthenticated_http_function_invocation
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

import google.auth
import requests
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import (
    Conflict,
    GoogleAPICallError,
    NotFound,
    ServerError,
    TooManyRequests,
    from_http_response,
)
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import AuthorizedSession
from google.cloud import functions_v2
from google.oauth2.credentials import Credentials as BearerToken

from chalicelib.errors import SailplaneError
from sailplane.deploy.account import CloudUnreachable, NoAccess
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

_T = TypeVar("_T")

_TIMEOUT_S = 30.0
_POLL_S = 3.0
# A network may be away for a moment, Google too; somebody else may change a policy at the same time.
_PASSING = (requests.ConnectionError, requests.Timeout, ServerError, TooManyRequests, Conflict)
_TRIES = 4
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
_HINTS = {
    401: "Log in: gcloud auth application-default login.",
    403: "Enable the APIs (gcloud services enable cloudfunctions.googleapis.com run.googleapis.com "
    "cloudbuild.googleapis.com artifactregistry.googleapis.com iam.googleapis.com) and have the roles "
    "cloudfunctions.admin, run.admin, iam.serviceAccountAdmin and iam.serviceAccountUser in this project.",
    404: "See that project and region exist: gcloud functions regions list.",
}


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
        self._endpoint_url = endpoint_url
        self._pause = pause
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
        with _asking():
            function = self._function(region)
            return function and self._found(function, is_open=self._is_open(function))

    def is_current(self, found: Found, wanted: Wanted) -> bool:
        return found.state is State.READY and found.content == self._content(wanted)

    def deploy(self, region: str, wanted: Wanted, show: Show) -> Found:
        with _asking():
            before = self._settled(region, show)
            has_served = before is not None and self._is_open(before)
        try:
            with _asking():
                show("Making the service account")
                self._again(self._make_account)
                show("Uploading the function")
                source = self._again(lambda: self._upload(region, wanted.archive))
                function = self._written(region, before, self._wanted(region, wanted, source), show)
                show("Opening it to everybody")
                self._again(lambda: self._open(function))
                return self._found(function, is_open=True)
        except SailplaneError as error:
            raise failed(error, wanted, None if has_served else lambda: self.remove(region, show)) from None

    def remove(self, region: str, show: Show) -> bool:
        with _asking():
            function = self._settled(region, show)
            if function is not None:
                show("Deleting the function")
                deleting = self._functions.delete_function(name=function.name, **_CALL)
                self._finished(deleting.operation.name, show)
            return self._again(self._remove_account) or function is not None

    def edges(self) -> tuple[Found, ...]:
        with _asking():
            found = tuple(self._found(each, is_open=self._is_open(each)) for each in self._all_functions())
            if not found and self._account_exists():
                return (Found(self.cloud, "-", self._account, "", State.UNFINISHED),)
            return found

    # --- the function -------------------------------------------------------------------------------------------------

    def _name(self, region: str) -> str:
        return f"projects/{self._project}/locations/{region}/functions/{self._function_id}"

    def _function(self, region: str) -> functions_v2.Function | None:
        try:
            function = self._again(lambda: self._functions.get_function(name=self._name(region), **_CALL))
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
            self._pause(_POLL_S)
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
        place = self._functions.generate_upload_url(request, **_CALL)
        # The address is signed: with our credentials beside it, Google would look at those and refuse.
        put = requests.put(
            place.upload_url, data=archive, headers={"Content-Type": "application/zip"}, timeout=_TIMEOUT_S
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
            self._pause(_POLL_S)
            before = self._settled(region, show)
        return self._again(lambda: self._functions.get_function(name=wanted.name, **_CALL))

    def _is_unknown_account(self, message: str) -> bool:
        return self._account in message and bool(re.search("not (found|exist)", message))

    def _write(self, region: str, before: functions_v2.Function | None, wanted: functions_v2.Function) -> str:
        """The name of the operation that was begun."""
        if before is None:
            parent = f"projects/{self._project}/locations/{region}"
            begun = self._functions.create_function(
                parent=parent, function=wanted, function_id=self._function_id, **_CALL
            )
            return str(begun.operation.name)
        mask = {"paths": ["description", "labels", "build_config", "service_config"]}
        request = functions_v2.UpdateFunctionRequest(function=wanted, update_mask=mask)
        return str(self._functions.update_function(request, **_CALL).operation.name)

    def _finished(self, operation: str, show: Show) -> None:
        """Wait for it.

        Not by the SDK, which asks the public endpoint whatever it was given, and cannot read how Google writes an operation
        that has nothing to say (`{"@type": "…/google.protobuf.Empty", "value": {}}`).
        """
        for _ in range(_LOOKS):
            with suppress(*_PASSING):
                document = self._ask("GET", "cloudfunctions", f"v2/{operation}")
                if "error" in document:
                    raise EdgeFailed(f"Google could not do it: {document['error'].get('message')}")
                if document.get("done"):
                    return
            show("Waiting for Google")
            self._pause(_POLL_S)
        raise CloudUnreachable(f"Google has not finished after {_LOOKS * _POLL_S:.0f} s. Run the same command again.")

    def _all_functions(self) -> Iterator[functions_v2.Function]:
        request = functions_v2.ListFunctionsRequest(
            parent=f"projects/{self._project}/locations/-", filter=f'labels.{DEPLOYMENT}="{self._deployment}"'
        )
        for function in self._functions.list_functions(request, **_CALL):
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
            self._ask("POST", "run", f"v2/{service}:setIamPolicy", {"policy": {**policy, "bindings": bindings}})

    def _policy(self, service: str) -> dict[str, Any]:
        try:
            return self._ask("GET", "run", f"v2/{service}:getIamPolicy")
        except NotFound:
            return {}

    # --- who it is ----------------------------------------------------------------------------------------------------

    def _make_account(self) -> None:
        """An identity without any rights. The default one of functions may, in many projects, change everything."""
        account = {"displayName": f"Sailplane edge of {self._deployment}"}
        try:
            body = {"accountId": self._account_id, "serviceAccount": account}
            self._ask("POST", "iam", f"v1/projects/{self._project}/serviceAccounts", body)
        except Conflict:
            return

    def _account_exists(self) -> bool:
        try:
            self._ask("GET", "iam", f"v1/projects/{self._project}/serviceAccounts/{self._account}")
        except NotFound:
            return False
        return True

    def _remove_account(self) -> bool:
        """Delete it when no region needs it any more; whether that was so."""
        if any(True for _ in self._all_functions()):
            return False
        try:
            self._ask("DELETE", "iam", f"v1/projects/{self._project}/serviceAccounts/{self._account}")
        except NotFound:
            return False
        return True

    # --- the way to Google --------------------------------------------------------------------------------------------

    def _again(self, call: Callable[[], _T]) -> _T:
        """What `call` answers, which may be made more than once and is, when something passing is in its way."""
        for _ in range(_TRIES - 1):
            with suppress(*_PASSING):
                return call()
            self._pause(_POLL_S)
        return call()

    def _ask(self, method: str, api: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One call of an API that google-cloud-functions does not have. Raises what that raises."""
        base = self._api_endpoint or f"https://{api}.googleapis.com"
        session: Any = self._session
        response = session.request(method, f"{base}/{path}", json=body, timeout=_TIMEOUT_S)
        if not response.ok:
            raise from_http_response(response)  # type: ignore[no-untyped-call]  # Google's
        document: dict[str, Any] = response.json()
        return document

    @cached_property
    def _functions(self) -> functions_v2.FunctionServiceClient:
        options = ClientOptions(api_endpoint=self._api_endpoint)
        return functions_v2.FunctionServiceClient(
            credentials=self._credentials, transport="rest", client_options=options
        )

    @cached_property
    def _session(self) -> AuthorizedSession:
        return AuthorizedSession(self._credentials)  # type: ignore[no-untyped-call]  # Google's

    @cached_property
    def _credentials(self) -> Credentials:
        if self._endpoint_url:
            return BearerToken(token=urlsplit(self._endpoint_url).username)  # type: ignore[no-untyped-call]  # Google's
        with _asking():
            return google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])[0]

    @property
    def _api_endpoint(self) -> str | None:
        if not self._endpoint_url:
            return None
        url = urlsplit(self._endpoint_url)
        return f"{url.scheme}://{url.hostname}:{url.port}"


_CALL: dict[str, Any] = {"timeout": _TIMEOUT_S}


def _opens(policy: dict[str, Any]) -> bool:
    return any(
        binding["role"] == _INVOKER and "allUsers" in binding["members"] and not binding.get("condition")
        for binding in policy.get("bindings", [])
    )


@contextmanager
def _asking() -> Iterator[None]:
    """Raise what Google's libraries raise as ours."""
    try:
        yield
    except (requests.RequestException, TransportError) as error:
        raise CloudUnreachable(f"Google does not answer: {error}") from error
    except GoogleAuthError as error:
        raise NoAccess(
            f"Google's credentials are missing or refused: {str(error).rstrip('.')}. {_HINTS[401]}"
        ) from error
    except GoogleAPICallError as error:
        status = int(error.code or 0)
        said = re.sub(r"^[A-Z]+ https?://\S+: ", "", str(error.message))
        if status == 429 or status >= 500:
            raise CloudUnreachable(f"Google asks to try later (HTTP {status}): {said}") from None
        raise EdgeFailed(f"Google refuses (HTTP {status}): {said} {_HINTS.get(status, '')}".rstrip()) from None
