"""`sailplane plan`, as its user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sailplane.cli import cli
from sailplane.cli.exits import Exit

MIXTRAL = """
service:
  readiness_probe:
    path: /v1/chat/completions
    post_data: {model: mixtral}
    initial_delay_seconds: 1800
  replica_policy: {min_replicas: 0, max_replicas: 10, target_qps_per_replica: 2.5}
envs: {TOKEN: null}
resources:
  ports: 8080
  disk_size: 1024
  network_tier: best
  accelerators: {L4:8, a10g:8, A10:8, A100-80GB:2}
run: serve
"""
CANDIDATE_KEYS = {
    "provider",
    "region",
    "zone",
    "instance_type",
    "accelerators",
    "vcpus",
    "memory_gib",
    "capacity_type",
    "price_usd_per_hour",
    "chosen",
}


def plan(text: str, *args: str) -> Result:
    # A home that is nowhere: the packaged prices, whatever this machine's user has refreshed.
    env = {"SAILPLANE_HOME": "/nowhere"}
    return CliRunner().invoke(cli, ["plan", "-", "--env", "TOKEN=x", *args], input=text, env=env)


def planned(text: str, *args: str) -> dict[str, Any]:
    result = plan(text, "--json", *args)
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_the_table_has_the_best_place_of_each_machine_cheapest_first() -> None:
    """One row for each machine type, in SkyServe's columns, the cheapest chosen; nothing is cut off in a pipe."""
    result = plan(MIXTRAL)
    lines = result.stdout.splitlines()
    heading = next(number for number, line in enumerate(lines) if line.startswith("CLOUD"))
    rows = [line.split() for line in lines[heading + 1 : lines.index(next(line for line in lines if "--all" in line))]]
    assert lines[heading].split()[:5] == ["CLOUD", "INSTANCE", "vCPUs", "GiB", "GPU"]
    assert rows[0] == [
        "Azure",
        "Standard_NC48ads_A100_v4",
        "48",
        "440",
        "A100-80GB:2",
        "eastus",
        "on-demand",
        "7.35",
        "✔",
    ]
    assert rows[1][:2] == ["GCP", "g2-standard-96"]
    prices = [float(row[7]) for row in rows]
    assert prices == sorted(prices)
    assert len({row[1] for row in rows}) == len(rows)
    assert "\x1b[" not in result.stdout


@pytest.mark.parametrize("accelerators", ["H100:8", "A100-80GB:8"])
def test_the_widest_tables_fit_into_a_hundred_columns(accelerators: str) -> None:
    """Of machines with the longest names; with --all the longest zones' names take six more."""
    service = "service: {readiness_probe: /, replicas: 1, ports: 80}"
    lines = plan(f"{service}\nresources: {{accelerators: '{accelerators}'}}\nrun: x\n").stdout.splitlines()
    table = lines[next(number for number, line in enumerate(lines) if line.startswith("CLOUD")) :]
    assert max(map(len, table[: table.index("")])) in range(90, 101)


def test_the_summary_says_what_was_understood_and_what_it_costs() -> None:
    """Probe, delay, policy, cost from no replica to all, price date: above and below the table."""
    text = plan(MIXTRAL).stdout
    for fact in (
        "POST /v1/chat/completions",
        "1800",
        "0 to 10 replicas, requests/s per replica: 2.5",
        "$73.46 an hour, at most $53,625.80 a month",
        "Worst case, all cheaper offers sold out:  $",
        "Prices as of 20",
        "of machines only",
    ):
        assert fact in text


def test_a_key_in_the_probes_query_is_not_printed() -> None:
    """Plans end in logs of CI systems; the path before the query says which endpoint is meant."""
    text = MIXTRAL.replace("path: /v1/chat/completions", "path: /health?key=$TOKEN")
    told = plan(text, "--env", "TOKEN=hidden-value").stdout + plan(text, "--json", "--env", "TOKEN=hidden-value").stdout
    assert told.count("/health") == 2
    assert "hidden-value" not in told


def test_nothing_is_silently_ignored() -> None:
    """What no cloud has, what was not wanted and what Sailplane does not act on yet are all listed."""
    text = plan(MIXTRAL).stdout
    assert "  A10:8: no enabled provider offers it; A10 comes in 1, 2\n" in text
    assert "  A10G:8: the catalog has none of azure, gcp\n" in text
    assert "Not acted on:\n  resources.network_tier: " in text
    document = planned(MIXTRAL)
    assert any(entry["what"] == "A10:8" for entry in document["left_out"])
    assert any(entry.startswith("resources.network_tier") for entry in document["not_acted_on"])


