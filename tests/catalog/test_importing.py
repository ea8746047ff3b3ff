"""From public price tables to snapshots."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from chalicelib.catalog import PACKAGED, snapshot
from chalicelib.errors import Invalid
from sailplane.catalog import importing
from sailplane.catalog.judging import Judged

AWS = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone,Arch"
)
GCP = "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,AvailabilityZone,Price,SpotPrice"
AZURE = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,Generation"
ZONES = [f"use{region}-az{zone}" for region in (1, 2) for zone in range(1, 7)]


def aws(price: float = 1.0, spot: float = 0.4, zones: list[str] = ZONES, name: str = "A10g") -> list[str]:
    return [f"g5.xlarge,{name},1.0,4,16,,{price},{spot},us-east-{zone[3]},{zone},x86_64" for zone in zones]


def text(header: str, *lines: str) -> bytes:
    return "\n".join([header, *lines, ""]).encode()


def judged(provider: str, content: bytes, former: snapshot.Snapshot | None = None, as_of: str = "2026-01-01") -> Judged:
    return importing.judge(provider, content, former, as_of, "a test")


def found(imported: Judged) -> list[tuple[str, str, int, float | None, float | None]]:
    return [
        (one.shape.instance_type, one.shape.accelerator, one.shape.accelerator_count, one.on_demand, one.spot)
        for one in imported.snapshot.prices
    ]


def put(directory: Path, provider: str, content: bytes) -> None:
    (directory / provider).mkdir(exist_ok=True)
    (directory / provider / "vms.csv").write_bytes(content)


def run(source: Path, target: Path, *providers: str, fresh: bool = False) -> list[Judged]:
    return importing.run(source, target, providers, "2026-01-01", "a test", fresh=fresh)


def test_names_are_made_canonical_and_not_more_alike_than_they_are() -> None:
    """`A10g` means A10G with its nominal 24 GB; Azure's A10 stays an A10."""
    (price, *_) = judged("aws", text(AWS, *aws())).snapshot.prices
    assert (price.shape.accelerator, price.shape.accelerator_memory_gib) == ("A10G", 24)
    line = "Standard_NV36ads_A10_v5,A10,1,36,440,A10,3.2,0.6,eastus,V2"
    assert found(judged("azure", text(AZURE, line))) == [("Standard_NV36ads_A10_v5", "A10", 1, 3.2, 0.6)]


def test_host_and_accelerator_are_summed_in_their_zone() -> None:
    """GCP's separate lines become one offer for each host; a zone without both has none; plain machines stay as they are."""
    content = text(
        GCP,
        "a2-ultragpu-2g,24,340,,,,us-east5,us-east5-a,2.2,0.7",
        "n1-standard-4,4,15,,,,us-east5,us-east5-a,0.19,0.04",
        "n1-standard-8,8,30,,,,us-east5,us-east5-a,0.38,0.08",
        "e2-standard-4,4,16,,,,us-east5,us-east5-a,0.13,0.05",
        ",,,A100-80GB,2,,us-east5,us-east5-a,8.8,2.6",
        ",,,T4,1,,us-east5,us-east5-a,0.35,0.14",
        ",,,T4,1,,us-east5,us-east5-b,0.35,0.14",
        ",,,tpu-v5p-8,1,tpu-v5p-8,us-east5,us-east5-a,9,4",
    )
    assert sorted(found(judged("gcp", content))) == [
        ("a2-ultragpu-2g", "A100-80GB", 2, 11.0, 3.3),
        ("e2-standard-4", "", 0, 0.13, 0.05),
        ("n1-standard-4", "T4", 1, 0.54, 0.18),
        ("n1-standard-8", "T4", 1, 0.73, 0.22),
    ]


