from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chalicelib.ports import Store
from chalicelib.store.dynamodb import DynamoDBStore
from chalicelib.store.memory import MemoryStore
from sailplane.local import ministack
from tests.fakes import FakeClock
from tests.store import dynamodb_local
from tests.store.nouns import NOW, RandomIds

CACHE = Path(os.environ.get("SAILPLANE_CACHE", "~/.cache/sailplane")).expanduser()

DYNAMODBS = ["ministack", pytest.param("dynamodb_local", marks=pytest.mark.strict_store)]


@dataclass
class Database:
    """One table of a stand-in for DynamoDB, and what was asked of it."""

    store: DynamoDBStore
    requests: Counter[str]
    pauses: list[int]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture(scope="session")
def ministack_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ministack.MiniStack(ministack.environment(CACHE), tmp_path_factory.mktemp("ministack")) as server:
        yield server.url


@pytest.fixture(scope="session")
def dynamodb_local_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("dynamodb_local") / "log"
    with dynamodb_local.running(dynamodb_local.install(CACHE), log) as url:
        yield url


def new_database(url: str, clock: FakeClock) -> Database:
    requests: Counter[str] = Counter()
    pauses: list[int] = []
    store = DynamoDBStore(
        f"t-{uuid.uuid4().hex}",
        "us-east-1",
        clock=clock,
        ids=RandomIds(),
        endpoint_url=url,
        on_request=lambda operation: requests.update([operation]),
        pause=pauses.append,
    )
    store.create_table()
    requests.clear()
    return Database(store, requests, pauses)


@pytest.fixture(params=DYNAMODBS)
def database(request: pytest.FixtureRequest, clock: FakeClock) -> Database:
    return new_database(request.getfixturevalue(f"{request.param}_url"), clock)


@pytest.fixture(params=["memory", *DYNAMODBS])
def store(request: pytest.FixtureRequest, clock: FakeClock) -> Store:
    if request.param == "memory":
        return MemoryStore(clock)
    return new_database(request.getfixturevalue(f"{request.param}_url"), clock).store