def test_json_is_one_object_with_stable_keys() -> None:
    """`--json` prints one object; candidates carry the documented keys and exactly one is chosen, the first."""
    document = planned(MIXTRAL)
    assert all(set(candidate) == CANDIDATE_KEYS for candidate in document["candidates"])
    assert [candidate["chosen"] for candidate in document["candidates"]].index(True) == 0
    assert sum(candidate["chosen"] for candidate in document["candidates"]) == 1
    prices = [candidate["price_usd_per_hour"] for candidate in planned(MIXTRAL, "--all")["candidates"]]
    assert document["max_usd_per_hour"] == pytest.approx(10 * prices[0])
    assert document["worst_case_usd_per_hour"] == pytest.approx(10 * max(prices))
    assert document["worst_case_usd_per_month"] == pytest.approx(730 * document["worst_case_usd_per_hour"])
    assert document["min_usd_per_hour"] == 0
    assert {candidate["accelerators"] for candidate in document["candidates"]} == {"L4:8", "A10G:8", "A100-80GB:2"}


def test_all_shows_every_place() -> None:
    """--all adds the other places of the same machines and changes neither order nor choice."""
    some, every = planned(MIXTRAL)["candidates"], planned(MIXTRAL, "--all")["candidates"]
    assert len(every) > len(some)
    assert every[0] == some[0]
    assert all(candidate in every for candidate in some)


def test_spot_is_planned_when_asked_for() -> None:
    """`use_spot: true` leaves on-demand offers out and costs less."""
    spot = planned(MIXTRAL.replace("ports: 8080", "ports: 8080\n  use_spot: true"))
    assert {candidate["capacity_type"] for candidate in spot["candidates"]} == {"SPOT"}
    assert spot["worst_case_usd_per_hour"] < planned(MIXTRAL)["worst_case_usd_per_hour"]


def test_the_worst_case_knows_of_stand_ins_and_of_what_is_beyond_the_target() -> None:
    """Spot with an extra replica and fallback: at worst 11 spot and 10 on-demand machines; while all is well 11 spot ones."""
    text = MIXTRAL.replace("ports: 8080", "ports: 8080\n  use_spot: true")
    policy = "num_overprovision: 1, dynamic_ondemand_fallback: true"
    spot = planned(text, "--all")
    on_demand = [one["price_usd_per_hour"] for one in planned(MIXTRAL, "--all")["candidates"]]
    found = planned(text.replace("min_replicas: 0", f"{policy}, min_replicas: 0"))
    assert found["max_usd_per_hour"] == pytest.approx(11 * spot["candidates"][0]["price_usd_per_hour"])
    assert found["spot_policy"] == "1 beyond the target, on-demand ones while spot ones are not ready"
    dearest = max(one["price_usd_per_hour"] for one in spot["candidates"])
    assert found["worst_case_usd_per_hour"] == pytest.approx(11 * dearest + 10 * max(on_demand))
    bounded = text.replace("min_replicas: 0", f"{policy}, min_replicas: 0").replace(
        "use_spot: true", "use_spot: true\n  max_hourly_cost: 6"
    )
    left_out = {one["what"]: one["why"] for one in planned(bounded)["left_out"]}
    assert "at most $6/h" in left_out["on-demand replicas beside spot ones"]


def test_providers_narrow_the_plan() -> None:
    """Only the named providers are planned for; an unknown name is a usage error that lists the known ones."""
    document = planned(MIXTRAL, "--providers", "gcp")
    assert {candidate["provider"] for candidate in document["candidates"]} == {"gcp"}
    refused = plan(MIXTRAL, "--providers", "gcp,ibm")
    assert refused.exit_code == Exit.USAGE
    assert "'ibm' is not one of aws, azure, gcp, lambda, local." in refused.stderr


def test_a_file_that_names_this_machine_is_planned_for_it() -> None:
    """`infra: local` plans a process here, which costs nothing; without it, this machine is not considered."""
    text = "service: {readiness_probe: /, replicas: 1}\nresources: {ports: 8080%s}\nrun: serve\n"
    local = planned(text % ", infra: local")
    assert [candidate["provider"] for candidate in local["candidates"]] == ["local"]
    assert local["worst_case_usd_per_month"] == 0
    clouds = planned(text % "")
    assert "local" not in {candidate["provider"] for candidate in clouds["candidates"]}


def test_spot_and_on_demand_side_by_side() -> None:
    """`any_of` may mix both ways of buying: both are ranked, and the worst case is at the on-demand price."""
    text = MIXTRAL.replace(
        "{L4:8, a10g:8, A10:8, A100-80GB:2}", "L4:8\n  any_of: [{use_spot: true}, {use_spot: false}]"
    )
    document = planned(text, "--all")
    kinds = {candidate["capacity_type"]: candidate["price_usd_per_hour"] for candidate in document["candidates"]}
    assert set(kinds) == {"SPOT", "ON_DEMAND"}
    assert document["candidates"][0]["capacity_type"] == "SPOT"
    assert document["worst_case_usd_per_hour"] == pytest.approx(10 * max(kinds.values()))


