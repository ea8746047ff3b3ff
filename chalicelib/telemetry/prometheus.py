"""Measures as Prometheus reads them: https://prometheus.io/docs/instrumenting/exposition_formats. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from chalicelib.telemetry.measures import Measures

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Name, kind, help; and of one service its samples: further labels and the value.
_Samples = Iterable[tuple[Mapping[str, str], float]]
_FAMILIES: Sequence[tuple[str, str, str, Callable[[Measures], _Samples]]] = (
    ("status", "gauge", "1 for the status that the service has.", lambda one: [({"status": one.status}, 1)]),
    ("target_replicas", "gauge", "Replicas that the scaler wants.", lambda one: [({}, one.target)]),
    ("ready_replicas", "gauge", "Replicas that take requests.", lambda one: [({}, one.ready)]),
    (
        "replicas",
        "gauge",
        "Replicas by status.",
        lambda one: [({"status": status}, count) for status, count in one.replicas.items()],
    ),
    ("requests_per_second", "gauge", "Requests over the last minute.", lambda one: [({}, one.requests_per_s)]),
    ("in_flight_requests", "gauge", "Requests inside ready replicas.", lambda one: [({}, one.in_flight)]),
    ("price_usd_per_hour", "gauge", "What its machines cost now.", lambda one: [({}, one.price_usd_per_hour)]),
    ("cost_usd_total", "counter", "What its machines have cost.", lambda one: [({}, one.cost_usd_total)]),
    ("preemptions_total", "counter", "Machines that a cloud took back.", lambda one: [({}, one.preemptions_total)]),
    (
        "ended_replicas_total",
        "counter",
        "Machines given up, by why.",
        lambda one: [({"reason": reason}, count) for reason, count in sorted(one.ended_total.items())],
    ),
)


def exposition(measures: Sequence[Measures]) -> str:
    """All services' families, each with its help and its kind once; one that has no sample is left out."""
    lines: list[str] = []
    for name, kind, told, samples_of in _FAMILIES:
        full = f"sailplane_service_{name}"
        samples = [
            f"{full}{_labels({'service': one.service, **labels})} {value:.15g}"
            for one in measures
            for labels, value in samples_of(one)
        ]
        lines += [f"# HELP {full} {told}", f"# TYPE {full} {kind}", *samples] if samples else []
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    """Names of services and values of enums: nothing in them has to be escaped."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
