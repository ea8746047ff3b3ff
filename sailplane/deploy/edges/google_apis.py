"""Google's APIs, as edges are made through them: who asks, what is asked again, and errors as ours."""

from __future__ import annotations

import re
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
    ServerError,
    TooManyRequests,
    from_http_response,
)
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import AuthorizedSession
from google.cloud import functions_v2
from google.oauth2.credentials import Credentials as BearerToken

from sailplane.deploy.account import CloudUnreachable, NoAccess
from sailplane.deploy.edges.edge import EdgeFailed

_T = TypeVar("_T")

TIMEOUT_S = 30.0
# A network may be away for a moment, Google too; somebody else may change a policy at the same time.
PASSING = (requests.ConnectionError, requests.Timeout, ServerError, TooManyRequests, Conflict)
_TRIES = 4
_HINTS = {
    401: "Log in: gcloud auth application-default login.",
    403: "Enable the APIs (gcloud services enable cloudfunctions.googleapis.com run.googleapis.com "
    "cloudbuild.googleapis.com artifactregistry.googleapis.com iam.googleapis.com) and have the roles "
    "cloudfunctions.admin, run.admin, iam.serviceAccountAdmin and iam.serviceAccountUser in this project.",
    404: "See that project and region exist: gcloud functions regions list.",
}


class Google:
    """Google's APIs with one's default credentials.

    Args:
        endpoint_url: of a stand-in for all of them, `http://token@host:port`.
        pause: called before something is asked again.
    """

    def __init__(self, endpoint_url: str | None, pause: Callable[[], None]) -> None:
        self._endpoint_url = endpoint_url
        self._pause = pause

    @cached_property
    def functions(self) -> functions_v2.FunctionServiceClient:
        """Cloud Functions'."""
        options = ClientOptions(api_endpoint=self._api_endpoint)
        return functions_v2.FunctionServiceClient(
            credentials=self._credentials, transport="rest", client_options=options
        )

    def again(self, call: Callable[[], _T]) -> _T:
        """What `call` answers, which may be made more than once and is, when something passing is in its way."""
        for _ in range(_TRIES - 1):
            with suppress(*PASSING):
                return call()
            self._pause()
        return call()

    def ask(self, method: str, api: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One call of an API that google-cloud-functions does not have. Raises what that raises."""
        base = self._api_endpoint or f"https://{api}.googleapis.com"
        session: Any = self._session
        response = session.request(method, f"{base}/{path}", json=body, timeout=TIMEOUT_S)
        if not response.ok:
            raise from_http_response(response)  # type: ignore[no-untyped-call]  # Google's
        document: dict[str, Any] = response.json()
        return document

    @cached_property
    def _session(self) -> AuthorizedSession:
        return AuthorizedSession(self._credentials)  # type: ignore[no-untyped-call]  # Google's

    @cached_property
    def _credentials(self) -> Credentials:
        if self._endpoint_url:
            return BearerToken(token=urlsplit(self._endpoint_url).username)  # type: ignore[no-untyped-call]  # Google's
        with asking():
            return google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])[0]

    @property
    def _api_endpoint(self) -> str | None:
        if not self._endpoint_url:
            return None
        url = urlsplit(self._endpoint_url)
        return f"{url.scheme}://{url.hostname}:{url.port}"


@contextmanager
def asking() -> Iterator[None]:
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
