"""Recorded markets become markets, or are refused with file, place and remedy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from chalicelib.errors import Invalid
from chalicelib.model import CapacityType, Location, Offer
from sailplane.sim import market_files
from sailplane.sim.market_files import Missing

HERE = Missing("aws", "p3.2xlarge", "us-east-1b", on_demand_usd_per_hour=3.0, spot_usd_per_hour=1.0)


def offer(zone: str, usd: float, kind: CapacityType = CapacityType.SPOT) -> Offer:
    location = Location("aws", zone.rpartition("-")[0] if "az" in zone else zone[:-1], zone)
    return Offer(location, "p3.2xlarge", 8, 61, kind, usd, "V100", 1, 16)


def none(_cloud: str, _instance_type: str) -> Sequence[Offer]:
    return ()


def trace(**changes: Any) -> dict[str, Any]:
    """One zone's document; None takes a key of the metadata away."""
    metadata = {
        "cloud": "aws",
        "zone": "us-east-1a",
        "az_id": "use1-az2",
        "instance_type": "p3.2xlarge",
        "accelerator": "V100:1",
        "gap_seconds": 195,
        "ondemand_usd": 3.06,
    } | changes.pop("metadata", {})
    about = {key: value for key, value in metadata.items() if value is not None}
    return {"metadata": about, "data": [0, 1, 1], "prices": [1.5, 1.5, 1.6]} | changes


def written(directory: Path, *documents: Any) -> Path:
    for number, document in enumerate(documents):
        (directory / f"zone-{number}.json").write_text(json.dumps(document))
    return directory


def test_a_directory_of_zones_is_a_market(tmp_path: Path) -> None:
    """Each file is a zone with its capacity and prices; the market lasts as long as its shortest zone, and says so."""
    longer = trace(metadata={"zone": "us-west-2c"}, data=[1] * 5, prices=[0.9] * 5)
    loaded = market_files.load(written(tmp_path, trace(), longer), none)
    market = loaded.market
    assert (market.instance_type, market.accelerator, market.accelerator_count) == ("p3.2xlarge", "V100", 1)
    assert market.on_demand_usd_per_hour == 3.06
    assert market.duration_s == 3 * 195
    east, west = market.zones
    assert east.location == Location("aws", "us-east-1", "us-east-1a")
    assert west.location == Location("aws", "us-west-2", "us-west-2c")
    assert (east.capacity, east.spot_usd_per_hour) == ((0, 1, 1), (1.5, 1.5, 1.6))
    (note,) = loaded.notes
    assert note.startswith("us-west-2c: ")


def test_zones_that_begin_later_are_put_beside_what_happened_at_that_time(tmp_path: Path) -> None:
    """`first_tick` counts steps from one instant for all zones: what lies before the latest of them is left out."""
    late = trace(metadata={"zone": "us-west-2c", "first_tick": 2}, data=[1, 0], prices=[0.9, 0.8])
    east, west = market_files.load(
        written(tmp_path, trace(data=[5, 6, 7, 8], prices=[1, 2, 3, 4]), late), none
    ).market.zones
    assert (east.capacity, east.spot_usd_per_hour) == ((7, 8), (3, 4))
    assert (west.capacity, west.spot_usd_per_hour) == ((1, 0), (0.9, 0.8))
    apart = trace(metadata={"zone": "us-west-2c", "first_tick": 3})
    with pytest.raises(Invalid, match="ends before another"):
        market_files.load(written(tmp_path, trace(), apart), none)


@pytest.mark.parametrize(
    ("listed", "usd"),
    [
        ((offer("us-east-1a", 0.7), offer("us-east-1b", 0.5)), 0.7),
        ((offer("us-east-1b", 0.5), offer("us-east-1c", 0.6), offer("us-east-1d", 0.9)), 0.6),
    ],
    ids=["its zone's", "its region's median"],
)
def test_a_missing_spot_price_comes_from_the_price_list(tmp_path: Path, listed: tuple[Offer, ...], usd: float) -> None:
    """A trace without prices gets the price list's for its zone, else for its region, and a note tells."""
    loaded = market_files.load(written(tmp_path, trace(prices=None)), lambda *_: listed)
    assert loaded.market.zones[0].spot_usd_per_hour_at(10_000.0) == usd
    assert any(f"${usd:g}/h" in note for note in loaded.notes)


def test_a_price_that_is_told_beats_the_price_list(tmp_path: Path) -> None:
    """`--spot-usd` and `--on-demand-usd` fill in what traces lack, and nothing that they hold."""
    directory = written(tmp_path, trace(prices=None, metadata={"ondemand_usd": None}))
    loaded = market_files.load(directory, lambda *_: (offer("us-east-1a", 0.7),), HERE)
    assert loaded.market.on_demand_usd_per_hour == 3.0
    assert loaded.market.zones[0].spot_usd_per_hour == (1.0,)
    assert market_files.load(written(tmp_path, trace()), none, HERE).market.on_demand_usd_per_hour == 3.06


def test_a_missing_on_demand_price_is_the_lowest_where_the_traces_are(tmp_path: Path) -> None:
    """The lowest of the traces' regions, so that savings are not made to look larger; elsewhere counts for nothing."""
    listed = [
        offer(zone, usd, CapacityType.ON_DEMAND)
        for zone, usd in (("us-east-1a", 3.2), ("us-east-1b", 3.1), ("eu-west-1a", 2.0))
    ]
    loaded = market_files.load(written(tmp_path, trace(metadata={"ondemand_usd": None})), lambda *_: listed)
    assert loaded.market.on_demand_usd_per_hour == 3.1


