"""`sailplane cost` against a control API over sockets."""

from __future__ import annotations

from tests.cli.conftest import Plane


def test_the_bill_is_shown_for_all_and_for_one(plane: Plane) -> None:
    """A table of services with the control plane's own share; machine by machine for one; documents for programs."""
    assert "Control plane: $0.00 a month" in plane.run("cost").stdout
    plane.up()
    everything = plane.run("cost")
    assert "svc" in everything.stdout
    assert "Next: sailplane cost svc" in everything.stderr
    one = plane.run("cost", "svc")
    assert one.stdout.count("on demand") == 2
    assert plane.json("cost", "svc")["usd_per_hour"] == 2.0
    assert plane.json("cost")["services"][0]["name"] == "svc"
    assert plane.run("cost", "nobody").exit_code != 0