def test_a_part_that_is_not_believed_makes_no_sum() -> None:
    """GCP's A100-80GB below its own spot price, and a host for nothing, are in no offer."""
    content = text(
        GCP,
        "a2-ultragpu-1g,12,170,,,,us-central1,us-central1-a,1.1,0.5",
        ",,,A100-80GB,1,,us-central1,us-central1-a,1.8462,1.964",
        "a4-highgpu-8g,224,3968,,,,us-central1,us-central1-b,0.0,0.0",
        ",,,B200,8,,us-central1,us-central1-b,64.44,34.2",
        "e2-standard-4,4,16,,,,us-central1,us-central1-a,0.13,0.05",
    )
    imported = judged("gcp", content)
    assert [name for name, *_ in found(imported)] == ["e2-standard-4"]
    assert imported.reasons == {"below its own spot price": 1, "not positive": 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("g5.xlarge,A10G,1,4,16,,1.0,0.4,us-east-1,use1-az1", "malformed"),
        ("g5.xlarge,A10G,1,4,16,,1.0,0.4,us-east-1,use1-az1,x86_64,V2", "malformed"),
        ('g5.xlarge,A10G,1,4,16,"{stray,1.0,0.4,us-east-1,use1-az1,x86_64', "malformed"),
        ("g5.xlarge,A10G,1,4,16,,free,0.4,us-east-1,use1-az1,x86_64", "malformed"),
        ("g5.xlarge,A10G,1,4,16,,nan,0.4,us-east-1,use1-az1,x86_64", "malformed"),
        ("g5.xlarge,A10G,1,4,16,,1.0,inf,us-east-1,use1-az1,x86_64", "malformed"),
        ("g5.xlarge,A10G,1,,16,,1.0,0.4,us-east-1,use1-az1,x86_64", "malformed"),
        ("g5.xlarge,A10G,1,4,16,,1.0,0.4,,use1-az1,x86_64", "malformed"),
        ('g5.xlarge,A10G,1,4,16,,1.0,0.4,", CA, NA",use1-az1,x86_64', "malformed"),
        ("g5.xlarge,A10G,,4,16,,1.0,0.4,us-east-1,use1-az1,x86_64", "malformed"),
        ("m6i.xlarge,,1,4,16,,0.2,0.1,us-east-1,use1-az1,x86_64", "malformed"),
        ("g9.xlarge,B9000,1,4,16,,1.0,0.4,us-east-1,use1-az1,x86_64", "unknown accelerator"),
        (
            "p5.xlarge,H100,1,4,16,\"{'SizeInMiB': 96256}\",1.0,0.4,us-east-1,use1-az1,x86_64",
            "wrong accelerator memory",
        ),
    ],
)
def test_a_line_that_cannot_be_read_spoils_no_other(line: str, reason: str) -> None:
    """Cells too few or too many, stray quotes, words and infinities for numbers, places that are none: named by line."""
    imported = judged("aws", text(AWS, line, *aws(zones=ZONES[1:])))
    assert [(one.line, one.reason) for one in imported.snapshot.quarantined] == [(2, reason)]
    assert len(found(imported)) == len(ZONES) - 1


@pytest.mark.parametrize("content", [b"", text(AWS), b"\n\n", b"<html>503</html>", text(AZURE.replace("Price,", ""))])
def test_a_table_without_rows_or_columns_is_refused(content: bytes) -> None:
    """Empty, header-only, an error page, a column gone: no snapshot is made of it, not even the first one."""
    with pytest.raises(Invalid):
        judged("aws", content)


def test_an_import_that_loses_more_than_a_tenth_is_refused_and_everything_kept(tmp_path: Path) -> None:
    """With 10 of 12 places left the former files stay as they were, also of the cloud that was fine; --fresh takes it."""
    source, target = tmp_path / "tables", tmp_path / "snapshots"
    source.mkdir()
    target.mkdir()
    put(source, "aws", text(AWS, *aws()))
    put(source, "azure", text(AZURE, "Standard_D4s_v5,,,4,16,,0.2,0.05,eastus,V2"))
    run(source, target, "aws", "azure")
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    put(source, "aws", text(AWS, *aws(zones=ZONES[2:])))
    put(source, "azure", text(AZURE, "Standard_D4s_v5,,,4,16,,0.21,0.05,eastus,V2"))
    with pytest.raises(Invalid, match="of 24 offers 20 would be left"):
        run(source, target, "azure", "aws")
    assert {file.name: file.read_bytes() for file in target.iterdir()} == before
    (fresh,) = run(source, target, "aws", fresh=True)
    assert fresh.snapshot.offers == 20
    assert {file.name for file in target.iterdir()} == set(before)