def test_a_cloud_that_lacks_the_accelerator_is_named() -> None:
    """T4 on GCP and Azure, and said of AWS, whose packaged prices have none; nothing is said of clouds not asked."""
    text = MIXTRAL.replace("{L4:8, a10g:8, A10:8, A100-80GB:2}", "T4")
    assert "  T4:1: the catalog has none of aws\n" in plan(text).stdout
    assert {candidate["provider"] for candidate in planned(text)["candidates"]} == {"azure", "gcp"}
    assert "has none" not in plan(text.replace("ports", "infra: gcp\n  ports")).stdout


def test_a_working_directory_in_a_cloud_is_said_not_to_work() -> None:
    """Files of this machine do not reach a cloud's; the plan says so and what to do instead."""
    said = plan(f"workdir: .\n{MIXTRAL}").stdout
    assert "  workdir: is not copied to machines of aws, azure, gcp yet" in said
    assert "image_id: docker:IMAGE" in said


def test_no_feasible_accelerator_ends_with_suggestions() -> None:
    """A count that nobody sells: exit code 3, empty stdout, and the nearest counts in the spelling of the file."""
    text = MIXTRAL.replace("{L4:8, a10g:8, A10:8, A100-80GB:2}", "L4:3")
    result = plan(text)
    assert (result.exit_code, result.stdout) == (Exit.INVALID, "")
    assert "has an offer with L4:3." in result.stderr
    assert "  accelerators: L4:2\n" in result.stderr
    assert json.loads(plan(text, "--json").stderr)["suggestions"][0] == "accelerators: L4:2"


def test_a_price_ratio_that_leaves_nothing_is_named() -> None:
    """The field that leaves out all spot offers is what to change; the machines exist."""
    text = MIXTRAL.replace("ports: 8080", "ports: 8080\n  use_spot: true")
    text = text.replace("target_qps", "max_spot_price_ratio: 0.01, target_qps")
    result = plan(text)
    assert result.exit_code == Exit.INVALID
    assert "no spot offer is below 0.01 of the on-demand price. Raise service.replica_policy.max_spot_price_ratio" in (
        result.stderr
    )


def test_suggestions_look_beyond_the_accelerator_asked_for() -> None:
    """Where nothing of the wanted kind is in reach, machines with other accelerators are suggested too."""
    text = MIXTRAL.replace("{L4:8, a10g:8, A10:8, A100-80GB:2}", "A10:1").replace("ports", "infra: aws\n  ports")
    result = plan(text)
    assert result.exit_code == Exit.INVALID
    assert "  accelerators: L4:1\n" in result.stderr
    assert "  infra: azure/westus3\n" in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("min_replicas: 0", "min_replicsa: 0", "min_replicsa"),
        ("service:", "service: [", "<stdin>"),
        ("L4:8", "L5:8", "L5"),
    ],
)
def test_a_wrong_file_is_refused(old: str, new: str, complaint: str) -> None:
    """Broken YAML, unknown keys and unknown accelerators end with exit code 3 and name the culprit, without a traceback."""
    result = plan(MIXTRAL.replace(old, new, 1))
    assert (result.exit_code, result.stdout) == (Exit.INVALID, "")
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_variable_is_named() -> None:
    """A null env that is not given on the command line is an error that names it."""
    result = CliRunner().invoke(cli, ["plan", "-"], input=MIXTRAL)
    assert result.exit_code == Exit.INVALID
    assert "TOKEN" in result.stderr


def test_the_installed_command_plans_a_file(tmp_path: Path) -> None:
    """The console script works from a plain process: data on stdout, the next step on stderr, fit to be pasted into a shell."""
    source = tmp_path / "my mixtral.yaml"
    source.write_text(MIXTRAL)
    script = Path(sys.executable).with_name("sailplane")
    result = subprocess.run(
        [script, "plan", source, "--env", "TOKEN=x"], capture_output=True, text=True, timeout=30, check=False
    )
    assert result.returncode == 0
    assert "Standard_NC48ads_A100_v4" in result.stdout
    assert result.stderr == f"Next: sailplane up '{source}' -n NAME\n"


def test_a_budget_is_held_against_the_plan() -> None:
    """How many machines it has room for and how long it lasts; one that has room for none is refused with exit code 3."""
    limited = "service: {readiness_probe: /, ports: 80, replicas: 2, budget: {max_usd_per_hour: %s, max_usd_per_month: 100}}\n"
    file = limited + "resources: {infra: aws, accelerators: L4}\nrun: serve"
    usd = planned(file % 9)["candidates"][0]["price_usd_per_hour"]
    told = planned(file % 9)["budget"]
    assert told.startswith(f"$9.00 an hour, which {int(9 / usd)} of the chosen machines fit; $100.00 a month")
    assert f"in {100 / usd / 2 / 24:.1f} days" in told
    assert told in plan(file % 9).stdout
    refused = plan(file % 0.01)
    assert refused.exit_code == Exit.INVALID
    assert "nothing could ever be launched" in refused.stderr
