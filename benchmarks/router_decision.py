"""What starting the router costs, and one decision of it: the key checked, the replica picked, the grant written.

    python benchmarks/router_decision.py

CPU time, the best of many short rounds, as the machine may be busy with other things. Requests come over 16 connections
with the same key and the same prompt of 2,000 characters, which is the dearest case of prefix_aware: its replica is always
over the bound. What a whole request costs over a socket is
measured by benchmarks/edge.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping

from edge_router.messages import Request
from edge_router.router import Router
from edge_router.sealing import secrets
from edge_router.table import POLICIES

ROUNDS = 40
DECISIONS = 1_000  # a round
TOKEN = "bench"  # noqa: S105 nobody else is there
KEY = b"sp_bench00000_" + b"k" * 43
BODY = json.dumps({"model": "hello", "messages": [{"role": "user", "content": "word " * 400}]}).encode()
BY_NAME, BY_MODEL = b"/hello/v1/chat/completions", b"/v1/chat/completions"


def sealed(policy: str, replicas: int, service: Mapping[str, object], key: Mapping[str, object]) -> str:
    """A table as the control plane sends it."""
    ready = [
        {
            "id": f"hello-a1b2-{n}-1",
            "url": f"http://10.0.0.{n}:8000",
            "boot": f"{n:032x}",
            "in_flight": n % 7,
            "weight": 1 + n % 3,
            "location": f"aws/us-east-1/use1-az{n % 3}",
        }
        for n in range(replicas)
    ]
    document = {
        "etag": "bench",
        "issued_at": 1.0,
        "keys": {"bench00000": {"hash": hashlib.sha256(KEY).hexdigest(), "services": ["hello"], **key}},
        "services": {"hello": {"policy": policy, "status": "READY", "replicas": ready, **service}},
    }
    text, secret = json.dumps(document), secrets(TOKEN)[0]
    return f"sailplane-table 1 {secret.kid} {hmac.new(secret.table_key, text.encode(), 'sha256').hexdigest()}\n{text}"


def decision_us(table: str, path: bytes) -> float:
    """CPU microseconds of one request, from its headers to its Location."""
    router = Router(
        clock=time.time, random=random.random, first_seq=1, token=TOKEN, location="aws/us-east-1/use1-az1"
    )  # fmt: skip
    headers = {b"authorization": b"Bearer " + KEY, b"content-length": b"%d" % len(BODY)}
    ask = Request(b"POST", path, b"", headers)
    body = BODY if router_reads(router, table, ask) else None
    requests = [Request(b"POST", path, b"", headers, "192.0.2.1", 40_000 + port, body) for port in range(16)]
    rounds = []
    for _ in range(ROUNDS):
        router.accept(table)
        start = time.process_time()
        responses = [router.handle(requests[number % 16]) for number in range(DECISIONS)]
        rounds.append((time.process_time() - start) / DECISIONS * 1e6)
        assert {response.status for response in responses} == {307}
    return min(rounds)


def router_reads(router: Router, table: str, request: Request) -> bool:
    """Whether the platform would have read the body."""
    router.accept(table)
    return router.body_limit(request) > 0


def start_ms(code: str) -> float:
    """CPU milliseconds of a Python process that runs `code`, best of 20."""
    runs = []
    for _ in range(20):
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        runs.append((usage.ru_utime + usage.ru_stime) * 1e3)
    return min(runs)


def print_decisions() -> None:
    sizes = (1, 3, 30, 300)
    print(f"{'us CPU a decision, replicas:':<44}" + "".join(f"{size:>8}" for size in sizes))
    near: dict[str, object] = {"prefer_near": True, "slow_start_s": 30}
    limits: dict[str, object] = {"rate_per_s": 1e6, "concurrency": 1000}
    cases: list[tuple[str, str, dict[str, object], dict[str, object], bytes]] = [
        *((policy, policy, {}, {}, BY_NAME) for policy in POLICIES),
        ("least_load, near ones first, slow start", "least_load", near, {}, BY_NAME),
        ("least_load, key with limits", "least_load", {}, limits, BY_NAME),
        ("least_load, service found by the model", "least_load", {}, {}, BY_MODEL),
    ]
    for name, policy, service, key, path in cases:
        costs = [decision_us(sealed(policy, size, service, key), path) for size in sizes]
        print(f"{name:<44}" + "".join(f"{cost:>8.1f}" for cost in costs))


if __name__ == "__main__":
    imports = "import edge_router.router, edge_router.exchange, edge_router.snapshot"
    print(f"import, over bare Python: {start_ms(imports) - start_ms('pass'):.0f} ms CPU (at most 60)\n")
    print_decisions()