def test_importing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """The same table makes the same file: again over itself, elsewhere, and with its lines in another order but the digest."""
    put(tmp_path, "aws", text(AWS, *aws()))
    run(tmp_path, tmp_path, "aws")
    first = snapshot.path(tmp_path, "aws").read_bytes()
    (again,) = run(tmp_path, tmp_path, "aws")
    assert again.unchanged
    run(tmp_path, tmp_path, "aws", fresh=True)
    assert snapshot.path(tmp_path, "aws").read_bytes() == first
    reordered = judged("aws", text(AWS, *reversed(aws()))).snapshot
    assert {*reordered.prices} == {*snapshot.table(tmp_path, "aws").prices()}


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    """Prices, stamp and quarantine survive the file; so does a place without spot."""
    imported = judged("aws", text(AWS, *aws(), "g5.xlarge,A10G,1,4,16,,-1,,us-west-2,usw2-az1,x86_64"))
    snapshot.write(tmp_path, imported.snapshot)
    table = snapshot.table(tmp_path, "aws")
    assert set(table.prices()) == set(imported.snapshot.prices)
    assert sum(1 for _ in table.offers()) == imported.snapshot.offers == 24
    assert snapshot.quarantined(tmp_path, "aws") == imported.snapshot.quarantined
    assert (table.as_of, table.document["source"]) == ("2026-01-01", "a test")


def test_a_price_that_flips_and_reverts_never_wins() -> None:
    """One zone at 1.5 times its price for one import: left out then, and there again when it has reverted."""
    normal = judged("aws", text(AWS, *aws())).snapshot
    flipped = judged("aws", text(AWS, *aws(price=1.5, zones=ZONES[:1]), *aws(zones=ZONES[1:])), normal)
    assert flipped.reasons == {"flapping": 1}
    assert {price.on_demand for price in flipped.snapshot.prices} == {1.0, None}
    back = judged("aws", text(AWS, *aws()), flipped.snapshot)
    assert set(back.snapshot.prices) == set(normal.prices)
    assert back.snapshot.suspects == ()


def test_a_jump_is_believed_when_the_same_table_says_so_a_day_later() -> None:
    """Hours later it is still left out, however often it is imported; a day later it is believed."""
    normal = judged("aws", text(AWS, *aws())).snapshot
    content = text(AWS, *aws(price=1.5, zones=ZONES[:1]), *aws(zones=ZONES[1:]))
    kept = normal
    for hour in (1, 5, 23):
        kept = judged("aws", content, kept, f"2026-01-01T{hour:02}:00Z").snapshot
        assert {price.on_demand for price in kept.prices} == {1.0, None}
    confirmed = judged("aws", content, kept, "2026-01-02T02:00Z").snapshot
    assert {price.on_demand for price in confirmed.prices} == {1.0, 1.5}


def test_a_long_past_price_is_no_measure() -> None:
    """A price list of half a year ago does not make today's jump a flip."""
    old = judged("aws", text(AWS, *aws(price=1.5, spot=0.6)), as_of="2025-06-01").snapshot
    assert judged("aws", text(AWS, *aws()), old).reasons == {}


@pytest.mark.public_catalog
def test_the_public_catalog_gives_what_is_packaged(tmp_path: Path) -> None:
    """Importing the tables in $SAILPLANE_PUBLIC_CATALOG gives thousands of offers, and quarantines every known trap."""
    source = Path(os.environ["SAILPLANE_PUBLIC_CATALOG"])
    done = {one.snapshot.provider: one for one in run(source, tmp_path, *importing.PROVIDERS)}
    for provider, imported in done.items():
        packaged = snapshot.table(PACKAGED, provider)
        assert packaged.document["digest"] != imported.snapshot.digest or set(packaged.prices()) == {
            *imported.snapshot.prices
        }
    assert done["aws"].reasons["spot equals on-demand"] > 0
    assert done["gcp"].reasons["below its own spot price"] > 0
    assert Counter(one.shape.accelerator for one in done["gcp"].snapshot.prices)["A100-80GB"] > 0
    assert min(
        one.on_demand
        for one in done["gcp"].snapshot.prices
        if one.shape.accelerator == "A100-80GB" and one.shape.accelerator_count == 1 and one.on_demand
    ) == pytest.approx(5.5, abs=0.6)
