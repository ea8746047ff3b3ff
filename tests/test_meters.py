"""The control plane's own use, as CloudWatch tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import botocore.session
import pytest
from botocore.serialize import create_serializer

from chalicelib.amazon import Amazon
from chalicelib.cost import Usage
from chalicelib.errors import Unreachable
from chalicelib.meters.cloudwatch import CloudWatchMeter

SERIES = 2 * 3 + 2 + 4  # two functions' three, the table's two, the queue's four
Asked = tuple[str, str, str, Any, Mapping[str, str] | None]


class Scripted(Amazon):
    """Gives its answers one after another, and nothing when there are no more."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), list[Asked]()

    def ask(
        self, service: str, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        self.asked.append((service, method, path, body, headers))
        if not self.answers:
            raise Unreachable("monitoring of AWS does not answer")
        return self.answers.pop(0)


def meter(amazon: Amazon) -> CloudWatchMeter:
    return CloudWatchMeter(amazon, "acme", "sailplane-acme", {"tick": 512, "edge": 256})


def test_what_cloudwatch_counted_becomes_usage() -> None:
    """Sums over all hours and pages: requests, milliseconds times memory, bytes, units, the queue's four kinds of request."""
    results = [{"Id": f"m{number}", "Values": [float(number), 1.0]} for number in range(SERIES)]
    again = {"MetricDataResults": [{"Id": "m0", "Values": [99.0]}]}
    amazon = Scripted({"MetricDataResults": results, "NextToken": "more"}, again)
    assert meter(amazon).used(0.0, 7200.0) == Usage(
        requests=1 + 99 + 4,
        gb_s=2 * (512 / 1024 / 1e3) + 5 * (256 / 1024 / 1e3),
        log_bytes=3 + 6,
        read_units=7,
        write_units=8,
        queue_requests=9 + 10 + 11 + 12,
    )
    assert [asked[3].get("NextToken") for asked in amazon.asked] == [None, "more"]


def test_the_question_is_what_amazons_own_sdk_would_ask() -> None:
    """Word for word, in the JSON protocol; and every metric is of this deployment."""
    amazon = Scripted({"MetricDataResults": []})
    meter(amazon).used(0.0, 7200.0)
    [(service, method, path, body, headers)] = amazon.asked
    model = botocore.session.get_session().get_service_model("cloudwatch")
    wanted = create_serializer("json").serialize_to_request(body, model.operation_model("GetMetricData"))
    assert (service, method, path) == (model.signing_name, wanted["method"], wanted["url_path"])
    assert body == json.loads(wanted["body"])
    assert headers == {name: wanted["headers"][name] for name in ("X-Amz-Target", "Content-Type")}
    metrics = [query["MetricStat"]["Metric"] for query in body["MetricDataQueries"]]
    assert len(metrics) == SERIES
    assert all("sailplane-acme" in metric["Dimensions"][0]["Value"] for metric in metrics)


def test_who_asks_again_and_again_pays_once() -> None:
    """What CloudWatch says is some minutes old anyhow: for ten minutes an answer is kept, and over a month's end none."""
    amazon = Scripted(*[{"MetricDataResults": [{"Id": "m0", "Values": [float(value)]}]} for value in (1, 2, 3)])
    found = meter(amazon)
    asked_at = [(0.0, 7200.0), (0.0, 7201.0), (0.0, 7799.0), (0.0, 7800.0), (7800.0, 7801.0)]
    assert [found.used(*instants).requests for instants in asked_at] == [1, 1, 1, 2, 3]


def test_a_meter_that_is_down_is_unreachable() -> None:
    """In words; whoever asks goes on without."""
    with pytest.raises(Unreachable):
        meter(Scripted()).used(0.0, 1.0)
