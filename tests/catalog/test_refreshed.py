"""Prices outside the package: made by `sailplane catalog refresh`, used by plans, and never the reason that one fails."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from chalicelib import catalog
from chalicelib.catalog import PACKAGED, Catalog, CatalogMarket, snapshot
from sailplane.cli import cli
from sailplane.cli.exits import Exit
from tests.catalog.price_list_aws import PriceListAws, machine, product, spot
from tests.catalog.recorded import Answer, Recorded, Request

SPEC = "service: {{readiness_probe: /, ports: 80}}\nresources: {{accelerators: {}}}\n"
L40S = [machine(f"g6e.{size}xlarge", "L40S", 1, 45776) for size in range(60)]


def run(home: Path, *args: str, text: str | None = None) -> Result:
    env = {"SAILPLANE_HOME": str(home), "AWS_ACCESS_KEY_ID": "", "AWS_EC2_METADATA_DISABLED": "true"}
    return CliRunner().invoke(cli, args, input=text, env=env)


def refreshed(directory: Path, provider: str = "azure", as_of: str = "2026-11-20T10:00Z", factor: float = 0.5) -> None:
    """A snapshot like the packaged one, at other prices."""
    packaged = snapshot.read(PACKAGED, provider)
    prices = tuple(replace(one, on_demand=one.on_demand and one.on_demand * factor) for one in packaged.prices)
    directory.mkdir(exist_ok=True)
    snapshot.write(directory, replace(packaged, as_of=as_of, prices=prices))


@pytest.fixture
def aws() -> Iterator[tuple[PriceListAws, Recorded]]:
    """AWS with more offers than are packaged, all of them L40S."""
    regions = ("eu-west-1", "us-east-1", "us-west-2")
    products = [product(each["instanceType"], f"{1.5 + n}") for n, each in enumerate(L40S)]
    facts = _Everywhere(regions=regions, machines=L40S, products=products, page=100)
    spots = [(each["instanceType"], zone, f"{0.5 + n / 3:.4f}") for n, each in enumerate(L40S) for zone in "ab"]
    facts.spots = {name: [spot(kind, name + zone, usd) for kind, zone, usd in spots] for name in regions}
    with Recorded(facts) as server:
        yield facts, server


class _Everywhere(PriceListAws):
    def zone_ids(self, region: str) -> list[str]:
        short = "".join(part[0] for part in region.split("-")[:2]) + region[-1]
        return [f"{short}-az2", f"{short}-az1"]


# --- the catalog ------------------------------------------------------------------------------------------------------


def test_of_two_snapshots_the_newer_one_counts(tmp_path: Path) -> None:
    """A refreshed price list is planned on until a release brings a newer one; other clouds are not touched."""
    refreshed(tmp_path)
    used = Catalog(tmp_path)
    assert used.as_of(["azure"]) == "2026-11-20T10:00Z"
    assert {one.price_usd_per_hour for one in used.offers(["azure"])} != {
        one.price_usd_per_hour for one in catalog.offers(["azure"])
    }
    assert used.offers(["gcp"]) == catalog.offers(["gcp"])
    assert CatalogMarket({}, used).offers(["azure"]) == used.offers(["azure"])
    assert used.as_of(["azure", "gcp"]) == catalog.as_of(["gcp"])
    refreshed(tmp_path, as_of="2001-01-01")
    assert Catalog(tmp_path).offers(["azure"]) == catalog.offers(["azure"])
    assert Catalog(tmp_path).directory("azure") == PACKAGED


def test_a_control_plane_sees_a_refresh_while_it_runs(tmp_path: Path) -> None:
    """The same catalog, asked again after the file was replaced, has the new prices."""
    used = Catalog(tmp_path)
    before = used.offers(["azure"])
    refreshed(tmp_path)
    halved = used.offers(["azure"])
    refreshed(tmp_path, factor=0.25)
    assert len({before, halved, used.offers(["azure"])}) == 3


def test_a_market_is_one_object_until_a_price_changes(tmp_path: Path) -> None:
    """Passes look a market up by identity, so a new one comes with a refresh, for every cloud's set and never before."""
    market = CatalogMarket({}, Catalog(tmp_path), {"azure": frozenset({"eastus"})})
    before = [market.offers(names) for names in (["azure"], ["azure", "gcp"])]
    assert [
        market.offers(names) is known for names, known in zip((["azure"], ["azure", "gcp"]), before, strict=True)
    ] == [True, True]
    assert {offer.location.region for offer in before[0]} == {"eastus"}
    refreshed(tmp_path)
    assert market.offers(["azure"]) != before[0]
    assert market.offers(["azure", "gcp"]) != before[1]


def spoilt(change: dict[str, Any]) -> bytes:
    document = dict(snapshot.table(PACKAGED, "azure").document) | {"as_of": "2026-11-20"} | change
    return gzip.compress(f"{json.dumps(document)}\n[]\n[]\n".encode(), mtime=0)


BROKEN = {
    "empty": b"",
    "not gzip": b"not gzip",
    "nothing packed": gzip.compress(b"", mtime=0),
    "no shapes": gzip.compress(b"{}\n[]\n", mtime=0),
    "a list for a header": gzip.compress(b"[]\n[]\n", mtime=0),
    "cut short": snapshot.path(PACKAGED, "azure").read_bytes()[:-200],
    "shapes gone": spoilt({"shapes": []}),
    "prices gone": spoilt({"prices": []}),
    "negative price": spoilt({"prices": [[0, 0, -1.0, None]]}),
    "price of zero": spoilt({"prices": [[0, 0, 0, None]]}),
    "price as text": spoilt({"prices": [[0, 0, "0.01", None]]}),
    "no price": spoilt({"prices": [[0, 0, None, None]]}),
    "price that is no number": spoilt({"prices": [[0, 0, float("nan"), None]]}),
    "shape out of range": spoilt({"prices": [[0, 9999, 1.0, None]]}),
    "no date": spoilt({"as_of": ""}),
}


