"""Metrics over the API, and what the functions write into their log."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from chalice.app import CloudWatchEvent

from chalicelib.api.triggers import PassesFailed, on_schedule
from chalicelib.errors import Unreachable
from chalicelib.model import Instance
from tests.api.conftest import ADMIN_KEY, ROUTER_TOKEN, Api, assert_problem
from tests.fakes import FakeCloud

TICK: dict[str, Any] = {
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "detail": {},
    "time": "2026-11-22T05:00:00Z",
    "account": "1",
    "region": "us-east-1",
    "resources": [],
    "version": "0",
    "id": "e1",
}


class Context:
    """Of one invocation."""

    aws_request_id = "r-1"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def test_metrics_are_text_for_prometheus(api: Api) -> None:
    """Of all services, and of one; an unknown one is a problem as everywhere."""
    api.world.create()
    api.world.tick(3)
    for path in ("/metrics", "/v1/services/svc/metrics"):
        response = api.get(path)
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert 'sailplane_service_ready_replicas{service="svc"} 2\n' in response.body.decode()
    assert_problem(api.get("/v1/services/nobody/metrics"), 404)


def test_what_changes_or_fails_is_logged_with_its_request_id(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """By its route, not by its path, which is the caller's; looks and routers' exchanges are not worth a line."""
    caplog.set_level(logging.INFO, "chalicelib.api.access")
    api.get("/v1/services")
    api.exchange({"router_id": "r1", "seq": 1, "requests": {}, "etag": None})
    assert caplog.records == []
    api.get(f"/v1/services/{ADMIN_KEY}")
    api.call("DELETE", "/v1/services/nobody")
    told = [(vars(one)["method"], vars(one)["route"], vars(one)["status"]) for one in caplog.records]
    assert told == [("GET", "/v1/services/{name}", 404), ("DELETE", "/v1/services/{name}", 404)]
    assert all("request_id" in vars(record) for record in caplog.records)
    assert ADMIN_KEY not in caplog.text


def test_passes_are_logged_when_they_did_something(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """One line a service with the invocation's id; at rest none, because lines are billed."""
    caplog.set_level(logging.INFO, "chalicelib.api.triggers")
    api.world.create()
    tick = on_schedule(lambda: api.world.runtime)
    tick(CloudWatchEvent(TICK, Context()))
    [record] = [one for one in caplog.records if one.getMessage() == "pass"]
    assert (vars(record)["service"], vars(record)["acted"], vars(record)["request_id"]) == ("svc", True, "r-1")
    api.world.tick(10)
    caplog.clear()
    tick(CloudWatchEvent(TICK, Context()))
    assert caplog.records == []


class Talkative(FakeCloud):
    """A cloud that repeats what it was sent."""

    def list_instances(self) -> tuple[Instance, ...]:
        raise Unreachable(f"the cloud was told {ROUTER_TOKEN} and Bearer abcdefgh1234")


def test_a_failure_is_raised_without_the_keys_in_it(api: Api) -> None:
    """Lambda writes an exception's message as it is, and a cloud's words may repeat what it was sent."""
    api.world.create()
    talkative = replace(api.world.runtime, providers={"local": Talkative(api.world.clock)})
    with pytest.raises(PassesFailed) as failed:
        on_schedule(lambda: talkative)(CloudWatchEvent(TICK, Context()))
    assert "the cloud was told ***" in str(failed.value)
    assert "abcdefgh1234" not in str(failed.value)


def test_metrics_are_emitted_only_where_somebody_pays_for_them(api: Api) -> None:
    """A line a service a minute, to whatever takes lines."""
    api.world.create()
    lines: list[str] = []
    emitting = replace(api.world.runtime, emit=lines.append)
    on_schedule(lambda: emitting)(CloudWatchEvent(TICK, None))
    assert [json.loads(line)["Service"] for line in lines] == ["svc"]
