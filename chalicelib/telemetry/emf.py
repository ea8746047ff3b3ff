"""Measures as CloudWatch takes them from a log: the embedded metric format. Pure.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html. A metric
is billed $0.30 a month, so a service's are $2.10, twice what the control plane costs: off unless asked for (ADR 28).
"""

from __future__ import annotations

import json

from chalicelib.telemetry.measures import Measures

NAMESPACE = "Sailplane"


def line(deployment: str, measures: Measures, now: float) -> str:
    """One service's measures at `now` (epoch seconds) as one line of JSON, without line feed."""
    values = {
        "ReadyReplicas": (measures.ready, "Count"),
        "TargetReplicas": (measures.target, "Count"),
        "RequestsPerSecond": (measures.requests_per_s, "Count/Second"),
        "InFlightRequests": (measures.in_flight, "Count"),
        "PriceUsdPerHour": (measures.price_usd_per_hour, "None"),
        "CostUsd": (measures.cost_usd_total, "None"),
        "Preemptions": (measures.preemptions_total, "Count"),
    }
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [["Deployment", "Service"]],
        "Metrics": [{"Name": name, "Unit": unit} for name, (_, unit) in values.items()],
    }
    document = {
        "_aws": {"Timestamp": round(now * 1000), "CloudWatchMetrics": [directive]},
        "Deployment": deployment,
        "Service": measures.service,
        **{name: value for name, (value, _) in values.items()},
    }
    return json.dumps(document)