# Named, as pytest would otherwise call them by their bytes: two workers that packed at another second ran no test at all.
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_broken_is_told_of_and_not_used(tmp_path: Path, content: bytes) -> None:
    """Empty, cut short, not gzip, without fields, with prices that are none: plan, show and doctor go on without it."""
    directory = tmp_path / "catalog"
    directory.mkdir()
    snapshot.path(directory, "azure").write_bytes(content)
    assert Catalog(directory).offers(["azure"]) == catalog.offers(["azure"])
    planned = run(tmp_path, "plan", "-", text=SPEC.format("A100-80GB"))
    for done in (planned, run(tmp_path, "catalog", "show", "T4"), run(tmp_path, "catalog", "doctor")):
        assert done.exit_code == 0
        assert f"Warning: {snapshot.path(directory, 'azure')}" in done.stderr
        assert "not used" in done.stderr
    assert "Azure" in planned.stdout


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_refresh_brings_what_the_package_lacks(tmp_path: Path, aws: tuple[PriceListAws, Recorded]) -> None:
    """L40S is not in the packaged prices of any cloud; after a refresh `plan`, `show` and `doctor` know it, with its date."""
    before = run(tmp_path, "plan", "-", text=SPEC.format("L40S"))
    assert "No enabled provider (aws, azure, gcp) has an offer with L40S:1." in before.stderr
    assert "`sailplane catalog refresh` may bring some" in run(tmp_path, "catalog", "show", "L40S").stderr
    done = run(
        tmp_path, "catalog", "refresh", "--provider", "aws", "--endpoint", aws[1].url.replace("//", "//AKID@"), "--json"
    )
    assert done.exit_code == 0, done.stderr
    (cloud,) = json.loads(done.stdout)["clouds"]
    assert (cloud["provider"], cloud["unchanged"]) == ("aws", False)
    assert cloud["offers"] > cloud["offers_before"]
    assert "Asking AWS: us-west-2" in done.stderr
    assert "AKID" not in done.stderr + done.stdout
    planned = run(tmp_path, "plan", "-", text=SPEC.format("l40s"))
    assert planned.exit_code == 0, planned.stderr
    assert "L40S:1" in planned.stdout
    assert "T00:" not in planned.stdout
    assert "g6e.0xlarge" in run(tmp_path, "catalog", "show", "L40S").stdout
    assert "from EC2 and the AWS price list" in run(tmp_path, "catalog", "doctor").stdout


def test_a_refresh_that_would_lose_a_tenth_is_refused(tmp_path: Path, aws: tuple[PriceListAws, Recorded]) -> None:
    """A sixth of the machine types less: exit code 3, the former file stays to the byte; --fresh takes it."""
    command = ("catalog", "refresh", "--provider", "aws", "--endpoint", aws[1].url)
    assert run(tmp_path, *command).exit_code == 0
    path = snapshot.path(tmp_path / "catalog", "aws")
    before = path.read_bytes()
    aws[0].machines = L40S[10:]
    refused = run(tmp_path, *command)
    assert refused.exit_code == Exit.INVALID
    assert "the present prices are kept" in refused.stderr
    assert path.read_bytes() == before
    assert run(tmp_path, *command, "--fresh").exit_code == 0
    assert path.read_bytes() != before


def test_a_price_list_that_cannot_be_had_leaves_everything_as_it_is(tmp_path: Path) -> None:
    """Refused or empty: a message and an exit code that a script can tell apart, and no file."""
    for answer, code in (
        (Answer("no", 403), Exit.FAILURE),
        (Answer({"Items": [], "NextPageLink": None}), Exit.INVALID),
    ):
        with Recorded(lambda _, answer=answer: answer) as server:  # type: ignore[misc]  # mypy has no lambda defaults
            failed = run(tmp_path, "catalog", "refresh", "--provider", "azure", "--endpoint", server.url)
        assert (failed.exit_code, failed.stdout) == (code, "")
        assert "Error: " in failed.stderr
        assert list((tmp_path / "catalog").iterdir()) == []


def test_google_is_asked_with_a_key_that_is_shown_to_nobody(tmp_path: Path) -> None:
    """Without one the cloud named is refused; with one that the server refuses, the message does not hold it."""
    missing = run(tmp_path, "catalog", "refresh", "--provider", "gcp")
    assert missing.exit_code == Exit.FAILURE
    assert "set SAILPLANE_GCP_API_KEY" in missing.stderr
    keys: list[str] = []

    def refuse(request: Request) -> Answer:
        keys.append(request.headers["authorization"])
        return Answer({"error": {"code": 403}}, 403)

    with Recorded(refuse) as server:
        endpoint = server.url.replace("//", "//the-key@")
        refused = run(tmp_path, "catalog", "refresh", "--provider", "gcp", "--endpoint", endpoint)
    assert keys == ["Bearer the-key"]
    assert "the-key" not in refused.stderr + refused.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--endpoint", "http://127.0.0.1:1"),
        ("--provider", "aws", "--provider", "gcp", "--endpoint", "http://127.0.0.1:1"),
        ("--provider", "aws", "--endpoint", "ftp://key@host"),
        ("--provider", "lambda"),
        ("--provider", "gcp", "--gcp-api-key", "a\nb"),
    ],
)
def test_a_wrong_command_line_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A stand-in for several clouds, an endpoint that is none, a cloud without a public list, a key with a line's end."""
    refused = run(tmp_path, "catalog", "refresh", *arguments)
    assert refused.exit_code == Exit.USAGE
    assert "a\nb" not in refused.stderr
