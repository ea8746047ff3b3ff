"""`sailplane sim`, as its user meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sailplane.cli import cli
from sailplane.cli.exits import Exit
from sailplane.sim.policies import POLICIES

YAML = """\
service:
  readiness_probe: /health
  replicas: 2
  ports: 8080
resources:
  accelerators: H100:8
  use_spot: true
run: serve
"""


def sim(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, ["sim", *map(str, args)])


def document(*args: str | Path) -> Any:
    result = sim(*args, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def service(tmp_path: Path) -> Path:
    path = tmp_path / "service.yaml"
    path.write_text(YAML)
    return path


def test_help_teaches(service: Path) -> None:
    """The help names every policy and shows an example, which runs."""
    text = sim("run", "--help").stdout
    assert all(f"  {name} " in text for name in POLICIES)
    (example,) = (line.split() for line in text.splitlines() if line.strip().startswith("sailplane sim run"))
    assert example[:4] == ["sailplane", "sim", "run", "service.yaml"]
    shorter = ["0.05" if word == "3" else word for word in example[4:]]
    result = sim("run", service, *shorter)
    assert result.exit_code == 0, result.stderr
    assert "In hindsight nobody could have paid less than $" in result.stdout


def test_a_file_that_waits_for_no_engine_is_told_so_first(service: Path) -> None:
    """With both figures and the option that changes one of them; what the judges then see is told once a kind, with a count."""
    hasty = service.read_text().replace("/health", "{path: /health, initial_delay_seconds: 30}")
    service.write_text(hasty)
    result = sim("run", service, "--days", "0.1")
    assert result.exit_code == Exit.FAILURE
    told, *others = result.stderr.splitlines()
    assert told.startswith("initial_delay_seconds is 30, and engines are simulated to take 60-180 s")
    assert "--setup-seconds MIN MAX" in told
    assert "which comes of the short initial_delay_seconds or is a defect" in result.stderr
    (removed,) = (line for line in others if "INITIAL_DELAY_EXCEEDED" in line)
    assert re.fullmatch(r"as_written: \d+.0 s: svc-\S+ was well and removed as \S+ \(and \d+ more like it\)", removed)
    waiting = sim("run", service, "--days", "0.1", "--setup-seconds", "5", "20")
    assert waiting.exit_code == 0, waiting.stderr
    assert "initial_delay_seconds" not in waiting.stderr


def test_policies_are_compared_with_the_first(service: Path) -> None:
    """A row a policy, and the other's difference with its interval; on demand costs all of on-demand's price."""
    result = sim("run", service, "--days", "0.1", "--policy", "on_demand", "--policy", "as_written")
    assert result.exit_code == 0, result.stderr
    heading, on_demand, as_written, _, difference = result.stdout.splitlines()[-5:]
    assert heading.startswith("POLICY")
    assert on_demand.startswith("on_demand")
    assert "100.0%" in on_demand
    assert as_written.startswith("as_written")
    assert difference.startswith("as_written against on_demand: -")
    assert "on_demand   ==================== 100 %" in result.stderr


def test_the_same_seed_has_the_same_history_alone_or_beside_others(service: Path) -> None:
    """Figures do not depend on how many policies run side by side in how many processes; another seed has others."""
    run = ("run", service, "--days", "0.1", "--traffic", "generated", "--policy", "as_written")
    alone = document(*run)
    beside = document(*run, "--policy", "on_demand")
    assert alone["policies"] == beside["policies"][:1]
    assert alone["policies"][0]["requests"]["ended"] > 100
    assert document(*run, "--seed", "1")["policies"] != alone["policies"]


def test_a_recorded_market_and_its_picture(service: Path, tmp_path: Path) -> None:
    """A directory of traces, with what was filled in told; the picture is a PNG."""
    zone = {
        "cloud": "aws",
        "zone": "us-east-1a",
        "instance_type": "p3.2xlarge",
        "accelerator": "V100:1",
        "gap_seconds": 600,
    }
    traces = tmp_path / "v100"
    traces.mkdir()
    (traces / "a.json").write_text(json.dumps({"metadata": zone, "data": [2] * 6 + [1] * 6}))
    picture = tmp_path / "out.png"
    result = sim(*("run", service, "--market", traces, "--spot-usd", "1", "--on-demand-usd", "3", "--plot", picture))
    assert result.exit_code == 0, result.stderr
    assert "v100: 0.0833 days, 1 zones, seed 0, p3.2xlarge at $3/h on demand" in result.stdout
    assert "Spot price in us-east-1a: $1/h all the time, as told" in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("--market", "nowhere"), Exit.INVALID, "--market generated"),
        (("--traffic", "nowhere"), Exit.INVALID, "--traffic generated"),
        (("--machine", "p3.2xlarge"), Exit.USAGE, "aws/us-east-1a/p3.2xlarge"),
        (("--policy", "spothedg"), Exit.USAGE, "spothedge"),
        (("--days", "inf"), Exit.USAGE, "3653"),
        (("--days", "nan"), Exit.USAGE, "no number of days"),
        (("--traffic-scale", "0.5"), Exit.USAGE, "Add --traffic"),
        (("--machine", "aws/us-east-1a/p3.2xlarge"), Exit.USAGE, "--market DIR"),
        (("--spot-usd", "1"), Exit.USAGE, "--market DIR"),
        (("--setup-seconds", "9", "8"), Exit.USAGE, "may not be above"),
        (("--setup-seconds", "nan", "nan"), Exit.USAGE, "may not be above"),
        (("--setup-seconds", "0", "inf"), Exit.USAGE, "86400"),
        (("--policy", "spothedge", "--policy", "spothedge"), Exit.USAGE, "spothedge is named twice"),
        (("--plot", "out.xyz"), Exit.INVALID, ".png"),
        (("--plot", "nowhere/out.png"), Exit.INVALID, "no directory nowhere"),
    ],
)
def test_wrong_inputs_are_told_with_a_remedy(service: Path, args: tuple[str, ...], code: Exit, told: str) -> None:
    """Which exit code, and what to do instead; before anything is simulated, for that may take minutes."""
    result = sim("run", service, *args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert told in result.stderr


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_what_is_not_text_is_told_in_a_line(service: Path, tmp_path: Path, ending: str) -> None:
    """Traffic and events in another encoding, or a picture in their place: named, and not printed."""
    picture = tmp_path / f"traffic.{ending}"
    picture.write_bytes(b"\x89PNG" * 1000)
    for args in (("run", service, "--traffic", picture), ("replay", picture, service)):
        result = sim(*args)
        assert result.exit_code == Exit.INVALID
        assert f"{picture}: not text" in result.stderr
        assert len(result.stderr) < 400


@pytest.mark.parametrize("limit", ["budget: {max_usd_per_hour: 0.01}", "replica_policy: {RATIO}"])
def test_who_may_buy_nothing_has_nothing_and_that_is_no_defect(service: Path, limit: str) -> None:
    """A limit of the file's own that no machine of the market is within: the table says so, the judges are silent."""
    limit = limit.replace("RATIO", "min_replicas: 2, max_spot_price_ratio: 0.001")
    text = YAML if "budget" in limit else YAML.replace("  replicas: 2\n", "")
    service.write_text(text.replace("  ports", f"  {limit}\n  ports"))
    result = sim("run", service, "--days", "0.1")
    assert (result.exit_code, "defect" in result.stderr) == (0, False), result.stderr
    (row,) = (line.split() for line in result.stdout.splitlines() if line.startswith("as_written  "))
    assert row[:2] == ["as_written", "0.000%"]
    held = "as_written lacked replicas for 2.4 of 2.4 h, held by the budget: one more at $"
    assert (held in result.stdout) == ("budget" in limit)


