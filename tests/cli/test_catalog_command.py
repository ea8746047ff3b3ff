"""`sailplane catalog`, as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from sailplane.cli import cli
from sailplane.cli.exits import Exit

HEADER = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,Generation"


def catalog(*args: str) -> Result:
    return CliRunner().invoke(cli, ["catalog", *args])


def test_show_lists_the_cheapest_place_of_each_machine() -> None:
    """A name in any case, with a number if wanted: one line for each type, dates underneath; --all has every place."""
    some, every = catalog("show", "a100-80gb:2"), catalog("show", "a100-80gb:2", "--all")
    assert some.exit_code == 0
    assert "Standard_NC48ads_A100_v4     48  440  A100-80GB:2" in some.stdout
    assert "azure 20" in some.stdout
    assert len(every.stdout.splitlines()) > len(some.stdout.splitlines()) > 4
    document = json.loads(catalog("show", "A100-80GB", "--json").stdout)
    assert {offer["accelerators"].split(":")[0] for offer in document["offers"]} == {"A100-80GB"}
    assert set(document["prices_as_of"]) == {"aws", "azure", "gcp", "lambda"}


def test_show_refuses_what_nobody_has_and_names_the_nearest() -> None:
    """A misspelt accelerator ends with exit code 3 and near names."""
    for wrong in ("H10", "L4:many"):
        refused = catalog("show", wrong)
        assert (refused.exit_code, refused.stdout) == (Exit.INVALID, "")
    assert "H100" in catalog("show", "H10").stderr


def test_doctor_counts_what_is_not_believed_and_lists_it_on_demand() -> None:
    """Reasons with counts for each cloud; --all names line, machine, place and prices."""
    brief, full = catalog("doctor").stdout, catalog("doctor", "--all").stdout
    assert "      16 below its own spot price\n" in brief
    assert "us-central1" not in brief
    assert "A100-80GB:2 us-central1/us-central1-a (both): on-demand $3.6924, spot $3.928\n" in full
    (gcp,) = [one for one in json.loads(catalog("doctor", "--json").stdout)["clouds"] if one["provider"] == "gcp"]
    assert gcp["quarantined"]["outlier"] > 100
    assert gcp["lines"] == []


def test_import_replaces_or_refuses(tmp_path: Path) -> None:
    """A table becomes a snapshot; an emptied one is refused with exit code 3 and the snapshot stays."""
    table, target = tmp_path / "azure" / "vms.csv", tmp_path / "snapshots"
    table.parent.mkdir()
    target.mkdir()
    table.write_text(f"{HEADER}\nStandard_D4s_v5,,,4,16,,0.2,0.05,eastus,V2\n")
    command = ("import", str(tmp_path), "--as-of", "2026-01-02", "--to", str(target))
    done = catalog(*command, "--json")
    assert json.loads(done.stdout)["clouds"][0]["offers"] == 2
    (snapshot,) = target.iterdir()
    before = snapshot.read_bytes()
    table.write_text(f"{HEADER}\n")
    refused = catalog(*command)
    assert refused.exit_code == Exit.INVALID
    assert "the present snapshot is kept" in refused.stderr
    assert snapshot.read_bytes() == before


def test_import_says_what_it_cannot_find(tmp_path: Path) -> None:
    """A directory without tables, a table that is not there and a cloud that is not known are told apart."""
    command = ("import", str(tmp_path), "--as-of", "2026-01-02", "--to", str(tmp_path))
    assert "holds none of aws/vms.csv" in catalog(*command).stderr
    assert "cannot be read" in catalog(*command, "--provider", "gcp").stderr
    assert catalog(*command, "--provider", "ibm").exit_code == Exit.USAGE
