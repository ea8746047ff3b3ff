"""Recorded traffic, in three formats that are told apart by ending and heading.

- `*.csv` with `TIMESTAMP,ContextTokens,GeneratedTokens`: requests (Azure's public LLM traces).
- `*.jsonl` with `{"timestamp": milliseconds, "input_length": …, "output_length": …}`: requests (Mooncake's).
- `*.csv` with `t_seconds,req_per_s,…,rate_weighted_iat_cv,…`: rates (ServeGen's). Arrivals are drawn: in each step the
  gaps follow a gamma distribution of that rate and coefficient of variation (1 where it says 0, having seen too few);
  numbers of tokens are log-normal.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from chalicelib.errors import Invalid
from sailplane.sim.arrivals import renewal, tokens
from sailplane.sim.traffic import Request, Traffic

_REQUESTS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
_RATES = ("t_seconds", "req_per_s", "rate_weighted_iat_cv")


@dataclass(frozen=True, slots=True)
class _Rate:
    at: float
    per_s: float
    cv: float


def load(path: Path, *, seed: int, scale: float, until_s: float) -> Traffic:
    """The traffic in `path` from 0 to `until_s`, begun again whenever it ends.

    Args:
        path: a file in one of the formats above.
        seed: decides which requests a scale below 1 keeps, and what is drawn from rates.
        scale: of the rate; at most 1 for recorded requests, which can be left out and not made up.
        until_s: seconds of traffic wanted.

    Raises:
        Invalid: the file is malformed; names line and remedy. Or `scale` is not possible.
    """
    if not path.is_file():
        raise Invalid(f"{path}: there is no such file of traffic. Or did you mean `--traffic generated`?")
    try:
        return _loaded(path, seed, scale, until_s)
    except UnicodeDecodeError as error:
        raise Invalid(f"{path}: not text ({error}). Get the file again.") from error


def _loaded(path: Path, seed: int, scale: float, until_s: float) -> Traffic:
    draw = random.Random(f"traffic {seed}")
    with path.open(encoding="utf-8") as text:
        heading = text.readline().strip().split(",")
    if path.suffix == ".csv" and set(_RATES) <= set(heading):
        return Traffic(path.stem, tuple(_drawn(draw, _rates(path), scale, until_s)))
    if path.suffix == ".csv" and heading == _REQUESTS:
        requests = _of_csv(path)
    elif path.suffix == ".jsonl":
        requests = _of_jsonl(path)
    else:
        raise Invalid(
            f"{path}:1: not a format of traffic. Wanted: a CSV with {','.join(_REQUESTS)} or {','.join(_RATES)}, "
            "or JSON lines with timestamp, input_length and output_length."
        )
    if scale > 1:
        raise Invalid(f"{path}: recorded requests cannot be multiplied by {scale:g}. Give --traffic-scale from 0 to 1.")
    kept = (request for request in _again(requests, until_s) if scale >= 1 or draw.random() < scale)
    return Traffic(path.stem, tuple(kept))


def _of_csv(path: Path) -> list[Request]:
    requests: list[Request] = []
    start = None
    with path.open(encoding="utf-8", newline="") as text:
        for number, row in enumerate(csv.reader(text), start=1):
            if number == 1:
                continue
            try:
                at, prompt, output = row
                # Python reads six digits of a second, the trace has seven.
                instant = datetime.fromisoformat(at[:26]).timestamp()
                start = instant if start is None else start
                requests.append(Request(instant - start, int(prompt), int(output)))
            except ValueError as error:
                raise Invalid(f"{path}:{number}: not {','.join(_REQUESTS)} ({error}). Mend the line.") from error
    return _in_order(path, requests)


def _of_jsonl(path: Path) -> list[Request]:
    requests: list[Request] = []
    with path.open(encoding="utf-8") as text:
        for number, line in enumerate(text, start=1):
            try:
                entry = json.loads(line)
                requests.append(
                    Request(entry["timestamp"] / 1e3, int(entry["input_length"]), int(entry["output_length"]))
                )
            except (ValueError, KeyError, TypeError) as error:
                raise Invalid(
                    f"{path}:{number}: {line.strip()[:80]!r} is no object with the numbers timestamp, input_length and "
                    "output_length. Mend the line."
                ) from error
    return _in_order(path, requests)


def _in_order(path: Path, requests: list[Request]) -> list[Request]:
    if not requests:
        raise Invalid(f"{path}: holds no request. Get the file again.")
    first = min(request.at for request in requests)
    return sorted((replace(request, at=request.at - first) for request in requests), key=lambda one: one.at)


def _rates(path: Path) -> list[_Rate]:
    rates: list[_Rate] = []
    with path.open(encoding="utf-8", newline="") as text:
        for number, row in enumerate(csv.DictReader(text), start=2):
            try:
                rates.append(_Rate(*(float(row[column]) for column in _RATES)))
            except (TypeError, ValueError) as error:
                raise Invalid(
                    f"{path}:{number}: not a number in {', '.join(_RATES)} ({error}). Mend the line."
                ) from error
            if rates[-1].per_s < 0 or rates[-1].cv < 0:
                raise Invalid(f"{path}:{number}: a rate or a variation below 0. Mend the line.")
            if len(rates) > 1 and rates[-1].at <= rates[-2].at:
                raise Invalid(f"{path}:{number}: t_seconds does not rise. Sort the lines.")
    if len(rates) < 2:
        raise Invalid(f"{path}: fewer than two rates. Get the file again.")
    return rates


def _drawn(draw: random.Random, rates: list[_Rate], scale: float, until_s: float) -> Iterator[Request]:
    step_s = rates[1].at - rates[0].at
    steps = int(-(-until_s // step_s))
    for step in range(steps):
        rate = rates[step % len(rates)]
        for at in renewal(draw, step * step_s, step_s, rate.per_s * scale, rate.cv or 1.0):
            if at < until_s:
                yield Request(at, *tokens(draw))


def _again(requests: list[Request], until_s: float) -> Iterator[Request]:
    """From the beginning whenever they end, the gap between rounds being the mean one."""
    last = requests[-1].at
    round_s = last + max(last, 1.0) / len(requests)
    begun_s = 0.0
    while begun_s < until_s:
        for request in requests:
            if begun_s + request.at >= until_s:
                return
            yield replace(request, at=begun_s + request.at)
        begun_s += round_s