def test_how_long_a_budget_held_is_until_it_had_room_again(service: Path) -> None:
    """While a machine is dear, not from then on."""
    service.write_text(YAML.replace("  ports", "  budget: {max_usd_per_hour: 2.8}\n  ports"))
    result = sim("run", service, "--days", "1")
    assert "as_written lacked replicas for 2.4 of 24.0 h, held by the budget: one more at $1.12" in result.stdout


def test_a_table_fits_a_terminal(service: Path) -> None:
    """With the longest name and requests, which have a table of their own, no line is longer than 100 columns."""
    names = ("--policy", "round_robin_fallback", "--policy", "on_demand")
    result = sim("run", service, "--days", "0.05", "--traffic", "generated", *names)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("POLICY")] == [
        ["POLICY", "AVAILABLE"],
        ["POLICY", "REQUESTS"],
    ]
    assert all(
        len(line) <= 100 for line in lines if line[:6] in ("POLICY", "round_", "on_dem") and " against " not in line
    )


def test_what_to_do_next_is_said(service: Path) -> None:
    """Compare what was run alone; plan what was compared."""
    run = ("run", service, "--days", "0.02")
    alone = sim(*run, "--policy", "spothedge")
    assert "Next: the same with --policy spothedge --policy round_robin_fallback\n" in alone.stderr
    compared = sim(*run, "--policy", "spothedge", "--policy", "on_demand")
    assert f"Next: sailplane plan {service}\n" in compared.stderr
    assert "Next" not in sim(*run, "--json").stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Invalid JSON"),
        ('{"events": 1}', "events: Input should be a valid array"),
        ('{"events": [{"at": "2026-01-01T00:00:00Z", "kind": 1}]}', "events[0].kind: Input should be a valid string"),
        ('[{"events": []}]', "Input should be an object"),
    ],
)
def test_events_that_are_none_are_told_by_place(service: Path, tmp_path: Path, text: str, told: str) -> None:
    """In words: what Python calls the mistake is of no use to who exported the wrong thing."""
    events = tmp_path / "events.json"
    events.write_text(text)
    result = sim("replay", events, service)
    assert (result.exit_code, result.stdout) == (Exit.INVALID, "")
    assert f"{events}: not what `sailplane events NAME --json` prints ({told}" in result.stderr
    assert not any(word in result.stderr for word in ("Error(", "Traceback", "pydantic"))


