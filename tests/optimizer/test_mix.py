"""How many spot and how many on-demand replicas."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model import Mix, Requirement, ResourceRequest, ScheduledBounds, ServiceSpec, SpotSpec
from chalicelib.optimizer import ceiling, mix, on_demand
from tests.fakes import spec

ON_SPOT = ResourceRequest(((Requirement(use_spot=True),),))
COUNTS = st.integers(0, 9)


def wanting(*, use_spot: bool = True, extra: int = 0, base: int = 0, dynamic: bool = False) -> ServiceSpec:
    resources = ON_SPOT if use_spot else on_demand(ON_SPOT)
    spot = SpotSpec(num_overprovision=extra, base_ondemand_fallback_replicas=base, dynamic_ondemand_fallback=dynamic)
    return replace(spec(max_replicas=5), resources=resources, spot=spot)


@pytest.mark.parametrize(
    ("wanted", "ready", "expected"),
    [
        (wanting(), 0, Mix(3)),
        (wanting(use_spot=False, extra=2), 0, Mix(5)),  # SkyServe adds them whatever the machines are
        (wanting(dynamic=True), 0, Mix(3, 3)),
        (wanting(dynamic=True), 1, Mix(3, 2)),
        (wanting(dynamic=True), 3, Mix(3)),
        (wanting(dynamic=True, extra=2), 0, Mix(5, 3)),  # nobody stands in for what is beyond the target
        (wanting(dynamic=True, extra=2), 3, Mix(5, 2)),
        (wanting(base=1), 0, Mix(2, 1)),
        (wanting(base=1, dynamic=True), 0, Mix(2, 3)),
        (wanting(base=1, dynamic=True), 2, Mix(2, 1)),
        (wanting(base=7, dynamic=True), 0, Mix(0, 3)),
        (wanting(use_spot=False, base=1, dynamic=True), 0, Mix(3)),
    ],
)
def test_three_replicas(wanted: ServiceSpec, ready: int, expected: Mix) -> None:
    """Target 3 under every combination of SkyServe's fields, by hand."""
    assert mix(wanted, 3, ready) == expected


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.booleans())
def test_spothedge_s_rule(target: int, ready: int, extra: int, base: int, dynamic: bool) -> None:
    """Spot is target + extra - base; on demand never above the target, none when enough spot is ready, else what is short."""
    found = mix(wanting(extra=extra, base=base, dynamic=dynamic), target, ready)
    if target == 0:
        assert found == Mix(0)
        return
    assert found.own == max(0, target + extra - base)
    assert min(base, target) <= found.fallback <= target
    if base == 0 and ready >= target + extra:
        assert found.fallback == 0
    if dynamic:
        assert found.fallback + ready >= min(target, found.own)
        if base == 0:
            assert found.fallback == min(max(target + extra - ready, 0), target)


WANTED = st.builds(wanting, use_spot=st.booleans(), extra=COUNTS, base=COUNTS, dynamic=st.booleans())


@given(st.integers(0, 5), COUNTS, WANTED)
def test_the_ceiling_is_never_exceeded_by_what_is_wanted(target: int, ready: int, wanted: ServiceSpec) -> None:
    """Whatever is ready, and at every target within the bounds, what is wanted stays max_surge below the ceiling."""
    assert mix(wanted, target, ready).total + wanted.max_surge <= ceiling(wanted)


def test_the_ceiling_knows_the_schedule() -> None:
    """Bounds that the clock brings count with the others."""
    plain = wanting()
    scaling = replace(plain.scaling, schedule=(ScheduledBounds("0 8 * * *", max_replicas=9),))
    assert (ceiling(plain), ceiling(replace(plain, scaling=scaling))) == (6, 10)


def test_on_demand_keeps_every_other_wish() -> None:
    """The stand-in is the same machine, within the same price, in the same order of preference."""
    cheap = Requirement(accelerators=(("L4", 1),), use_spot=True, max_usd_per_hour=2.5)
    wanted = ResourceRequest(((cheap,), (replace(cheap, region="eu"),)))
    bought = on_demand(wanted)
    assert not any(one.use_spot for group in bought.groups for one in group)
    assert [[replace(one, use_spot=True) for one in group] for group in bought.groups] == [[*g] for g in wanted.groups]
