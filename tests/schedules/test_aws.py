"""What functions ask of Amazon about themselves, over real HTTP: word for word what boto3 would ask."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chalicelib import bootstrap, parameters
from chalicelib.amazon import Amazon, Refused
from chalicelib.config import from_env
from chalicelib.errors import Unreachable
from chalicelib.passes import Round
from chalicelib.schedules.aws import AwsRelay, AwsSchedule

QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/sailplane-acme-relay"
UUID = "91eaeb7e-c976-1234-9451-8709db01f137"
BUSY = (400, {"__type": "com.amazonaws.lambda#ResourceInUseException", "message": "busy"})


@dataclass
class Asked:
    """One request, as far as services read it."""

    method: str
    path: str
    target: str
    content_type: str
    invocation: str
    body: Any


@dataclass
class Stand:
    """Answers with what is queued, or as a service that is content; remembers what it was asked."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answers: deque[tuple[int, Any]] = field(default_factory=deque)
    mapping: str = "Disabled"

    def answer(self, asked: Asked) -> tuple[int, Any]:
        self.asked.append(asked)
        if self.answers:
            return self.answers.popleft()
        if asked.method == "GET":
            return 200, {"UUID": UUID, "State": self.mapping}
        return 200, {}

    def words(self) -> list[str]:
        """What was asked, in short."""
        return [f"{one.target} {one.body['Name']}" if one.target else _on_mappings(one) for one in self.asked]


def _on_mappings(asked: Asked) -> str:
    return "mapping?" if asked.method == "GET" else f"mapping {asked.body['Enabled']}"


@pytest.fixture(scope="module")
def server() -> Iterator[Stand]:
    stand = Stand()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, said = stand.answer(_asked(self.command, self.path, self.headers, text))
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = _serve  # noqa: N815 the names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the inherited name
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        stand.url = f"http://127.0.0.1:{listening.server_port}"
        yield stand
        listening.shutdown()
        thread.join()


@pytest.fixture
def stand(server: Stand, monkeypatch: pytest.MonkeyPatch) -> Stand:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    server.asked.clear()
    server.answers.clear()
    server.mapping = "Disabled"
    return server


@pytest.fixture
def amazon(stand: Stand) -> Amazon:
    return Amazon("us-east-1", stand.url, pause=lambda _attempt: None)


@pytest.fixture
def schedule(amazon: Amazon) -> AwsSchedule:
    return AwsSchedule(amazon, "acme", UUID, pause=lambda: None)


def _asked(method: str, path: str, headers: Any, body: bytes) -> Asked:
    found = {name.lower(): value for name, value in dict(headers).items()}
    return Asked(
        method,
        path,
        found.get("x-amz-target", ""),
        found.get("content-type", "") if "x-amz-target" in found else "",
        found.get("x-amz-invocation-type", ""),
        json.loads(body) if body else None,
    )


@pytest.mark.parametrize(
    ("service", "theirs", "ours"),
    [
        (
            "events",
            lambda client: client.enable_rule(Name="r"),
            lambda amazon: amazon.act("events", "AWSEvents.EnableRule", {"Name": "r"}),
        ),
        (
            "sqs",
            lambda client: client.send_message(QueueUrl=QUEUE, MessageBody="m", DelaySeconds=3),
            lambda amazon: AwsRelay(amazon, "acme", QUEUE).send("m", 3),
        ),
        (
            "ssm",
            lambda client: client.get_parameters_by_path(Path="/s/a", Recursive=False, WithDecryption=True),
            lambda amazon: parameters.read("/s/a", "us-east-1", amazon._endpoint_url),
        ),
        (
            "lambda",
            lambda client: (
                client.get_event_source_mapping(UUID=UUID),
                client.update_event_source_mapping(UUID=UUID, Enabled=True),
            ),
            lambda amazon: AwsSchedule(amazon, "acme", UUID)._deliver(is_wanted=True),
        ),
        (
            "lambda",
            lambda client: client.invoke(
                FunctionName="sailplane-acme-relay",
                InvocationType="Event",
                Payload=b'{"Records": [{"body": "m", "receiptHandle": ""}]}',
            ),
            lambda amazon: AwsRelay(amazon, "acme", QUEUE).send_now("m"),
        ),
    ],
    ids=["enable", "send", "parameters", "mapping", "invoke"],
)
def test_the_requests_are_boto3s(
    stand: Stand, amazon: Amazon, service: str, theirs: Callable[[Any], object], ours: Callable[[Amazon], object]
) -> None:
    """Method, path, action and body: boto3 is not shipped for these calls, and is asked here what it would say."""
    import boto3  # noqa: PLC0415 0.1 s that no other test needs

    if service == "ssm":
        stand.answers.extend([(200, {"Parameters": []})] * 2)
    ours(amazon)
    session: Any = boto3.session.Session(region_name="us-east-1")  # its types want the service's name as a literal
    theirs(session.client(service, endpoint_url=stand.url))
    half = len(stand.asked) // 2
    assert stand.asked[:half] == stand.asked[half:]
    assert half > 0


