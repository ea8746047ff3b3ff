"""The bill over the API."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest

from chalicelib.cost import Usage
from chalicelib.errors import Unreachable
from tests.api.conftest import Api, assert_problem


class Switch:
    """A schedule that does nothing, as a deployment has one."""

    def on(self) -> None: ...

    def off(self) -> None: ...


@dataclass
class FakeMeter:
    """A meter that has seen a million requests, or one that does not answer."""

    fails: bool = False

    def used(self, since: float, until: float) -> Usage:
        if self.fails:
            raise Unreachable("CloudWatch is down")
        assert since < until
        return Usage(requests=1e6)


def test_a_services_bill_is_that_of_its_machines(api: Api) -> None:
    """Two machines at $1 for an hour, with their lives; what they cost is the last that is said of the service."""
    api.world.create()
    api.world.tick(3)
    api.world.clock.advance(3600)
    seen = json.loads(api.get("/v1/services/svc/cost").body)
    assert seen["usd_per_hour"] == 2.0
    assert seen["usd_ever"] == pytest.approx(2.0, abs=0.01)
    assert seen["usd_month_forecast"] > seen["usd_this_month"]
    assert [one["usd_so_far"] for one in seen["replicas"]] == pytest.approx([1.0, 1.0], abs=0.01)
    api.world.delete()
    api.world.tick(40)
    assert api.get("/v1/services/svc/cost").status_code == 404
    last = api.world.store.events("svc")[-1]
    assert (last.kind, last.message.endswith("they cost $2.01 in all")) == ("service.deleted", True), last


def test_a_service_that_is_not_there_has_no_bill(api: Api) -> None:
    """404, as everywhere."""
    assert_problem(api.get("/v1/services/nobody/cost"), 404)


def test_a_laptops_control_plane_costs_nothing(api: Api) -> None:
    """Nobody bills it, whatever it looks after."""
    api.world.create()
    control_plane = json.loads(api.get("/v1/cost").body)["control_plane"]
    assert control_plane["usd_per_month"] == 0
    assert "nobody bills" in control_plane["message"]


def test_a_deployments_control_plane_is_reckoned_and_measured(api: Api) -> None:
    """By the model for what there is now, and by the meter since the month began; a meter that is down is said to be."""
    api.world.runtime = replace(api.world.runtime, schedule=Switch(), meter=FakeMeter())
    assert json.loads(api.get("/v1/cost").body)["control_plane"]["usd_per_month"] == 0
    api.world.create()
    control_plane = json.loads(api.get("/v1/cost").body)["control_plane"]
    assert 0 < control_plane["usd_per_month_beyond_free"] < control_plane["usd_per_month"]
    assert sum(control_plane["usd_per_month_by_part"].values()) == pytest.approx(control_plane["usd_per_month"])
    assert control_plane["usd_this_month_measured"] == pytest.approx(0.20)
    (cloud,) = api.world.runtime.providers.values()
    both = {"aws": cloud, "gcp": cloud}
    api.world.runtime = replace(api.world.runtime, meter=FakeMeter(fails=True), providers=both)
    on_two_clouds = json.loads(api.get("/v1/cost").body)["control_plane"]["usd_per_month_by_part"]
    assert on_two_clouds["ticks"] > 1.4 * control_plane["usd_per_month_by_part"]["ticks"]  # twice the memory
    control_plane = json.loads(api.get("/v1/cost").body)["control_plane"]
    assert (control_plane["usd_this_month_measured"], control_plane["message"]) == (None, "CloudWatch is down")