def test_added_and_removed_nodes_become_capacity(tmp_path: Path) -> None:
    """A node that is added twice counts once; each step holds what was true at its start."""
    path = tmp_path / "fleet.csv"
    path.write_text("0,add,a\n0,add,b\n61000,add,b\n61000,remove,a\n180000,remove,b\n")
    (zone,) = market_files.load(path, none, HERE).market.zones
    assert (zone.step_s, zone.capacity) == (60.0, (2, 2, 1, 0))


def test_counts_that_go_back_in_time_overrule_those_before(tmp_path: Path) -> None:
    """Some recorders write a count on for minutes ahead and then learn better."""
    path = tmp_path / "counts.txt"
    path.write_text(
        "2021-12-10, 13:00:00, 80\n2021-12-10, 13:01:00, 80\n2021-12-10, 13:02:00, 80\n2021-12-10, 13:01:00, 70\n"
    )
    (zone,) = market_files.load(path, none, HERE).market.zones
    assert zone.capacity == (80, 70)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "`metadata` and `data`"),
        (trace(data=[]), "`data` is not a list of numbers"),
        (trace(data=[0, -1, 1]), r"data\[1\] is -1"),
        (trace(data=[0, True, 1]), r"data\[1\] is True"),
        (trace(prices=[1.5]), "1 prices for 3 steps"),
        (trace(metadata={"gap_seconds": 0}), "gap_seconds is 0"),
        (trace(metadata={"ondemand_usd": -1}), "ondemand_usd is -1"),
        (trace(metadata={"first_tick": -1}), "first_tick is -1"),
        (trace(metadata={"cloud": None}), "metadata.cloud is missing.*--machine"),
        (trace(metadata={"ondemand_usd": None}), "no on-demand price.*--on-demand-usd"),
        (trace(prices=None), "no spot price.*--spot-usd"),
    ],
)
def test_a_malformed_trace_is_refused_by_name_and_place(tmp_path: Path, document: Any, told: str) -> None:
    """The message names the file, what in it is wrong and what to do."""
    with pytest.raises(Invalid, match=rf"zone-0\.json.*{told}"):
        market_files.load(written(tmp_path, document), none)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("x.json", '{"metadata": ', r"x\.json:1: not JSON"),
        ("x.csv", "0,add,a\nten,add,b\n", r"x\.csv:2: 'ten,add,b'"),
        ("x.csv", "0,add,a\n9,lose,a\n", r"x\.csv:2: "),
        ("x.csv", "9000,add,a\n0,add,b\n", r"x\.csv: goes back in time"),
        ("x.csv", "", r"x\.csv: empty"),
        ("x.txt", "2021-12-10, 13:00:00, 80\n2021-12-10, 25:00:00, 80\n", r"x\.txt:2: "),
        ("x.parquet", "", r"x\.parquet: not a format"),
    ],
)
def test_a_malformed_line_is_refused_by_number(tmp_path: Path, name: str, text: str, told: str) -> None:
    """The message names file and line."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(Invalid, match=told):
        market_files.load(path, none, HERE)


def test_what_a_nameless_trace_is_of_must_be_told(tmp_path: Path) -> None:
    """Events of nodes say neither place nor machine; the remedy is an option with an example."""
    path = tmp_path / "fleet.csv"
    path.write_text("0,add,a\n")
    with pytest.raises(Invalid, match=r"--machine aws/us-east-1a/p3\.2xlarge"):
        market_files.load(path, none)


def test_zones_of_several_machines_are_no_market(tmp_path: Path) -> None:
    """One type of machine a directory; the message names the file that differs."""
    with pytest.raises(Invalid, match=r"zone-1\.json: instance_type"):
        market_files.load(written(tmp_path, trace(), trace(metadata={"instance_type": "g6.xlarge"})), none)


def test_traces_that_say_no_zone_are_no_market_together(tmp_path: Path) -> None:
    """All of them would be of the one zone that was told: two zones of one name cannot be told apart."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("0,add,x\n60000,remove,x\n")
    with pytest.raises(Invalid, match=r"b\.csv: of zone 'us-east-1b', as a\.csv is.*name one of the files"):
        market_files.load(tmp_path, none, HERE)


def test_markets_are_found_at_any_depth(tmp_path: Path) -> None:
    """A directory of zones is one, a trace of nodes or counts one by itself; what only ends like one is left alone."""
    for name in ("v100", "h100", "other"):
        (tmp_path / name).mkdir()
    written(tmp_path / "v100", trace())
    written(tmp_path / "h100", trace(), trace())
    for name, text in {
        "other/x.json": "{}",
        "other/nodes.csv": "0,add,x\n",
        "other/rates.csv": "t_seconds,req_per_s\n0,1\n",
        "counts.txt": "2021-12-11, 11:11:30, 55\n",
        "LICENSE.txt": "Permission is hereby granted",
    }.items():
        (tmp_path / name).write_text(text)
    names = [path.relative_to(tmp_path).as_posix() for path in market_files.found(tmp_path)]
    assert names == ["counts.txt", "h100", "other/nodes.csv", "v100"]
    assert market_files.found(tmp_path / "h100") == (tmp_path / "h100",)
    assert market_files.found(tmp_path / "counts.txt") == (tmp_path / "counts.txt",)


def test_a_directory_of_directories_names_them(tmp_path: Path) -> None:
    """Whoever names the parent is told what is in it."""
    for name in ("v100", "h100", "other"):
        (tmp_path / name).mkdir()
    with pytest.raises(Invalid, match="h100, other, v100"):
        market_files.load(tmp_path, none)
    with pytest.raises(Invalid, match="generated"):
        market_files.load(tmp_path / "nowhere", none)


def test_a_directory_without_markets_is_refused(tmp_path: Path) -> None:
    """A comparison on no market would end well and say nothing; links, which are not followed, look like that."""
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(Invalid, match="no traces of a market"):
        market_files.found(tmp_path)
