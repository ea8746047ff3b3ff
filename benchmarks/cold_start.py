"""What a cold start of each function costs: CPU of a fresh process, from its start to its first answer.

    python -m benchmarks.cold_start [--starts 9] [--package dist]

The process has what Lambda would unpack and nothing else: the zips that `infra.package` builds for this machine's Python.
Its first event is answered for real: configuration, state and clouds are local stand-ins that do not count (MiniStack, EC2 in
a box with all of an account's regions). They speak plain HTTP, so TLS is not in it. CPU and not time passed, as other work on
the machine shows less in it; Lambda's own start of the process comes on top (benchmarks/edge/cold_start.py). Ends with 1 if
the median is above the function's limit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chalicelib import lifecycle, spec
from chalicelib.amazon import Amazon
from chalicelib.bootstrap import SystemClock, SystemIds
from chalicelib.model import SpecVersion
from chalicelib.store.dynamodb import DynamoDBStore
from infra import package, template
from sailplane.local.ministack import MiniStack, environment
from tests.clouds.aws.box import AwsBox
from tests.clouds.box import OnPaper
from tests.edge.fakes import KEY, TOKEN, FakeControl, table
from tests.edge.platforms.runtimes import function_url_event

CACHE = Path(os.environ.get("SAILPLANE_CACHE", "~/.cache/sailplane")).expanduser()
REGION = "us-east-1"
ADMIN_KEY, ROUTER_TOKEN, AGENT_KEY = "a" * 32, "r" * 32, "k" * 32
YAML = """\
service: {readiness_probe: /health, replicas: 2}
resources: {accelerators: L4:1, ports: 8080}
run: serve
"""
MARK = "--- measured: "  # after whatever the function logs
# Run by the bare interpreter: no site-packages, no environment but the function's.
PROGRAM = """\
import sys
sys.path.insert(0, sys.argv[1])
import importlib, json, os, time

class Context:
    aws_request_id = "00000000-0000-0000-0000-000000000000"
    function_name = "cold"
    def get_remaining_time_in_millis(self):
        return 60_000

module, _, name = sys.argv[2].partition(".")
handler = getattr(importlib.import_module(module), name)
imported = time.process_time()
answer = handler(json.loads(sys.argv[3]), Context()) or {}
spent = time.process_time()
sys.__stdout__.write(sys.argv[4] + json.dumps([imported * 1e3, spent * 1e3, answer.get("statusCode", 0), answer.get("body", "")]))
sys.__stdout__.flush()
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class Start:
    """A function, the first event it gets, and what it is to answer."""

    name: str
    folder: Path
    handler: str
    event: Mapping[str, Any]
    limit_ms: float
    status: int = 0
    env: Mapping[str, str] = field(default_factory=dict)


def main() -> int:
    """Build, measure, print a table; the exit status."""
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--starts", type=int, default=9, help="of each (%(default)s)")
    told.add_argument(
        "--package", type=Path, help="a directory that infra.package has filled for this Python; default: it is built"
    )
    args = told.parse_args()
    with tempfile.TemporaryDirectory() as scratch, FakeControl().running() as control:
        control.table = table(("hello", "round_robin", "READY", ["http://198.51.100.1"]), access="required")
        folders = _unpacked(Path(scratch), args.package)
        print("| CPU until the first answer | import | least | median | limit |\n|---|---|---|---|---|", flush=True)
        too_slow = [_measure(_router(folders["edge-aws"], control.url), args.starts)]
        with _stand_ins(Path(scratch)) as env:
            too_slow += [_measure(start, args.starts) for start in _control(folders["control"], env)]
            _create_service(env)  # the tick after it asks the market, and EC2 for two machines
            too_slow.append(_measure(_tick("pass, AWS only, launches", folders["control"], env), 1))
    return any(too_slow)


def _measure(start: Start, starts: int) -> bool:
    """One line; whether it takes too long."""
    runs = [_run(start) for _ in range(starts)]
    imports, totals = zip(*runs, strict=True)
    median = statistics.median(totals)
    figures = " | ".join(f"{ms:.0f} ms" for ms in (statistics.median(imports), min(totals), median, start.limit_ms))
    print(f"| {start.name} | {figures} |", flush=True)
    return bool(median > start.limit_ms)


