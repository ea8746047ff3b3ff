"""Amazon's APIs by signed request, for the few calls that functions make about themselves.

boto3 would read each service's description first: 130 ms of CPU for SSM, 11 ms for Lambda, in every cold start
(docs/functions.md). Signing is botocore's, which is loaded for DynamoDB anyhow.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import botocore.session
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session

from chalicelib.errors import Unreachable

# An owner waits for the answer, and a pass has 50 s.
_TIMEOUT_S = 5
_ATTEMPTS = 3
_THROTTLED = frozenset({"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestThrottled"})


class Refused(Unreachable):
    """Amazon answered with an error of ours or of the moment; `code` is its name for it."""

    def __init__(self, message: str, code: str) -> None:
        self.code = code
        super().__init__(message)


class Amazon:
    """One account's services in one region. Safe to share between threads.

    Args:
        region: whose endpoints are asked.
        endpoint_url: a stand-in for all of Amazon, `http://host:port`. Credentials are looked for as boto3 does either way.
        pause: called with 0, 1 before asking again; sleeps by default.
    """

    def __init__(
        self,
        region: str,
        endpoint_url: str | None = None,
        pause: Callable[[int], None] = lambda attempt: time.sleep(0.2 * 2**attempt),
    ) -> None:
        self._region = region
        self._endpoint_url = endpoint_url
        self._pause = pause
        self._http = URLLib3Session(timeout=_TIMEOUT_S)

    def act(self, service: str, action: str, body: Mapping[str, Any]) -> Any:
        """An action of a service that speaks JSON, such as `AWSEvents.EnableRule` of `events`. Raises `Unreachable`, `Refused`."""
        version = "1.0" if service == "sqs" else "1.1"
        headers = {"X-Amz-Target": action, "Content-Type": f"application/x-amz-json-{version}"}
        return self.ask(service, "POST", "/", body, headers)

    def ask(
        self, service: str, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """What a service answers to a request with a JSON body, parsed; None for an empty answer.

        Raises:
            Unreachable: it did not answer, or throttled, three times.
            Refused: it answered with an error that asking again does not mend.
        """
        url = (self._endpoint_url or f"https://{service}.{self._region}.amazonaws.com") + path
        data = b"" if body is None else json.dumps(body).encode()
        answer = self._asked(service, method, url, data, headers or {})
        return json.loads(answer) if answer else None

    def get_object(self, bucket: str, key: str) -> bytes:
        """An object of S3, in this region. Raises `Unreachable`, `Refused`."""
        return self._asked("s3", "GET", self._object_url(bucket, key), b"", {})

    def put_object(self, bucket: str, key: str, content: bytes, headers: Mapping[str, str]) -> None:
        """Make or replace it. Raises `Unreachable`, `Refused`."""
        self._asked("s3", "PUT", self._object_url(bucket, key), content, headers)

    def _object_url(self, bucket: str, key: str) -> str:
        where = (
            f"{self._endpoint_url}/{bucket}"
            if self._endpoint_url
            else f"https://{bucket}.s3.{self._region}.amazonaws.com"
        )
        return f"{where}/{quote(key)}"

    def _asked(self, service: str, method: str, url: str, data: bytes, headers: Mapping[str, str]) -> bytes:
        for attempt in range(_ATTEMPTS - 1):
            try:
                return self._asked_once(service, AWSRequest(method, url, dict(headers), data))
            except Refused:
                raise
            except Unreachable:
                self._pause(attempt)
        return self._asked_once(service, AWSRequest(method, url, dict(headers), data))

    def _asked_once(self, service: str, request: AWSRequest) -> bytes:
        signer = S3SigV4Auth if service == "s3" else SigV4Auth
        signer(self._credentials, service, self._region).add_auth(request)
        try:
            answer = self._http.send(request.prepare())
        except BotoCoreError as error:
            raise Unreachable(f"{service} of AWS does not answer: {error}") from error
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            content: bytes = answer.content
            return content
        code = _code(answer.headers.get("x-amzn-errortype", ""), answer.text)
        said = f"{service} of AWS refuses: HTTP {answer.status_code} {answer.text[:500]}"
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or code in _THROTTLED:
            raise Unreachable(said)
        raise Refused(said, code)

    @cached_property
    def _credentials(self) -> Credentials:
        found = botocore.session.get_session().get_credentials()
        if found is None:
            raise Unreachable("There are no credentials for AWS; a function has its role's.")
        return found


def _code(header: str, body: str) -> str:
    """The error's name, which is in a header or in the body, with decorations; empty when it has none."""
    if of_s3 := re.search(r"<Code>(\w+)</Code>", body):
        return of_s3[1]
    try:
        name: str = header or json.loads(body)["__type"]
    except (ValueError, KeyError, TypeError):
        return ""
    return name.rpartition("#")[2].partition(":")[0]
