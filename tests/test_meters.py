"""The control plane's own use, as CloudWatch tells it."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from chalicelib.cost import Usage
from chalicelib.errors import Unreachable
from chalicelib.meters.cloudwatch import CloudWatchMeter

SERIES = 2 * 3 + 2 + 4  # two functions' three, the table's two, the queue's four


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> CloudWatchMeter:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    return CloudWatchMeter("acme", "sailplane-acme", "us-east-1", {"tick": 512, "edge": 256})


def stubbed(meter: CloudWatchMeter) -> Stubber:
    return Stubber(meter._client)


def test_what_cloudwatch_counted_becomes_usage(meter: CloudWatchMeter) -> None:
    """Sums over all hours and pages: requests, milliseconds times memory, bytes, units, the queue's four kinds of request."""
    asked: dict[str, Any] = {"MetricDataQueries": ANY, "StartTime": 0.0, "EndTime": 7200.0}
    pages = [[float(number), 1.0] for number in range(SERIES)]
    results = [{"Id": f"m{number}", "Values": values} for number, values in enumerate(pages)]
    with stubbed(meter) as stub:
        stub.add_response("get_metric_data", {"MetricDataResults": results, "NextToken": "more"}, asked)
        again = {"MetricDataResults": [{"Id": "m0", "Values": [99.0]}]}
        stub.add_response("get_metric_data", again, {**asked, "NextToken": "more"})
        used = meter.used(0.0, 7200.0)
    assert used == Usage(
        requests=1 + 99 + 4,
        gb_s=pytest.approx(2 * 0.5e-3 + 5 * 0.25e-3),
        log_bytes=3 + 6,
        read_units=7,
        write_units=8,
        queue_requests=9 + 10 + 11 + 12,
    )


def test_only_this_deployment_is_asked_about(meter: CloudWatchMeter) -> None:
    """Every question names something of the deployment's own."""
    names = [value for (_, _, dimensions), _ in meter._metrics() for value in dimensions.values()]
    assert len(names) == SERIES
    assert all("sailplane-acme" in name for name in names)


def test_a_meter_that_is_down_is_unreachable(meter: CloudWatchMeter) -> None:
    """Denied or down, in words; whoever asks goes on without."""
    with stubbed(meter) as stub:
        stub.add_client_error("get_metric_data", "AccessDenied", "no")
        with pytest.raises(Unreachable, match="AccessDenied"):
            meter.used(0.0, 1.0)