def _run(start: Start) -> tuple[float, float]:
    """Milliseconds of CPU: when the module is imported, when the answer is there."""
    interpreter = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    arguments = [str(start.folder), start.handler, json.dumps(start.event), MARK]
    command = [str(interpreter), "-I", "-S", "-c", PROGRAM, *arguments]
    done = subprocess.run(command, env=dict(start.env), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{start.name} failed:\n{done.stderr}")
    imported_ms, spent_ms, status, body = json.loads(done.stdout.rpartition(MARK)[2])
    if status != start.status:
        raise SystemExit(f"{start.name} answered {status}: {body}")
    return imported_ms, spent_ms


def _unpacked(scratch: Path, built: Path | None) -> Mapping[str, Path]:
    if built is None:
        built = scratch / "dist"
        package.build(built, ["aws"], arch={"aarch64": "arm64"}.get(platform.machine(), "x86_64"))
    for name in ("control", "edge-aws"):
        with zipfile.ZipFile(built / f"{name}.zip") as archive:
            archive.extractall(scratch / name)
    return {name: scratch / name for name in ("control", "edge-aws")}


def _router(folder: Path, control_url: str) -> Start:
    env = {"SAILPLANE_CONTROL_URL": control_url, "SAILPLANE_ROUTER_TOKEN": TOKEN}
    event = function_url_event("POST", "/hello/x", {"Authorization": f"Bearer {KEY}"}, b"{}")
    return Start("router", folder, "lambda_function.handler", event, 150, 307, env)


def _control(folder: Path, env: Mapping[str, str]) -> Iterator[Start]:
    exchange = json.dumps({"router_id": "edge-1", "seq": 1, "etag": "", "requests": {}}).encode()
    headers = {"Authorization": f"Bearer {ROUTER_TOKEN}", "Content-Type": "application/json"}
    asked = function_url_event("POST", "/v1/edge/exchange", headers, exchange)
    asked["requestContext"]["requestId"] = "r-1"
    yield Start("API: list services", folder, "app.app", _rest("/v1/services"), 500, 200, env)
    yield Start("machines: a router's exchange", folder, "app.machines", asked, 500, 200, env)
    yield _tick("pass, AWS only, nothing there", folder, env)


def _tick(name: str, folder: Path, env: Mapping[str, str]) -> Start:
    event = {
        "version": "0",
        "id": "e-1",
        "account": "123456789012",
        "region": REGION,
        "time": "2026-11-22T05:00:00Z",
        "resources": [],
        "source": "aws.events",
        "detail-type": "Scheduled Event",
        "detail": {},
    }
    return Start(name, folder, "app.tick", event, 800, env=env)


def _rest(path: str) -> Mapping[str, Any]:
    """API Gateway's proxy event of a GET."""
    return {
        "resource": path,
        "path": path,
        "httpMethod": "GET",
        "headers": {"Authorization": f"Bearer {ADMIN_KEY}"},
        "multiValueHeaders": {},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": path,
            "path": f"/v1{path}",
            "httpMethod": "GET",
            "identity": {"sourceIp": "192.0.2.1"},
            "requestId": "r-1",
            "stage": "v1",
        },
        "body": None,
        "isBase64Encoded": False,
    }


@contextmanager
def _stand_ins(scratch: Path) -> Iterator[dict[str, str]]:
    """A function's environment, all of which leads to this machine."""
    services = {"SERVICES": "dynamodb,s3,sqs,ssm"}
    with MiniStack(environment(CACHE), scratch / "ministack", settings=services) as stack:
        box = AwsBox(OnPaper(), SystemClock())
        try:
            yield _deployed(stack, box)
        finally:
            box.close()


def _deployed(stack: MiniStack, box: AwsBox) -> dict[str, str]:
    key, _, address = stack.url.removeprefix("http://").partition("@")
    os.environ.update(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=key)
    amazon = Amazon(REGION, f"http://{address}")
    for name, value in (("ADMIN_KEY", ADMIN_KEY), ("ROUTER_TOKEN", ROUTER_TOKEN), ("AGENT_KEY", AGENT_KEY)):
        wanted = {"Name": f"/sailplane/cold/SAILPLANE_{name}", "Value": value, "Type": "SecureString"}
        amazon.act("ssm", "AmazonSSM.PutParameter", wanted)
    _store(stack.url).create_table()
    amazon.put_object("cold", "", b"", {})  # the bucket itself
    queue_url = amazon.act("sqs", "AmazonSQS.CreateQueue", {"QueueName": "sailplane-cold-relay"})["QueueUrl"]
    env = {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": key,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": f"http://{address}",
        "SAILPLANE_AWS_ENDPOINT": box.endpoint_url,
        "SAILPLANE_CONTROL_URL": "https://control.example",
        "SAILPLANE_DEPLOYMENT": "cold",
        "SAILPLANE_EDGE_URL": "http://127.0.0.1:9",
        "SAILPLANE_PARAMETERS": "/sailplane/cold",
        "SAILPLANE_PROVIDERS": "aws",
        "SAILPLANE_RELAY_MAPPING": "91eaeb7e-c976-1234-9451-8709db01f137",
        "SAILPLANE_RELAY_QUEUE": queue_url,
        "SAILPLANE_SNAPSHOT": "s3://cold/table",
        "SAILPLANE_TABLE": "cold",
    }
    if missing := _told_when_deployed() - env.keys():
        raise SystemExit(f"What is deployed has more to do at its start: {', '.join(sorted(missing))} is not set here.")
    return env


def _told_when_deployed() -> set[str]:
    """Of a deployment on AWS alone: the variables that functions have, and the parameters that they read."""
    made = template.merged("3.12", "arm64", "0")["Resources"]
    names = set(made["Tick"]["Properties"]["Environment"]["Variables"]) - {"CREDENTIALS_DIGEST"}
    settings = (
        each["Properties"]["Name"]["Fn::Sub"] for each in made.values() if each.get("Type") == "AWS::SSM::Parameter"
    )
    names |= {path.rpartition("/")[2] for path in settings}
    return {name for name in names if not name.startswith(("SAILPLANE_AWS_", "SAILPLANE_GCP_", "SAILPLANE_AZURE_"))}


def _store(url: str) -> DynamoDBStore:
    return DynamoDBStore("cold", REGION, clock=SystemClock(), ids=SystemIds(), endpoint_url=url)


def _create_service(env: Mapping[str, str]) -> None:
    now = SystemClock().now()
    wanted = spec.parse(YAML).spec
    url = env["AWS_ENDPOINT_URL"].replace("http://", f"http://{env['AWS_ACCESS_KEY_ID']}@")
    service = lifecycle.new_service("hello", "u1d0", wanted, now)
    _store(url).create_service(service, SpecVersion("hello", 1, wanted, YAML, now))


if __name__ == "__main__":
    sys.exit(main())
