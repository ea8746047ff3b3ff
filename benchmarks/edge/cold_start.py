"""What a cold start of the edge costs on Lambda: CPU of a fresh process until its first answer.

    python -m benchmarks.edge.cold_start [--starts 21]

The process is Lambda's runtime interface client with the content of the zip that `infra.edge` builds; its first request
brings two exchanges with a control plane on this machine. The same with a handler that does nothing shows the runtime's
own share. CPU time, as a busy machine shows less in it than in time passed; the least of all starts disturbs least.
"""

from __future__ import annotations

import argparse
import compileall
import resource
import statistics
import tempfile
import zipfile
from pathlib import Path

from infra.edge import build
from tests.edge.fakes import KEY, TOKEN, FakeControl, table
from tests.edge.platforms.runtimes import LAMBDA, RuntimeApi, function_url_event, process

NOTHING = "def handler(event, context): return {'statusCode': 307}\n"


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description="CPU of a cold start on Lambda.")
    parser.add_argument("--starts", type=int, default=21, help="of each (%(default)s)")
    starts = parser.parse_args().starts
    with FakeControl().running() as control, tempfile.TemporaryDirectory() as scratch:
        control.table = table(("hello", "round_robin", "READY", ["http://198.51.100.1"]), access="required")
        env = {"SAILPLANE_CONTROL_URL": control.url, "SAILPLANE_ROUTER_TOKEN": TOKEN}
        print("| CPU until the first answer | least | median |\n|---|---|---|")
        for name, folder in folders(Path(scratch)).items():
            costs_ms = [cpu_ms(folder, env) for _ in range(starts)]
            print(f"| {name} | {min(costs_ms):.0f} ms | {statistics.median(costs_ms):.0f} ms |")


def folders(scratch: Path) -> dict[str, Path]:
    """What is measured: the runtime alone, the edge as it is shipped, and as it would be with .pyc files."""
    archive = build("aws", scratch)
    found = {"runtime alone": scratch / "nothing", "edge": scratch / "edge", "edge with .pyc": scratch / "compiled"}
    found["runtime alone"].mkdir()
    (found["runtime alone"] / "lambda_function.py").write_text(NOTHING)
    for name in ("edge", "edge with .pyc"):
        with zipfile.ZipFile(archive) as members:
            members.extractall(found[name])
    compileall.compile_dir(found["edge with .pyc"], quiet=1)
    return found


def cpu_ms(folder: Path, env: dict[str, str]) -> float:
    """CPU of one process from its start to its end, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with RuntimeApi().running() as api, process(LAMBDA, folder, env | {"AWS_LAMBDA_RUNTIME_API": api.address}):
        answer = api.invoke(function_url_event("POST", "/hello/x", {"Authorization": f"Bearer {KEY}"}, b"{}"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert answer["statusCode"] == 307, answer
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


if __name__ == "__main__":
    main()
