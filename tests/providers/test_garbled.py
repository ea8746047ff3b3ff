"""Answers that no cloud gives, but a proxy, a broken or a hostile server: nothing follows from them, and nothing breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from chalicelib.errors import Unreachable
from chalicelib.model import Location
from chalicelib.ports import Janitor, Provider
from chalicelib.providers.aws.compute import AwsProvider
from chalicelib.providers.azure.compute import AzureProvider
from chalicelib.providers.gcp.compute import GcpProvider
from tests.fakes import FakeClock
from tests.providers.contract import launch_request, offer_in

OFFERS = {
    "aws": offer_in(Location("aws", "us-east-1", "use1-az1"), "t3.micro"),
    "gcp": offer_in(Location("gcp", "us-central1", "us-central1-a"), "n1-standard-1"),
    "azure": offer_in(Location("azure", "eastus", ""), "Standard_D2s_v5"),
}
# One machine with our tag that lacks everything else, as each cloud lists machines.
BARE = {
    "aws": b"<R><regionInfo><item><regionName>us-east-1</regionName></item></regionInfo><reservationSet><item><instancesSet>"
    b"<item><instanceId>i-1</instanceId></item></instancesSet></item></reservationSet></R>",
    "gcp": b'{"kind":"compute#instanceAggregatedList","items":{"zones/z":{"instances":[{"labels":{"sailplane-deployment":"d"}}]}}}',
    "azure": b'{"value":[{"tags":{"sailplane-deployment":"d"},"properties":5}]}',
}
# EC2 speaks XML, and may leave out an empty list: what it says of regions is what shows that it is EC2.
ANSWERS = {
    "a page": (200, "text/html", b"<html><body>Please log in</body></html>"),
    "a page in the way": (302, "text/html", b"<html><body>Moved</body></html>"),
    "nothing": (200, "application/json", b""),
    "an empty object": (200, "application/json", b"{}"),
    "a list": (200, "application/json", b"[]"),
    "null": (200, "application/json", b"null"),
    "nulls": (200, "application/json", b'{"items":null,"value":null,"kind":null}'),
    "texts": (200, "application/json", b'{"items":"x","value":"x"}'),
    "an error in JSON": (500, "application/json", b"{}"),
    "a refusal without words": (404, "text/html", b"<html/>"),
}


@dataclass
class Server:
    """Gives one answer to everything."""

    status: int = 200
    kind: str = ""
    body: bytes = b""

    def __post_init__(self) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(server.status)
                self.send_header("Content-Type", server.kind)
                self.send_header("Content-Length", str(len(server.body)))
                self.end_headers()
                self.wfile.write(server.body)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 http.server looks these names up

            def log_message(self, *_args: object) -> None:
                """Keep quiet."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._http.serve_forever)
        self._thread.start()

    def provider(self, name: str) -> Provider:
        url, clock, control = f"http://key@127.0.0.1:{self._http.server_port}", FakeClock(), "https://control.example"
        if name == "aws":
            return AwsProvider(
                deployment="d", control_url=control, clock=clock, regions=("us-east-1",), endpoint_url=url
            )
        if name == "gcp":
            return GcpProvider(
                deployment="d", control_url=control, clock=clock, project="p", endpoint_url=url, pause=clock.advance
            )
        return AzureProvider(
            deployment="d",
            control_url=control,
            clock=clock,
            subscription="s",
            resource_group="g",
            endpoint_url=url,
            pause=clock.advance,
        )

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.mark.parametrize("name", OFFERS)
@pytest.mark.parametrize("answer", [*ANSWERS, "a bare machine"])
def test_no_list_is_made_of_nonsense(server: Server, name: str, answer: str) -> None:
    """An empty list would say that every machine is gone; anything but `Unreachable` would end the tick."""
    server.status, server.kind, server.body = ANSWERS.get(answer, (200, "application/json", BARE[name]))
    provider = server.provider(name)
    with pytest.raises(Unreachable):
        provider.list_instances()


@pytest.mark.parametrize("name", OFFERS)
@pytest.mark.parametrize("answer", [each for each in ANSWERS if each != "a refusal without words"])
def test_no_launch_is_decided_by_nonsense(server: Server, name: str, answer: str) -> None:
    """Whether a machine was started is not known: neither a refusal, which would forget it, nor a crash of the pass."""
    server.status, server.kind, server.body = ANSWERS[answer]
    provider = server.provider(name)
    with pytest.raises(Unreachable):
        provider.launch(launch_request(OFFERS[name]))


@pytest.mark.parametrize("name", OFFERS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_nonsense_breaks_no_other_call(server: Server, name: str, answer: str) -> None:
    """Removal, logs and leftovers either work or say `Unreachable`."""
    server.status, server.kind, server.body = ANSWERS[answer]
    provider = server.provider(name)
    assert isinstance(provider, Janitor)
    calls: list[Callable[[], object]] = [
        lambda: provider.terminate("hello-0000-0-1", ""),
        lambda: provider.read_log("hello-0000-0-1", "", 10),
        lambda: provider.leftovers(frozenset({"another"})),
    ]
    answered = [_answered(call) for call in calls]
    assert answered[2:] == [False]


def _answered(call: Callable[[], object]) -> bool:
    try:
        call()
    except Unreachable:
        return False
    return True


def test_an_account_without_regions_is_no_empty_list(server: Server) -> None:
    """It would make every machine of the deployment look gone, and was looked at nowhere."""
    server.status, server.kind = 200, "text/xml"
    server.body = b"<R><regionInfo/></R>"
    provider = server.provider("aws")
    with pytest.raises(Unreachable, match="enabled no region"):
        provider.list_instances()
