"""A few storms over each boxed cloud; `storm` says what befalls whom, and who judges."""

from __future__ import annotations

import pytest

from tests.clouds.plane import open_plane
from tests.clouds.storm import Storm

# Cheap ones: moto takes three times as long as the others, and lists that lag by EC2's five minutes take longer to settle.
SEEDS = {"aws": (3,), "gcp": range(4), "azure": range(4)}  # moto takes five times as long as the others


@pytest.mark.parametrize(("cloud", "seed"), [(cloud, seed) for cloud, seeds in SEEDS.items() for seed in seeds])
def test_no_weather_loses_or_doubles_a_machine(cloud: str, seed: int) -> None:
    """Whatever happens between two control planes and a cloud: in the end there is what is wanted, and after it nothing."""
    plane = open_plane(cloud)
    try:
        Storm(plane, seed).live_through()
    finally:
        plane.box.close()
