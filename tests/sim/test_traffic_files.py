"""Recorded traffic becomes requests, or is refused with line and remedy."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from statistics import fmean, pstdev

import pytest

from chalicelib.errors import Invalid
from sailplane.sim import generated, traffic_files
from sailplane.sim.arrivals import renewal
from sailplane.sim.traffic import Request, Traffic

CSV = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.6805900,396,109
2023-11-16 18:15:48.6805900,879,55
"""


def load(path: Path, text: str, *, scale: float = 1.0, until_s: float = 100.0, seed: int = 1) -> Traffic:
    path.write_text(text)
    return traffic_files.load(path, seed=seed, scale=scale, until_s=until_s)


def test_requests_of_a_csv(tmp_path: Path) -> None:
    """Instants count from the first request, in order; the file begins again when it ends, one mean gap later."""
    requests = load(tmp_path / "a.csv", CSV, until_s=8.0).requests
    first = (Request(0.0, 374, 44), Request(2.0, 879, 55), Request(4.0, 396, 109))
    assert requests == (*first, *(Request(one.at + 16 / 3, one.prompt_tokens, one.output_tokens) for one in first[:2]))


def test_requests_of_json_lines(tmp_path: Path) -> None:
    """Milliseconds become seconds."""
    text = '{"timestamp": 40, "input_length": 7, "output_length": 2}\n{"timestamp": 1040, "input_length": 8, "output_length": 3}\n'
    assert load(tmp_path / "m.jsonl", text, until_s=1.5).requests == (Request(0.0, 7, 2), Request(1.0, 8, 3))


def test_a_scale_keeps_that_share(tmp_path: Path) -> None:
    """A tenth of the requests, the same ones for the same seed."""
    kept, again, other = (
        load(tmp_path / "a.csv", CSV, scale=0.1, until_s=10_000.0, seed=seed).requests for seed in (1, 1, 2)
    )
    assert kept == again != other
    assert len(kept) == pytest.approx(10_000 / (16 / 3) * 3 * 0.1, rel=0.15)


def test_rates_are_drawn(tmp_path: Path) -> None:
    """Arrivals have the rate of their step, scaled; a step without variation is Poisson, one without a rate is empty."""
    text = "t_seconds,req_per_s,active_clients,rate_weighted_iat_cv\n0,100,5,2.5\n600,0,0,0\n1200,40,5,0\n"
    requests = load(tmp_path / "r.csv", text, scale=0.1, until_s=1800.0).requests
    steps = [sum(start <= request.at < start + 600 for request in requests) for start in (0, 600, 1200)]
    assert steps == [pytest.approx(6000, rel=0.1), 0, pytest.approx(2400, rel=0.1)]
    assert [request.at for request in requests] == sorted(request.at for request in requests)


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_gaps_have_the_variation_asked_for(cv: float) -> None:
    """Mean 1 / rate and the coefficient of variation, within what 50,000 gaps allow."""
    instants = list(renewal(random.Random(5), 0.0, 5_000.0, 10.0, cv))
    gaps = [after - before for before, after in itertools.pairwise(instants)]
    assert fmean(gaps) == pytest.approx(0.1, rel=0.05)
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(cv, rel=0.1)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", CSV + "yesterday,1,1\n", r"a\.csv:5: not TIMESTAMP"),
        ("a.csv", CSV + "2023-11-16 18:15:46.6805900,1\n", r"a\.csv:5: "),
        ("a.csv", CSV.splitlines()[0], "holds no request"),
        ("a.csv", "when,what\n", r"a\.csv:1: not a format"),
        ("a.xml", "<x/>", r"a\.xml:1: not a format"),
        ("m.jsonl", '{"timestamp": 40}\n', r"m\.jsonl:1: "),
        ("m.jsonl", '{"timestamp": 40, "input_length": 7, "output_length": 2}\nnope\n', r"m\.jsonl:2: "),
        ("r.csv", "t_seconds,req_per_s,rate_weighted_iat_cv\n0,ten,1\n", r"r\.csv:2: not a number"),
        ("r.csv", "t_seconds,req_per_s,rate_weighted_iat_cv\n0,1,1\n600,-1,1\n", r"r\.csv:3: a rate"),
        ("r.csv", "t_seconds,req_per_s,rate_weighted_iat_cv\n600,1,1\n0,1,1\n", r"r\.csv:3: t_seconds"),
        ("r.csv", "t_seconds,req_per_s,rate_weighted_iat_cv\n0,1,1\n", "fewer than two"),
    ],
)
def test_malformed_traffic_is_refused_by_line(tmp_path: Path, name: str, text: str, told: str) -> None:
    """The message names file and line."""
    with pytest.raises(Invalid, match=told):
        load(tmp_path / name, text)


def test_recorded_requests_cannot_be_multiplied(tmp_path: Path) -> None:
    """More of them would be an invention."""
    with pytest.raises(Invalid, match="--traffic-scale"):
        load(tmp_path / "a.csv", CSV, scale=2.0)
    with pytest.raises(Invalid, match="generated"):
        traffic_files.load(tmp_path / "none.csv", seed=1, scale=1.0, until_s=1.0)


def test_what_is_generated_follows_the_seed() -> None:
    """The same market and traffic for a seed, others for another; zones that fail, prices below on-demand's, all days long."""
    market, again, other = (generated.market(seed, 5.0) for seed in (3, 3, 4))
    assert market == again != other
    assert market.duration_s == 5 * generated.DAY_S
    for zone in market.zones:
        assert 0 in zone.capacity
        assert max(zone.capacity) >= 1
        assert 0 < min(zone.spot_usd_per_hour) <= max(zone.spot_usd_per_hour) < market.on_demand_usd_per_hour
    traffic = generated.traffic(3, 2.0)
    assert traffic == generated.traffic(3, 2.0) != generated.traffic(4, 2.0)
    assert len(traffic.requests) == pytest.approx(2 * generated.DAY_S * generated.MEAN_QPS, rel=0.2)


def test_generated_outages_may_take_a_region_at_once() -> None:
    """Two zones of one region lose all at the same step some ten times in 200 days; by chance it would be once or twice."""
    first, second, *_ = generated.market(0, 200.0).zones
    assert first.location.region == second.location.region
    lost = [
        {step for step, (before, after) in enumerate(itertools.pairwise(zone.capacity)) if before and not after}
        for zone in (first, second)
    ]
    assert len(lost[0] & lost[1]) >= 6
