"""Cloud Functions, Cloud Run's access policies, service accounts and the bucket for uploads, in a box.

Every request and every answer is held against Google's discovery documents; what those do not say (that a service account
must be there, that an upload carries no credentials) is checked by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.clouds.edges.line import Answer, Line, served
from tests.clouds.gcp import contract
from tests.clouds.gcp.server import Recorded

PROJECT, TOKEN = "boxed", "ya29.of-the-box"
_APIS = ("cloudfunctions.v2", "run.v2", "iam.v1")
_TYPE = "type.googleapis.com/google.cloud.functions.v2."
_REGIONS = {"us-central1", "europe-west4"}
# https://docs.cloud.google.com/run/docs/runtimes/python
_RUNTIMES = {"python310", "python311", "python312", "python313", "python314"}
_FUNCTION_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_ACCOUNT_ID = re.compile(r"[a-z][-a-z0-9]{4,28}[a-z0-9]")


class Refusal(Exception):
    """An answer of Google's that grants nothing."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status, self.name = status, name

    @property
    def answer(self) -> Answer:
        error = {"code": self.status, "message": str(self), "status": self.name}
        return self.status, json.dumps({"error": error}).encode(), "application/json", {}


@dataclass
class _Operation:
    """Under way until it was looked at `looks` times; then `end` happens to the function."""

    name: str
    looks: int
    end: Mapping[str, Any] | None  # the function as it is then; None: it is gone
    target: str
    error: str = ""
    done: bool = False