def test_a_service_is_replayed_from_its_events(service: Path, tmp_path: Path) -> None:
    """Two replicas where one was launched, for FILE wants two; what that printed can be replayed in turn."""
    events = tmp_path / "events.json"
    message = "svc-u-0-1: aws/us-east-1/us-east-1a g6.xlarge (L4:1) spot at $1.2/h: the cheapest of 4"
    first = {"at": "2026-11-01T10:00:00+00:00", "kind": "replica.pending", "message": message, "replica": "svc-u-0-1"}
    last = {"at": "2026-11-01T10:20:00+00:00", "kind": "service", "message": "the end", "replica": ""}
    events.write_text(json.dumps({"events": [first, last]}))
    replayed = document("replay", events, service, "--on-demand-usd", "2")
    assert replayed["events"][0]["at"] == "2026-11-01T10:00:00+00:00"
    assert replayed["counts"]["replica.ready"] == {"recorded": 0, "replayed": 2}
    again = tmp_path / "again.json"
    again.write_text(json.dumps(replayed))
    shown = sim("replay", again, service, "--on-demand-usd", "2")
    assert shown.exit_code == 0, shown.stderr
    assert "replica.pending" in shown.stdout
    assert any(line.split()[:3] == ["replica.pending", "2", "2"] for line in shown.stdout.splitlines())


def test_events_of_another_kind_are_refused(service: Path, tmp_path: Path) -> None:
    """With the file's name and the command that writes the right one."""
    events = tmp_path / "events.json"
    for text in ("nope", "{}", '{"events": [{"at": 5}]}'):
        events.write_text(text)
        result = sim("replay", events, service)
        assert result.exit_code == Exit.INVALID
        assert "events.json: not what `sailplane events NAME --json` prints" in result.stderr
