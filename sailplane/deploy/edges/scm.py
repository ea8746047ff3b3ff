"""A function app's SCM site, which takes the zip and has Azure build it.

https://learn.microsoft.com/azure/azure-functions/functions-deployment-technologies#one-deploy
https://github.com/projectkudu/kudu/wiki/REST-API#deployment
"""

from __future__ import annotations

from collections.abc import Callable

import requests

from sailplane.deploy.account import CloudUnreachable
from sailplane.deploy.edges.edge import EdgeFailed, Show

# What SCM sites take tokens for; those for Resource Manager's present address are not accepted by all of them.
SCOPE = "https://management.core.windows.net//.default"
_TIMEOUT_S = 60.0
_LOOKS = 300  # at the build, with a pause after each: it takes one to three minutes
# The site of a new app does not answer, or does not know the roles yet, for up to a minute; 409 while it still builds
# what an interrupted run gave it.
_TRIES = 100
_NOT_YET = {401, 403, 404, 409, 500, 502, 503}
_UNDER_WAY, _SUCCESS = {0, 1, 2}, 4  # pending, building, deploying


class ScmSite:
    """The SCM site of one app.

    Args:
        url: of the site.
        token: makes a bearer token for `SCOPE`.
        show: is told what is waited for.
        pause: called between two tries or looks.
    """

    def __init__(self, url: str, token: Callable[[], str], show: Show, pause: Callable[[], None]) -> None:
        self._url = url
        self._token = token
        self._show = show
        self._pause = pause

    def publish(self, archive: bytes) -> None:
        """Hand over the zip, and wait until it is built: `azure-functions` is installed by Azure.

        Raises `EdgeFailed`, or `CloudUnreachable` when the site does not answer or does not come to an end.
        """
        try:
            self._build(archive)
        except requests.RequestException as error:
            raise CloudUnreachable(f"The app's SCM site does not answer: {error}") from error

    def _build(self, archive: bytes) -> None:
        answer = self._ask("POST", "api/publish?RemoteBuild=true&Deployer=sailplane", archive)
        if answer.status_code != 202:
            raise EdgeFailed(f"Azure does not take the upload (HTTP {answer.status_code}): {_said(answer)}")
        deployment = f"api/deployments/{answer.json()}"
        for _ in range(_LOOKS):
            document = self._ask("GET", deployment).json()
            if document["status"] not in _UNDER_WAY:
                break
            self._show("Waiting for Azure to build it")
            self._pause()
        else:
            raise CloudUnreachable("Azure has not built the app in a quarter of an hour. Run the same command again.")
        if document["status"] != _SUCCESS:
            raise EdgeFailed(f"Azure could not build the app: {document.get('status_text') or document['status']}")

    def _ask(self, method: str, path: str, archive: bytes | None = None) -> requests.Response:
        """An answer of the site, asked again while it is not up."""
        headers = {"Authorization": f"Bearer {self._token()}"}
        if archive is not None:
            headers["Content-Type"] = "application/zip"
        refusal = ""
        for _ in range(_TRIES):
            try:
                answer = requests.request(
                    method,
                    f"{self._url}/{path}",
                    data=archive,
                    headers=headers,
                    timeout=_TIMEOUT_S,
                    allow_redirects=False,
                )
            except requests.ConnectionError as error:  # its name is not known everywhere yet
                refusal = str(error)
            else:
                if answer.status_code not in _NOT_YET:
                    return answer
                refusal = f"HTTP {answer.status_code}: {_said(answer)}"
            self._show("Waiting for the app's SCM site")
            self._pause()
        raise EdgeFailed(f"The app's SCM site refuses: {refusal}")


def _said(answer: requests.Response) -> str:
    return answer.text[:500]