def test_on_wakes_all_and_off_lets_them_sleep(stand: Stand, schedule: AwsSchedule) -> None:
    """The minute's rule is the first that goes on and the last that goes off, so that a half-done switch is done again."""
    schedule.on()
    stand.mapping = "Enabled"
    schedule.off()
    assert stand.words() == [
        "AWSEvents.EnableRule sailplane-acme-tick",
        "AWSEvents.EnableRule sailplane-acme-interrupt",
        "mapping?",
        "mapping True",
        "mapping?",
        "mapping False",
        "AWSEvents.DisableRule sailplane-acme-interrupt",
        "AWSEvents.DisableRule sailplane-acme-tick",
    ]


# All that Lambda tells: https://docs.aws.amazon.com/lambda/latest/api/API_EventSourceMappingConfiguration.html
@pytest.mark.parametrize(
    ("state", "is_wanted", "told"),
    [
        (state, is_wanted, state not in left_alone)
        for is_wanted, left_alone in ((True, ("Enabled", "Enabling")), (False, ("Disabled", "Disabling", "Deleting")))
        for state in ("Creating", "Enabling", "Enabled", "Disabling", "Disabled", "Updating", "Deleting")
    ],
)
def test_a_mapping_on_its_way_is_left_alone_and_any_other_is_told(
    stand: Stand, schedule: AwsSchedule, state: str, *, is_wanted: bool, told: bool
) -> None:
    """A word more makes it busy for seconds. Of one that is being made or changed nobody knows which way it goes."""
    stand.mapping = state
    (schedule.on if is_wanted else schedule.off)()
    assert stand.words().count(f"mapping {is_wanted}") == told


def test_a_busy_mapping_is_waited_for(stand: Stand, schedule: AwsSchedule) -> None:
    """It was told something else shortly before; once it takes the word all is well, and if it never does the caller is told."""
    off = (200, {"State": "Disabling"})
    stand.answers.extend([(200, {}), (200, {}), off, BUSY, off, BUSY, off, (200, {})])
    schedule.on()
    assert stand.words().count("mapping True") == 3
    stand.answers.extend([(200, {}), (200, {}), *[off, BUSY] * 10])
    with pytest.raises(Unreachable, match="busy"):
        schedule.on()


def test_a_stumble_is_asked_again_a_refusal_is_not(stand: Stand, amazon: Amazon) -> None:
    """500s and throttling pass; what the request itself is refused for is told with Amazon's name for it."""
    stand.answers.extend([(500, {}), (400, {"__type": "ThrottlingException"})])
    amazon.act("events", "AWSEvents.EnableRule", {"Name": "r"})
    assert len(stand.asked) == 3
    stand.answers.append((400, {"__type": "x#ResourceNotFoundException", "message": "no such rule"}))
    with pytest.raises(Refused, match="no such rule") as refusal:
        amazon.act("events", "AWSEvents.EnableRule", {"Name": "r"})
    assert (refusal.value.code, len(stand.asked)) == ("ResourceNotFoundException", 4)
    stand.answers.extend([(503, {})] * 3)
    with pytest.raises(Unreachable, match="HTTP 503"):
        amazon.act("events", "AWSEvents.EnableRule", {"Name": "r"})


@pytest.mark.usefixtures("stand")
def test_nobody_there_is_unreachable() -> None:
    """No address answers there; the service is named."""
    with pytest.raises(Unreachable, match="events of AWS"):
        Amazon("us-east-1", "http://127.0.0.1:1", pause=lambda _attempt: None).act("events", "AWSEvents.EnableRule", {})


def test_a_poke_goes_to_the_relay_and_may_get_lost(stand: Stand, tmp_path: Path) -> None:
    """The function is called past its queue; when it cannot be, the owner's request succeeds all the same: a tick will look."""
    config = from_env(
        {
            "SAILPLANE_TABLE": "t",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": stand.url,
            "SAILPLANE_PROVIDERS": "local",
            "SAILPLANE_LOCAL_ROOT": str(tmp_path),
            "SAILPLANE_DEPLOYMENT": "acme",
            "SAILPLANE_EDGE_URL": "http://127.0.0.1:9",
            "SAILPLANE_RELAY_QUEUE": QUEUE,
            "SAILPLANE_RELAY_MAPPING": UUID,
            **dict.fromkeys(("SAILPLANE_ADMIN_KEY", "SAILPLANE_ROUTER_TOKEN", "SAILPLANE_AGENT_KEY"), "k" * 32),
        }
    )
    runtime = bootstrap.build(config)
    stand.answers.extend([(202, {}), (403, {"__type": "AccessDeniedException"})])
    for _ in range(2):
        runtime.poke("hello")
    asked = stand.asked[0]
    assert (asked.path, asked.invocation) == ("/2015-03-31/functions/sailplane-acme-relay/invocations", "Event")
    assert Round.parse(asked.body["Records"][0]["body"]) == Round.poke("hello")
    assert len(stand.asked) == 2


def test_parameters_come_in_pages(stand: Stand) -> None:
    """Ten at once; only what is ours to be told counts, whoever may write to the path."""
    one = {"Name": "/s/a/SAILPLANE_ADMIN_KEY", "Value": "k"}
    stand.answers.append((200, {"Parameters": [one], "NextToken": "t"}))
    stand.answers.append((200, {"Parameters": [{"Name": "/s/a/PATH", "Value": "/evil"}]}))
    assert parameters.read("/s/a", "us-east-1", stand.url) == {"SAILPLANE_ADMIN_KEY": "k"}
    assert stand.asked[1].body["NextToken"] == "t"
