"""For clients that should not be redirected: ask the router for a replica first, then send it the request itself.

    from openai import OpenAI
    from sailplane.resolve import Resolve

    http_client = httpx.Client(auth=Resolve(endpoint, key), follow_redirects=True)
    OpenAI(base_url=f"{endpoint}/v1", api_key=key, http_client=http_client)

A redirected body is uploaded twice, and a router that is a function takes 6 MB at the most; a resolved one goes to the
replica only.
"""

from __future__ import annotations

from collections.abc import Generator

import httpx


class Resolve(httpx.Auth):
    """Sends each request for `endpoint` to the replica that the router names; works in `Client` and `AsyncClient`.

    Every request is resolved anew, so that load spreads and a replica that has gone is not asked again. A refusal of the
    router's (401, 403, 429, 503) is the request's answer. The client must follow redirects: that is how it waits for a
    cold service. Requests for other hosts are left alone and never see the key.

    Args:
        endpoint: the service's, as `sailplane status NAME --endpoint` prints it.
        key: an endpoint key; empty for a service that is open.
    """

    requires_response_body = True

    def __init__(self, endpoint: str, key: str = "") -> None:
        self._endpoint = httpx.URL(endpoint.rstrip("/"))
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """The hook of httpx: the question to the router, then the request, now for the replica."""
        prefix = self._endpoint.raw_path.rstrip(b"/") + b"/"
        if request.url.netloc != self._endpoint.netloc or not request.url.raw_path.startswith(prefix):
            yield request
            return
        question = self._endpoint.copy_with(raw_path=prefix + b"_resolve")
        answer = yield httpx.Request("GET", question, headers=self._headers, extensions=request.extensions)
        if answer.status_code != httpx.codes.OK:
            return
        replica = httpx.URL(answer.json()["url"])
        rest = request.url.raw_path.removeprefix(prefix)
        request.url = replica.copy_with(raw_path=replica.raw_path.rstrip(b"/") + b"/" + rest)
        request.headers["Host"] = request.url.netloc.decode()
        request.headers.pop("Authorization", None)
        request.headers.pop("X-Api-Key", None)
        yield request
