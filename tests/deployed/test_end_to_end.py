"""The real template and the real zips, deployed into an AWS account on this machine, used, and taken out again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from standardwebhooks import Webhook

from sailplane.deploy.package import Package
from sailplane.local.clouds import Clouds
from tests.deployed.stand_in import StandIn
from tests.waiting import until

pytestmark = pytest.mark.deployed

SERVER = Path(__file__).parents[2] / "examples" / "hello" / "server.py"
READY_TIMEOUT_S = 90.0
# What nobody but AWS may put on the bus. See `Account.hear`.
FORGED = "tests.ec2"
SECRET = "the-secret-of-the-tests"
_KNOWS_THE_SECRET = f'[ "$(printf %s "$HF_TOKEN" | sha256sum)" = "{hashlib.sha256(SECRET.encode()).hexdigest()}  -" ]'


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Clouds]:
    """EC2, whose machines boot and run; that of the stand-in for all the rest does not."""
    with Clouds(["aws"], tmp_path / "machines", tmp_path / "machines.log") as clouds:
        yield clouds
        clouds.check()


class Account:
    """One deployment in the account, and the machines that it makes."""

    def __init__(self, stand_in: StandIn, machines: Clouds, home: Path) -> None:
        self.stand_in = stand_in
        self.machines = machines
        self.home = home

    def run(self, *args: str) -> Any:
        return self.stand_in.json(self.home, *args)

    def replicas(self) -> list[str]:
        """Those that serve."""
        service = self.run("status", "hello")
        return [replica["id"] for replica in service["replicas"] if replica["status"] == "READY"]

    def rewire(self, deployment: str) -> None:
        """Lead what knows no proxy straight to the functions: machines, and the edge. And the functions to the machines' EC2."""
        ssm = self.stand_in.client("ssm")
        path = f"/sailplane/{deployment}"
        public = ssm.get_parameter(Name=f"{path}/SAILPLANE_CONTROL_URL")["Parameter"]["Value"]
        url = f"{self.stand_in.endpoint}/_aws/lambda-url/{httpx.URL(public).host.partition('.')[0]}"
        ssm.put_parameter(Name=f"{path}/SAILPLANE_CONTROL_URL", Value=url, Type="String", Overwrite=True)
        endpoint = self.machines.endpoints["aws"]
        ssm.put_parameter(Name=f"{path}/SAILPLANE_AWS_ENDPOINT", Value=endpoint, Type="String")
        self.lead_edge_to(deployment, url)

    def lead_edge_to(self, deployment: str, control_url: str) -> str:
        """Change where the edge looks for its control plane, which ends its instances; where it was before."""
        functions = self.stand_in.client("lambda")
        edge = {"FunctionName": f"sailplane-{deployment}-edge"}
        variables = functions.get_function_configuration(**edge)["Environment"]["Variables"]
        changed = variables | {"SAILPLANE_CONTROL_URL": control_url}
        functions.update_function_configuration(**edge, Environment={"Variables": changed})
        return str(variables["SAILPLANE_CONTROL_URL"])

    def hear(self, rule: str) -> None:
        """Have EC2's events go over the bus to the rule's function.

        The bus takes none that call themselves `aws.ec2`, as AWS's does not. So they come under another name, for which the
        rule's pattern is changed, and its target is handed what AWS would hand it.
        """
        events = self.stand_in.client("events")
        pattern = json.loads(events.describe_rule(Name=rule)["EventPattern"])
        events.put_rule(Name=rule, EventPattern=json.dumps(pattern | {"source": [FORGED]}), State="ENABLED")
        (target,) = events.list_targets_by_rule(Rule=rule)["Targets"]
        fields = ("id", "account", "time", "region", "resources", "detail")
        paths = {field: f"$.{field}" for field in fields} | {"type": "$.detail-type"}
        handed = '"version": "0", "source": "aws.ec2", "detail-type": <type>, ' + ", ".join(
            f'"{field}": <{field}>' for field in fields
        )
        transformer = {"InputPathsMap": paths, "InputTemplate": "{" + handed + "}"}
        events.put_targets(Rule=rule, Targets=[{**target, "InputTransformer": transformer}])
        self.machines.deliver(lambda event: self._put(events, event))

    def _put(self, events: Any, event: Mapping[str, Any]) -> None:
        entry = {"Source": FORGED, "DetailType": event["detail-type"], "Detail": json.dumps(event["detail"])}
        assert events.put_events(Entries=[entry])["FailedEntryCount"] == 0


