"""Between the minute's ticks: a message that comes back later, or a function that sleeps until then? In USD a month.

    python -m benchmarks.cadence [--rounds 60]

What one round costs in CPU is measured: the shipped handler, passes and store over MiniStack, and a signed request as the one
that sends the next message; cloud and agents are in memory (a probe over HTTP is another 1.7 ms a replica). What a month costs
is reckoned with that and the prices and waits of `chalicelib.cost`: a queue is billed by the request and asked all month
long, a function that sleeps by the second. Ends with 1 if the queue is the dearer one at an interval that rounds use.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from chalicelib import cost, passes
from chalicelib.amazon import Amazon
from chalicelib.api.app import create_app
from chalicelib.bootstrap import SystemIds
from chalicelib.cost import Fleet, Usage
from chalicelib.model import ServiceSpec
from chalicelib.passes.cadence import SHORTEST_S
from chalicelib.store.dynamodb import DynamoDBStore
from sailplane.local.ministack import MiniStack, environment
from tests.fakes import FakeClock, World, spec

CACHE = Path(os.environ.get("SAILPLANE_CACHE", "~/.cache/sailplane")).expanduser()
REGION = "us-east-1"
SIZES = ((1, 1), (10, 30))
INTERVALS_S = (1.0, SHORTEST_S, 5.0, 10.0, 30.0)
SECONDS = cost.HOURS_A_MONTH * 3600


class Signed:
    """`ports.Relay` that sends what costs the same: one signed request with the message in it."""

    def __init__(self, amazon: Amazon) -> None:
        self._amazon = amazon
        self.sent = ""

    def send(self, body: str, delay_s: int) -> None:
        self._amazon.act("ssm", "AmazonSSM.GetParameters", {"Names": [f"/{len(body)}/{delay_s}"]})
        self.sent = body


def cpu_ms(stack: MiniStack, services: int, replicas: int, rounds: int) -> float:
    """Of one invocation of the relay at rest: the median."""
    clock = FakeClock()
    store = DynamoDBStore(f"cadence-{services}", REGION, clock=clock, ids=SystemIds(), endpoint_url=stack.url)
    store.create_table()
    world = World(clock=clock, store=store)
    names = [f"svc-{number}" for number in range(services)]
    for name in names:
        world.create(name, _of(replicas // services))
    world.tick(4)
    relay = Signed(Amazon(REGION, "http://" + stack.url.rpartition("@")[2]))
    world.runtime = replace(world.runtime, relay=relay)
    handler = create_app(lambda: world.runtime).handler_map["relay"]
    spent = []
    for _ in range(rounds):
        clock.advance(10.0)
        turn = passes.Round(dict.fromkeys(names, 0.0), clock.now() + 50).text
        started = time.process_time()
        handler({"Records": [{"body": turn, "receiptHandle": ""}]}, None)
        spent.append((time.process_time() - started) * 1e3)
    assert set(passes.Round.parse(relay.sent).due) == set(names)
    return statistics.median(spent)


def _of(replicas: int) -> ServiceSpec:
    wanted = spec(min_replicas=replicas, max_replicas=replicas)
    return replace(wanted, probe=replace(wanted.probe, interval_s=10.0))


def by_queue(fleet: Fleet) -> float:
    """A message for each round."""
    parts = cost.month(fleet)
    return (parts["passes between ticks"] + parts["queue"]).usd


def by_loop(fleet: Fleet) -> float:
    """One function after the other that sleeps between rounds, all month; it reads and asks the same."""
    rounds = cost.month(fleet)["passes between ticks"]
    awake = Usage(requests=SECONDS / 60, gb_s=SECONDS * fleet.memory["relay"] / 1024)
    return replace(rounds, requests=awake.requests, gb_s=awake.gb_s).usd


def main() -> int:
    """Measure, reckon, print; the exit status."""
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--rounds", type=int, default=60)
    rounds = told.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch, MiniStack(environment(CACHE), Path(scratch)) as stack:
        key = stack.url.removeprefix("http://").partition("@")[0]
        os.environ.update(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=key)
        for services, replicas in SIZES:
            measured = cpu_ms(stack, services, replicas, rounds)
            print(
                f"a round at rest, {services} services with {replicas} replicas: {measured:.1f} ms of CPU", flush=True
            )
    print("\n| services | replicas | a round every | queue | sleeping function |\n|---:|---:|---:|---:|---:|")
    is_dearer = False
    for services, replicas in SIZES:
        for interval_s in INTERVALS_S:
            fleet = Fleet(services, replicas, interval_s=interval_s)
            queue, loop = by_queue(fleet), by_loop(fleet)
            is_dearer |= queue > loop and interval_s >= SHORTEST_S
            print(f"| {services} | {replicas} | {interval_s:g} s | ${queue:.2f} | ${loop:.2f} |")
    return is_dearer


if __name__ == "__main__":
    sys.exit(main())