@dataclass
class FunctionsBox:
    """One project. Times are counted in looks at an operation."""

    line: Line = field(default_factory=Line)
    looks: int = 2  # until an operation is done
    build_error: str = ""  # what is wrong with every build from now on
    unknown_account: int = 0  # how many times a new service account is not found by others yet
    address: str = ""
    functions: dict[str, dict[str, Any]] = field(default_factory=dict)  # by full name
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)  # by Cloud Run service
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)  # by e-mail address
    uploads: dict[str, bytes] = field(default_factory=dict)  # by object
    requests: list[Recorded] = field(default_factory=list)  # that kept the contract
    operations: dict[str, _Operation] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def endpoint_url(self) -> str:
        return f"http://{TOKEN}@{self.address}"

    @contextmanager
    def running(self) -> Iterator[FunctionsBox]:
        """Served inside the block."""
        refusal = Refusal(403, "PERMISSION_DENIED", "The caller does not have permission").answer
        with served(self.line, self._serve, refusal) as self.address:
            yield self

    def is_empty(self) -> bool:
        """Whether nothing of anybody's is left."""
        self._settle()
        return not (self.functions or self.policies or self.accounts)

    def artefact(self, name: str) -> bytes:
        """The zip that a function was built of last."""
        source = self.functions[name]["buildConfig"]["source"]["storageSource"]
        return self.uploads[source["object"]]

    def is_public(self, name: str) -> bool:
        """Whether anybody may invoke it."""
        policy = self.policies.get(self.functions[name].get("serviceConfig", {}).get("service", ""), {})
        return {"role": "roles/run.invoker", "members": ["allUsers"]} in policy.get("bindings", [])

    # --- requests ---------------------------------------------------------------------------------------------------

    def _serve(self, method: str, target: str, headers: Mapping[str, str], content: bytes) -> Answer:
        try:
            if target.startswith("/upload/"):
                return self._take_upload(method, target, headers, content)
            return self._answered(method, target, headers, content)
        except Refusal as refusal:
            return refusal.answer

    def _take_upload(self, method: str, target: str, headers: Mapping[str, str], content: bytes) -> Answer:
        name = target.removeprefix("/upload/")
        if method != "PUT" or name not in self.uploads:
            raise Refusal(403, "SignatureDoesNotMatch", "The request signature does not match.")
        if "authorization" in headers or headers.get("content-type") != "application/zip":
            raise Refusal(403, "SignatureDoesNotMatch", "Credentials, or another content type than application/zip.")
        self.uploads[name] = content
        return 200, b"", "text/plain", {}

    def _answered(self, http_method: str, target: str, headers: Mapping[str, str], content: bytes) -> Answer:
        if headers.get("authorization") != f"Bearer {TOKEN}":
            raise Refusal(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        url = urlsplit(target)
        path, query = unquote(url.path), dict(parse_qsl(url.query, keep_blank_values=True))
        # https://docs.cloud.google.com/apis/docs/system-parameters: of all APIs, in no document.
        query.pop("$alt", None)
        for api in _APIS:
            published = contract.published(api)
            if method := published.find(http_method, path):
                body = published.named(method, json.loads(content)) if content else None
                # A message without content is what a method that wants none may get as well.
                if faults := published.faults(method, query, body or None):
                    raise Refusal(400, "INVALID_ARGUMENT", "\n".join(faults))
                self.requests.append(Recorded(http_method, path, query, body))
                document = self._do(method, query, body)
                assert published.faults_of_answer(method, document) == []
                return 200, json.dumps(document).encode(), "application/json", {}
        raise Refusal(404, "NOT_FOUND", f"{http_method} {path} is in none of {_APIS}")

    def _do(self, method: contract.Method, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        if method.path.get("projectsId") != PROJECT:
            raise Refusal(403, "PERMISSION_DENIED", "Permission denied on resource project.")
        if method.path.get("locationsId", "-") not in {*_REGIONS, "-"}:
            raise Refusal(404, "NOT_FOUND", "There is no such location.")
        own_name = method.id.partition("projects.")[2]
        own_name = own_name.removeprefix("locations.")
        return {
            "functions.generateUploadUrl": self._generate_upload_url,
            "functions.create": self._create,
            "functions.patch": self._patch,
            "functions.get": self._get,
            "functions.list": self._list,
            "functions.delete": self._delete,
            "operations.get": self._operation,
            "services.getIamPolicy": self._get_policy,
            "services.setIamPolicy": self._set_policy,
            "serviceAccounts.create": self._create_account,
            "serviceAccounts.get": self._get_account,
            "serviceAccounts.delete": self._delete_account,
        }[own_name](method.path, query, body)

    # --- functions --------------------------------------------------------------------------------------------------

    def _generate_upload_url(self, path: Mapping[str, str], _query: object, body: Any) -> dict[str, Any]:
        if body != {"environment": "GEN_2"} and body != {"parent": _parent(path), "environment": "GEN_2"}:
            raise Refusal(400, "INVALID_ARGUMENT", f"unexpected {body}")
        name = f"upload-{next(self.numbers)}.zip"
        self.uploads[name] = b""
        source = {"bucket": f"gcf-v2-uploads-1.{path['locationsId']}", "object": name}
        return {"uploadUrl": f"http://{self.address}/upload/{name}", "storageSource": source}

    def _create(self, path: Mapping[str, str], query: Mapping[str, str], body: Any) -> dict[str, Any]:
        function_id = query.get("functionId", "")
        name = f"{_parent(path)}/functions/{function_id}"
        if not _FUNCTION_ID.fullmatch(function_id):
            raise Refusal(400, "INVALID_ARGUMENT", f"Invalid function id {function_id!r}")
        if name in self.functions:
            raise Refusal(409, "ALREADY_EXISTS", f"Resource '{name}' already exists")
        self._admit(body)
        # With neither a service nor an address until it is built.
        self.functions[name] = {**body, "name": name, "state": "DEPLOYING"}
        end = self._built(body, name)
        if self.build_error:
            end = {**body, "name": name, "state": "FAILED"}
        return self._begin(path, name, end, self.build_error)

    def _patch(self, path: Mapping[str, str], query: Mapping[str, str], body: Any) -> dict[str, Any]:
        before = self._existing(path)
        if before["state"] not in ("ACTIVE", "FAILED"):
            raise Refusal(409, "ABORTED", "An operation on this function is already in progress.")
        self._admit(body)
        paths = [re.sub(r"_(.)", lambda match: match[1].upper(), each) for each in query["updateMask"].split(",")]
        changed = {name: body[name] for name in paths if name in body}
        end = self._built({**before, **changed}, before["name"])
        if self.build_error:  # what served, serves on; the function says what is wrong with it
            complaint = {"severity": "ERROR", "type": "CloudRunServiceNotReady", "message": self.build_error}
            end = {**before, "state": before["state"], "labels": body.get("labels", {}), "stateMessages": [complaint]}
        self.functions[before["name"]] = {**before, "state": "DEPLOYING"}
        return self._begin(path, before["name"], end, self.build_error)

    def _get(self, path: Mapping[str, str], _query: object, _body: object) -> dict[str, Any]:
        return self._existing(path)

    def _list(self, path: Mapping[str, str], query: Mapping[str, str], _body: object) -> dict[str, Any]:
        match = re.fullmatch(r'labels\.([a-z-]+)="([a-z0-9-]+)"', query["filter"])
        assert match, query["filter"]
        assert path["locationsId"] == "-"
        found = [each for each in self.functions.values() if each.get("labels", {}).get(match[1]) == match[2]]
        start = int(query.get("pageToken", "0"))
        page: dict[str, Any] = {"functions": found[start : start + 1]}
        return page | ({"nextPageToken": str(start + 1)} if start + 1 < len(found) else {})

    def _delete(self, path: Mapping[str, str], _query: object, _body: object) -> dict[str, Any]:
        function = self._existing(path)
        if function["state"] in ("DEPLOYING", "DELETING"):
            raise Refusal(409, "ABORTED", "An operation on this function is already in progress.")
        function["state"] = "DELETING"
        return self._begin(path, function["name"], None)

    def _existing(self, path: Mapping[str, str]) -> dict[str, Any]:
        name = f"{_parent(path)}/functions/{path['functionsId']}"
        # An interrupted client looks at the function, not at the operation.
        for operation in [each for each in self.operations.values() if each.target == name]:
            self._look(operation)
        if name not in self.functions:
            raise Refusal(404, "NOT_FOUND", f"Resource '{name}' was not found")
        return self.functions[name]

    def _admit(self, body: Any) -> None:
        build, service = body["buildConfig"], body["serviceConfig"]
        uploaded = self.uploads.get(build["source"]["storageSource"]["object"])
        if not uploaded:
            raise Refusal(400, "INVALID_ARGUMENT", "The source archive was not uploaded.")
        if build["runtime"] not in _RUNTIMES:
            raise Refusal(400, "INVALID_ARGUMENT", f"Runtime {build['runtime']} is unsupported.")
        if wrong := [value for value in body.get("labels", {}).values() if not _LABEL.fullmatch(value)]:
            raise Refusal(400, "INVALID_ARGUMENT", f"Labels with wrong values: {wrong}")
        account = service["serviceAccountEmail"]
        if account not in self.accounts or self.unknown_account:
            self.unknown_account = max(0, self.unknown_account - 1)
            raise Refusal(400, "INVALID_ARGUMENT", f"Service account {account} was not found.")

    def _built(self, body: Mapping[str, Any], name: str) -> dict[str, Any]:
        _, project, _, region, _, function_id = name.split("/")
        service = f"projects/{project}/locations/{region}/services/{function_id}"
        config = {
            **body["serviceConfig"],
            "service": service,
            "uri": f"https://{function_id}-x1-{region[:2]}.a.run.app",
        }
        url = f"https://{region}-{project}.cloudfunctions.net/{function_id}"
        return {**body, "name": name, "state": "ACTIVE", "serviceConfig": config, "url": url, "stateMessages": []}

    # --- operations -------------------------------------------------------------------------------------------------

    def _begin(
        self, path: Mapping[str, str], target: str, end: Mapping[str, Any] | None, error: str = ""
    ) -> dict[str, Any]:
        name = f"{_parent(path)}/operations/operation-{next(self.numbers)}"
        self.operations[name] = _Operation(name, self.looks, end, target, error)
        return _shown(self.operations[name])

    def _operation(self, path: Mapping[str, str], _query: object, _body: object) -> dict[str, Any]:
        operation = self.operations.get(f"{_parent(path)}/operations/{path['operationsId']}")
        if operation is None:
            raise Refusal(404, "NOT_FOUND", "There is no such operation.")
        self._look(operation)
        return _shown(operation)

    def _look(self, operation: _Operation) -> None:
        if operation.done:
            return
        operation.looks -= 1
        if operation.looks > 0:
            return
        operation.done = True
        if operation.end is None:
            gone = self.functions.pop(operation.target)
            self.policies.pop(gone.get("serviceConfig", {}).get("service", ""), None)
        else:
            self.functions[operation.target] = dict(operation.end)

    def _settle(self) -> None:
        for operation in self.operations.values():
            while not operation.done:
                self._look(operation)

    # --- access policies and service accounts -----------------------------------------------------------------------

    def _get_policy(self, path: Mapping[str, str], _query: object, _body: object) -> dict[str, Any]:
        return self.policies.get(self._service(path), {"etag": "ACAB"})

    def _set_policy(self, path: Mapping[str, str], _query: object, body: Any) -> dict[str, Any]:
        service = self._service(path)
        if body["policy"].get("etag") != self.policies.get(service, {"etag": "ACAB"})["etag"]:
            raise Refusal(409, "ABORTED", "There were concurrent policy changes.")
        self.policies[service] = {**body["policy"], "etag": f"BwX{next(self.numbers)}"}
        return self.policies[service]

    def _service(self, path: Mapping[str, str]) -> str:
        service = f"{_parent(path)}/services/{path['servicesId']}"
        if service not in {each.get("serviceConfig", {}).get("service") for each in self.functions.values()}:
            raise Refusal(404, "NOT_FOUND", f"Resource '{service}' of kind 'SERVICE' does not exist.")
        return service

    def _create_account(self, _path: object, _query: object, body: Any) -> dict[str, Any]:
        if not _ACCOUNT_ID.fullmatch(body["accountId"]):
            raise Refusal(400, "INVALID_ARGUMENT", "The account id is not of 6 to 30 letters, digits and hyphens.")
        email = f"{body['accountId']}@{PROJECT}.iam.gserviceaccount.com"
        if email in self.accounts:
            raise Refusal(409, "ALREADY_EXISTS", f"Service account {body['accountId']} already exists.")
        self.accounts[email] = {**body["serviceAccount"], "email": email, "projectId": PROJECT}
        return self.accounts[email]

    def _get_account(self, path: Mapping[str, str], _query: object, _body: object) -> dict[str, Any]:
        if path["serviceAccountsId"] not in self.accounts:
            raise Refusal(404, "NOT_FOUND", f"Unknown service account {path['serviceAccountsId']}")
        return self.accounts[path["serviceAccountsId"]]

    def _delete_account(self, path: Mapping[str, str], query: object, body: object) -> dict[str, Any]:
        self._get_account(path, query, body)
        del self.accounts[path["serviceAccountsId"]]
        return {}


def _parent(path: Mapping[str, str]) -> str:
    return f"projects/{path['projectsId']}/locations/{path['locationsId']}"


def _shown(operation: _Operation) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": operation.name,
        "metadata": {"@type": f"{_TYPE}OperationMetadata", "target": operation.target},
        "done": operation.done,
    }
    if operation.done and operation.error:
        document["error"] = {"code": 3, "message": operation.error}
    elif operation.done and operation.end is None:
        document["response"] = {"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}}
    elif operation.done:
        document["response"] = {"@type": f"{_TYPE}Function", **(operation.end or {})}
    return document
