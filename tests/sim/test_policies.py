"""Policies by name, and several of them side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from chalicelib.errors import SailplaneError
from chalicelib.model import (
    CapacityType,
    EngineSpec,
    ProbeSpec,
    Requirement,
    ResourceRequest,
    RoutingSpec,
    ScalingSpec,
    ServiceSpec,
    SpotSpec,
)
from sailplane.sim import compare, generated, policies, report
from sailplane.sim.compare import Outcome
from sailplane.sim.scenario import Scenario

MARKET = generated.market(0, 0.3)
UNTIL_S = 0.2 * generated.DAY_S
SPEC = ServiceSpec(
    probe=ProbeSpec(path="/health"),
    scaling=ScalingSpec(min_replicas=2, max_replicas=2),
    routing=RoutingSpec(policy="round_robin"),
    resources=ResourceRequest(((Requirement(provider="azure", accelerators=(("H100", 8),)),),)),
    engine=EngineSpec(port=8080),
    spot=SpotSpec(num_overprovision=2),
)


@pytest.fixture(scope="module")
def outcomes() -> Mapping[str, Outcome]:
    """Every policy's, in this process."""
    on_market = policies.on(MARKET, SPEC)
    return {
        name: compare.run(Scenario(policy(on_market), MARKET, None, 3), UNTIL_S)
        for name, (_, policy) in policies.POLICIES.items()
    }


def test_each_policy_buys_what_its_name_says(outcomes: Mapping[str, Outcome]) -> None:
    """No spot machine on demand, no on-demand machine where spot is all, both where one stands in for the other."""
    both = {CapacityType.SPOT, CapacityType.ON_DEMAND}
    kinds = {name: {one.offer.capacity_type for one in outcome.history.bill} for name, outcome in outcomes.items()}
    assert kinds["on_demand"] == kinds["as_written"] == {CapacityType.ON_DEMAND}
    assert kinds["even_spread"] == kinds["round_robin"] == {CapacityType.SPOT}
    assert kinds["round_robin_fallback"] == kinds["spothedge"] == both


def test_policies_serve_and_spot_is_cheaper(outcomes: Mapping[str, Outcome]) -> None:
    """Every policy is available most of the time; all that use spot machines pay less than on demand."""
    reports = {
        name: report.report(name, outcome.history, MARKET.on_demand_usd_per_hour, None)
        for name, outcome in outcomes.items()
    }
    assert all(one.availability > 0.8 for one in reports.values())
    spot = [one for one in reports.values() if one.spot_share > 0]
    assert len(spot) >= 4
    assert all(one.usd < reports["on_demand"].usd for one in spot)


def test_extra_replicas_are_the_file_s_or_one() -> None:
    """The policies that fall back are compared with equal means."""
    for name in ("round_robin_fallback", "spothedge"):
        policy = policies.POLICIES[name][1]
        assert policy(SPEC).spot.num_overprovision == 2
        assert policy(replace(SPEC, spot=SpotSpec())).spot.num_overprovision == policies.OVERPROVISION
    assert policies.POLICIES["as_written"][1](SPEC) is SPEC


def test_processes_change_nothing(outcomes: Mapping[str, Outcome]) -> None:
    """Two at a time have the histories that they have one after the other, in the order asked for; progress is told."""
    on_market = policies.on(MARKET, SPEC)
    names = ("round_robin", "on_demand", "even_spread")
    wanted = {name: policies.POLICIES[name][1](on_market) for name in names}
    told: dict[str, float] = {}
    found = compare.run_all(
        Scenario(on_market, MARKET, None, 3), wanted, UNTIL_S, processes=2, progress=told.__setitem__
    )
    assert list(found) == list(names)
    assert found == {name: outcomes[name] for name in names}
    assert told == dict.fromkeys(names, UNTIL_S)


def test_a_process_that_dies_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """An error in a simulation ends the comparison with its policy's name; the traceback has been printed."""
    impossible = replace(SPEC, scaling=replace(SPEC.scaling, min_replicas="many"))  # type: ignore[arg-type]  # on purpose
    scenario = Scenario(SPEC, MARKET, None, 3)
    with pytest.raises(SailplaneError, match=r"(impossible|other) ended early"):
        compare.run_all(
            scenario,
            {"impossible": impossible, "other": impossible},
            UNTIL_S,
            processes=2,
            progress=lambda _policy, _t: None,
        )
    assert "Traceback" in capfd.readouterr().err