def service(directory: Path, greeting: str = "one") -> str:
    """A file for a service of one spot replica, probed every second."""
    path = directory / f"{greeting}.yaml"
    document = {
        "service": {
            "replicas": 1,
            "access": {"keys": "open"},
            "readiness_probe": {
                "path": "/v1/models",
                "endpoint_probe_interval_seconds": 1,
                "initial_delay_seconds": 60,
            },
        },
        "resources": {"infra": "aws", "use_spot": True, "accelerators": "A10G:1", "ports": 8080},
        "envs": {"GREETING": greeting},
        "secrets": {"HF_TOKEN": None},
        "run": f"{_KNOWS_THE_SECRET} && exec python3 {SERVER} --port $SAILPLANE_PORT",
    }
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_the_whole_path(stand_in: StandIn, package: Package, machines: Clouds, tmp_path: Path) -> None:
    """Bootstrap twice, a service, a spot warning, pushes, teardown: at the end nothing of ours is left."""
    before = stand_in.everything()
    account = Account(stand_in, machines, tmp_path)
    _bootstrap_twice(account, package)
    stand_in.widen_roles()
    stand_in.allow_plain_http()
    account.rewire("acme")
    account.run("connect", "aws", "-d", "acme")
    assert account.run("status") == {"services": []}

    _serve(account)
    _route_alone(account)
    _lose_a_spot_machine(account)
    _push_two_versions(account)

    # The control plane's own words on what would be left behind.
    assert "hello" in stand_in.cli(tmp_path, "teardown", "-y", code=3)
    assert SECRET not in stand_in.logged()
    account.run("down", "hello", "-y")
    stand_in.cli(tmp_path, "teardown", "-y")
    assert stand_in.everything() == before


def _bootstrap_twice(account: Account, package: Package) -> None:
    options = ("-d", "acme", "--package", str(package.directory), "--regions", "us-east-1,us-west-2", "-y")
    assert account.run("bootstrap", "aws", *options)["changed"] is True
    assert account.run("bootstrap", "aws", *options)["changed"] is False


def _serve(account: Account) -> None:
    """A service is made ready, and answers at the address that the stack gives its edge."""
    refused = account.stand_in.cli(account.home, "up", service(account.home), "-n", "hello", "-y", code=3)
    assert "sailplane secrets set HF_TOKEN" in refused
    account.stand_in.cli(account.home, "secrets", "set", "HF_TOKEN", "--service", "hello", stdin=SECRET)
    account.run("up", service(account.home), "-n", "hello", "-y")
    endpoint = account.run("status", "hello", "--endpoint")["endpoint"]
    assert httpx.URL(endpoint).host.endswith(".lambda-url.us-east-1.on.aws")
    with account.stand_in.http() as http:
        until(lambda: http.get(f"{endpoint}/v1/models", follow_redirects=True).is_success, READY_TIMEOUT_S)


def _route_alone(account: Account) -> None:
    """An edge function that starts while there is no control plane routes by the table in the bucket, which its role reads."""
    endpoint = account.run("status", "hello", "--endpoint")["endpoint"]
    control_url = account.lead_edge_to("acme", "http://127.0.0.1:1")
    with account.stand_in.http() as http:
        answer = http.get(f"{endpoint}/v1/models", follow_redirects=True)
    assert answer.status_code == 200, f"{answer.text}\n{account.stand_in.last_words()}"
    account.lead_edge_to("acme", control_url)


def _lose_a_spot_machine(account: Account) -> None:
    """Its warning comes over the bus to the function, which asks for another one."""
    account.hear("sailplane-acme-interrupt")
    (victim,) = account.replicas()
    account.machines.tell("aws", "preempt", {"replica_id": victim, "notice_s": 60.0})
    until(lambda: account.replicas() not in ([], [victim]), READY_TIMEOUT_S)
    kinds = [event["kind"] for event in account.run("events", "hello")["events"]]
    assert "replica.notice" in kinds
    assert kinds.index("replica.notice") < len(kinds) - 1 - kinds[::-1].index("replica.pending")


def _push_two_versions(account: Account) -> None:
    """A signed delivery with a new version is rolled out; one with a file that is no good changes nothing, and is told."""
    hook = account.run("webhook", "create", "hello", "--generic")
    _deliver(hook, "a" * 40, Path(service(account.home, "two")).read_text())
    until(lambda: _version(account) == 2 and account.replicas(), READY_TIMEOUT_S)
    _deliver(hook, "b" * 40, "service: {replicas: many}")
    until(lambda: _outcome(account)["commit"] == "b" * 40, READY_TIMEOUT_S)
    assert _outcome(account)["version"] is None
    assert _version(account) == 2


def _deliver(hook: Mapping[str, Any], commit: str, text: str) -> None:
    now = datetime.now(UTC)
    body = json.dumps({"type": "push", "timestamp": now.isoformat(), "data": {"commit": commit, "yaml": text}})
    name = f"msg_{commit[:8]}"
    signed = {"webhook-id": name, "webhook-timestamp": str(int(now.timestamp()))}
    signed["webhook-signature"] = Webhook(hook["secret"]).sign(name, now, body)
    answer = httpx.post(hook["url"], content=body, headers={"content-type": "application/json", **signed}, timeout=30)
    assert answer.status_code == 202, answer.text


def _version(account: Account) -> int:
    return int(account.run("status", "hello")["version"])


def _outcome(account: Account) -> Mapping[str, Any]:
    (hook,) = account.run("webhook", "list")["webhooks"]
    return hook["outcome"] or {"commit": ""}
