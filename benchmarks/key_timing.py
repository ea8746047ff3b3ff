"""Does the time of a refusal tell anything of what was wrong? Welch's t-test between kinds of wrong keys.

    python benchmarks/key_timing.py

Each kind is compared with a key whose id nobody has. Samples are taken alternately, in a random order, in CPU time, of
200 refusals each with many different keys; the slowest tenth of each kind is left out, as it tells of the machine. With
|t| above 4.5, the threshold that side-channel laboratories use (Goodwill et al., "A testing methodology for side-channel
resistance validation", 2011), there is a difference.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import math
import random
import statistics
import time
from collections.abc import Callable

from edge_router.messages import Request
from edge_router.router import Router
from edge_router.sealing import secrets

TOKEN = "bench"  # noqa: S105 nobody else is there
REFUSALS = 200  # in a sample
THRESHOLD = 4.5
DICE = random.Random(1)


def secret() -> str:
    return base64.urlsafe_b64encode(DICE.randbytes(32)).decode().rstrip("=")


def name() -> str:
    return "".join(DICE.choices("0123456789abcdefghijklmnopqrstuvwxyz", k=10))


KEYS = {name(): secret() for _ in range(200)}


def table() -> str:
    keys = {
        key_id: {
            "hash": hashlib.sha256(f"sp_{key_id}_{text}".encode()).hexdigest(),
            "services": ["*"],
            "expires_at": 1.0 if number % 2 else None,  # every other one has expired
        }
        for number, (key_id, text) in enumerate(KEYS.items())
    }
    services = {"hello": {"policy": "least_load", "status": "READY", "replicas": []}}
    text = json.dumps({"etag": "bench", "issued_at": 1.0, "keys": keys, "services": services})
    known = secrets(TOKEN)[0]
    return f"sailplane-table 1 {known.kid} {hmac.new(known.table_key, text.encode(), 'sha256').hexdigest()}\n{text}"


def last_character_wrong() -> bytes:
    key_id = DICE.choice(list(KEYS)[::2])
    return f"sp_{key_id}_{KEYS[key_id][:-1]}{'A' if KEYS[key_id][-1] != 'A' else 'B'}".encode()


def secret_wrong() -> bytes:
    return f"sp_{DICE.choice(list(KEYS)[::2])}_{secret()}".encode()


def expired() -> bytes:
    key_id = DICE.choice(list(KEYS)[1::2])
    return f"sp_{key_id}_{KEYS[key_id]}".encode()


def unknown() -> bytes:
    return f"sp_{name()}_{secret()}".encode()


def sample_us(router: Router, key: Callable[[], bytes], path: bytes) -> float:
    requests = [Request(b"POST", path, b"", {b"authorization": b"Bearer " + key()}) for _ in range(REFUSALS)]
    start = time.process_time_ns()
    for request in requests:
        router.handle(request)
    return (time.process_time_ns() - start) / REFUSALS / 1e3


def welch(one: list[float], other: list[float]) -> float:
    spread = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    return (statistics.mean(one) - statistics.mean(other)) / math.sqrt(spread)


def trimmed(samples: list[float]) -> list[float]:
    return sorted(samples)[: len(samples) * 9 // 10]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare how long refusals of wrong keys take.")
    parser.add_argument("--samples", type=int, default=1_000, help="of each kind (%(default)s)")
    samples = parser.parse_args().samples
    router = Router(clock=time.time, random=random.random, first_seq=1, token=TOKEN)
    router.accept(table())
    here, gone = b"/hello/v1/chat/completions", b"/gonee/v1/chat/completions"
    kinds: dict[str, tuple[Callable[[], bytes], bytes]] = {
        "no such id": (unknown, here),
        "no such id, once more": (unknown, here),
        "no such id, no such service": (unknown, gone),
        "right id, another secret": (secret_wrong, here),
        "right but for the last character": (last_character_wrong, here),
        "right, but expired": (expired, here),
    }
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(samples):
        for kind in DICE.sample(list(kinds), len(kinds)):
            taken[kind].append(sample_us(router, *kinds[kind]))
    reference = trimmed(taken["no such id"])
    print(f"{'us CPU a refusal':<36}{'mean':>8}{'|t|':>8}")
    for kind in kinds:
        seen = trimmed(taken[kind])
        t = abs(welch(seen, reference))
        print(f"{kind:<36}{statistics.mean(seen):>8.3f}{t:>8.2f}{'  a difference' if t > THRESHOLD else ''}")


if __name__ == "__main__":
    main()
