"""What the core is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import spec
from chalicelib.errors import SpecError
from chalicelib.model import (
    BudgetSpec,
    Metric,
    ProbeSpec,
    Requirement,
    RoutingSpec,
    ScalingSpec,
    ScheduledBounds,
    ServiceSpec,
    SpotSpec,
)

EVERYTHING = Path(__file__).with_name("corpus") / "everything.yaml"


def parsed(service: str = "", resources: str = "", rest: str = "") -> ServiceSpec:
    text = f"service: {{readiness_probe: /health, {service}}}\nresources: {{ports: 8080, {resources}}}\nrun: serve\n{rest}\n"
    return spec.parse(text).spec


def groups(resources: str) -> list[list[Requirement]]:
    return [list(group) for group in parsed(resources=resources).resources.groups]


def test_defaults_are_skyserves() -> None:
    """A minimal file: one replica, SkyServe's probe and routing, and, which is not SkyServe's, an endpoint that wants keys."""
    minimal = parsed()
    assert minimal.probe == ProbeSpec(path="/health")
    assert minimal.scaling == ScalingSpec()
    assert minimal.routing == RoutingSpec()
    assert (minimal.routing.policy, minimal.routing.access) == ("least_load", "required")
    assert minimal.resources.groups == ((Requirement(),),)
    assert minimal.engine.port == 8080


def test_every_field_of_the_core_is_filled() -> None:
    """Nothing that the core can carry is lost on the way."""
    full = spec.parse(EVERYTHING.read_text())
    assert full.name == "everything"
    assert full.spec.probe == ProbeSpec(
        path="/ready/tiny",
        post_data='{"model": "tiny"}',
        headers=(("Authorization", "Bearer tiny"),),
        initial_delay_s=60,
        timeout_s=2.5,
        interval_s=5,
        failure_threshold_s=30,
    )
    assert full.spec.scaling == ScalingSpec(
        min_replicas=1,
        max_replicas=4,
        target_qps_per_replica=0.5,
        target_qps_by_accelerator=(("H100:8", 10.0), ("A100-80GB", 4.0), ("L4", 0.5)),
        upscale_delay_s=30,
        downscale_delay_s=60,
        qps_window_s=30,
        panic_window_s=3,
        panic_threshold=2.5,
        look_ahead=True,
        schedule=(
            ScheduledBounds("0 8 * * MON-FRI", "Europe/Zurich", 2, 6),
            ScheduledBounds("*/15 20-23 1,15 jan 0", max_replicas=2),
        ),
    )
    assert full.spec.spot == SpotSpec(
        num_overprovision=1,
        dynamic_ondemand_fallback=True,
        base_ondemand_fallback_replicas=1,
        placer="dynamic_fallback",
        max_spot_price_ratio=0.8,
        spread=True,
        zone_memory_s=3600.0,
        replace_on_rebalance=True,
        availability_target=0.995,
        zone_backoff=True,
    )
    assert full.spec.routing == RoutingSpec(
        policy="prefix_aware",
        mode="resolve",
        wait_for_replica_s=20,
        access="required",
        engine_key_env="MODEL",
        sticky_header="x-session",
        prefix_characters=512,
        slow_start_s=30,
        prefer_near=True,
        models=("meta-llama/Llama-3.1-8B", "tiny"),
    )
    assert full.spec.budget == BudgetSpec(20, 5000, shut_down=True)
    assert (full.spec.max_surge, full.spec.engine.port, full.spec.engine.workdir) == (2, 9001, ".")
    assert full.spec.engine.envs == (("MODEL", "tiny"), ("SIZE", "13"), ("FAST", "True"))
    (group,) = full.spec.resources.groups
    assert [(each.provider, each.region, each.zone) for each in group] == [
        ("aws", "us-east-1", ""),
        ("aws", "us-east-1", ""),
        ("gcp", "us-central1", "us-central1-a"),
        ("", "eu-west-1", ""),
    ]
    assert [each.accelerators for each in group] == [(("H100", 8),), (("A100-80GB", 8),), (), ()]
    assert (group[2].accelerator_memory_min_gib, group[2].accelerator_memory_count) == (80, 4)
    assert group[3].labels == (("team", "serving"), ("tier", "low"))
    for each in group:
        assert (each.vcpus_min, each.memory_exact_gib, each.disk_size_gib) == (4, 64, 1024)
        assert each.use_spot
        assert each.max_usd_per_hour == 12.5
        assert (each.disk_tier, each.network_tier, each.image_id) == ("high", "best", "docker:registry.example/engine")


def test_nothing_given_is_silently_ignored() -> None:
    """Every field without machinery is named, once, with what that means; fields that are acted on are not."""
    named = [line.split(": ")[0] for line in spec.parse(EVERYTHING.read_text()).not_acted_on]
    assert sorted(named) == sorted(
        [
            "file_mounts",
            "resources.network_tier",
            *("service.tls", "service.update.mode"),
            "service.replica_policy.availability_target",
        ]
    )


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ("spot_spread: true", ["spot_spread"]),
        ("spot_placer: risk_aware, spot_zone_memory_seconds: 60", ["spot_zone_memory_seconds"]),
        (
            "spot_placer: even_spread, spot_zone_backoff: true, availability_target: 0.9",
            ["spot_zone_backoff", "availability_target"],
        ),
        ("spot_placer: risk_aware, availability_target: 0.9, spot_spread: false", []),
        ("spot_placer: dynamic_fallback, spot_spread: true", []),
    ],
)
def test_what_refines_another_placer_is_named(policy: str, named: list[str]) -> None:
    """With the placer that reads it; a field that is off says nothing."""
    told = spec.parse(
        "run: serve\nresources: {accelerators: L4, use_spot: true}\n"
        f"service: {{readiness_probe: /, ports: 8080, replica_policy: {{min_replicas: 1, {policy}}}}}"
    ).not_acted_on
    assert [line.split(": ")[0].rpartition(".")[2] for line in told] == named
    assert all("`spot_placer: " in line for line in told)


@pytest.mark.parametrize(
    "given",
    [
        "service: {access: {keys: open}, routing: {mode: redirect, wait_for_replica_s: 0}, update: {mode: rolling}}",
        "service: {replica_policy: {min_replicas: 2, num_overprovision: 0, metric: qps}, load_balancing_policy: round_robin}",
        "num_nodes: 1\nworkdir: ./engine\nname: hello\nsetup: make",
        "resources: {autostop: false, infra: local, cpus: 2+, memory: 8, max_hourly_cost: 3, accelerators: L4}",
    ],
)
def test_what_is_as_it_would_be_anyway_is_not_reported(given: str) -> None:
    """A value that asks for today's behaviour is acted on."""
    text = given.replace("service: {", "service: {readiness_probe: /, ports: 80, ")
    if "service:" not in text:
        text += "\nservice: {readiness_probe: /, ports: 80}"
    assert spec.parse(text).not_acted_on == ()


def test_the_machines_disk_image_and_labels_are_acted_on() -> None:
    """Whoever gives them is told nothing; they reach the requirement, `disk_tier: none` as no wish."""
    text = (
        "service: {readiness_probe: /, ports: 80}\n"
        "resources: {disk_size: 1TB, disk_tier: NONE, image_id: 'docker:vllm/vllm-openai:v1', labels: {team: a-b_1}}"
    )
    parsed = spec.parse(text)
    assert parsed.not_acted_on == ()
    ((requirement,),) = parsed.spec.resources.groups
    assert (requirement.disk_size_gib, requirement.disk_tier) == (1024, "")
    assert (requirement.image_id, requirement.labels) == ("docker:vllm/vllm-openai:v1", (("team", "a-b_1"),))


def test_an_image_for_each_region_is_reported() -> None:
    """SkyServe's map of images is read and not told apart yet."""
    text = "service: {readiness_probe: /, ports: 80}\nresources: {image_id: {us-east-1: ami-1}}"
    assert [line.split(": ")[0] for line in spec.parse(text).not_acted_on] == ["resources.image_id"]


def test_a_working_directory_stays_on_this_machine() -> None:
    """A path is refused where a cloud is among the candidates, with what to do instead; a file without one never is."""
    here = spec.parse("service: {readiness_probe: /, ports: 80}\nworkdir: ./engine").spec
    spec.require_reachable_workdir(here, ["local"])
    with pytest.raises(SpecError) as refusal:
        spec.require_reachable_workdir(here, ["local", "gcp", "aws"])
    (problem,) = refusal.value.problems
    assert (problem.path, problem.reason) == ("workdir", "is not copied to machines of aws, gcp yet")
    assert all(way in problem.hint for way in ("infra: local", "image_id: docker:", "git clone"))
    spec.require_reachable_workdir(parsed(), ["aws"])


def test_git_and_nodes_are_reported() -> None:
    """The remaining fields without machinery: a repository, several nodes, autostop."""
    text = (
        "service: {readiness_probe: /}\n"
        "resources: {ports: 80, autostop: {idle_minutes: 5}}\n"
        "workdir: {url: https://git.example/engine, ref: 2026-01-02}\nnum_nodes: 2\n"
    )
    named = [line.split(": ")[0] for line in spec.parse(text).not_acted_on]
    assert named == ["resources.autostop", "workdir", "num_nodes"]


@pytest.mark.parametrize(
    ("given", "metric", "name"),
    [
        ("metric: Concurrency, target: 8", Metric.CONCURRENCY, ""),
        ("metric: queue_depth, target: 8", Metric.QUEUE_DEPTH, ""),
        (
            "metric: {prometheus: 'vllm:gpu_cache_usage_perc'}, target: 8",
            Metric.PROMETHEUS,
            "vllm:gpu_cache_usage_perc",
        ),
    ],
)
def test_a_service_may_follow_what_its_replicas_report(given: str, metric: Metric, name: str) -> None:
    """Metric, name and target reach the core, and nothing is said not to be acted on."""
    text = f"service: {{readiness_probe: /, ports: 80, replica_policy: {{min_replicas: 0, max_replicas: 2, {given}}}}}"
    found = spec.parse(text)
    assert (found.spec.scaling.metric, found.spec.scaling.metric_name, found.spec.scaling.target) == (metric, name, 8)
    assert found.not_acted_on == ()


def test_targets_are_kept_under_the_catalog_s_names() -> None:
    """Names in any case, with hyphens and with counts; the lowest target is what a new replica counts for."""
    policy = "{min_replicas: 0, max_replicas: 2, target_qps_per_replica: {a100-80gb: 4, 'l4:8': 3, l4: 0.5, A100: 2}}"
    text = f"service: {{readiness_probe: /, ports: 80, replica_policy: {policy}}}"
    found = spec.parse(text, known_accelerators=["A100", "A100-80GB", "L4"])
    targets = (("A100-80GB", 4.0), ("L4:8", 3.0), ("L4", 0.5), ("A100", 2.0))
    assert found.spec.scaling.target_qps_by_accelerator == targets
    assert found.spec.scaling.target == 0.5
    assert found.not_acted_on == ()


def test_a_list_of_accelerators_is_an_order_of_preference() -> None:
    """One group for each, in the order given."""
    found = groups("accelerators: ['H100:8', A100, '40GB', '80GB+:2']")
    assert [[each.accelerators for each in group] for group in found] == [
        [(("H100", 8),)],
        [(("A100", 1),)],
        [()],
        [()],
    ]
    assert (found[2][0].accelerator_memory_exact_gib, found[2][0].accelerator_memory_count) == (40, 1)
    assert (found[3][0].accelerator_memory_min_gib, found[3][0].accelerator_memory_count) == (80, 2)


def test_ordered_expands_lists_and_sets() -> None:
    """Within each entry a list makes further steps, a set a choice; entries without accelerators take the common ones."""
    found = groups("accelerators: {L4, T4:4}, ordered: [{infra: aws}, {infra: gcp, accelerators: [A100, H100]}]")
    assert [[(each.provider, *each.accelerators) for each in group] for group in found] == [
        [("aws", ("L4", 1)), ("aws", ("T4", 4))],
        [("gcp", ("A100", 1))],
        [("gcp", ("H100", 1))],
    ]


@pytest.mark.parametrize(
    ("base", "entry", "place"),
    [
        ("infra: aws/us-east-1", "infra: gcp", ("gcp", "", "")),
        ("infra: aws", "region: us-west-2", ("aws", "us-west-2", "")),
        ("cloud: aws, region: us-east-1", "infra: '*/eu-west-1/*'", ("", "eu-west-1", "")),
        ("cloud: aws, region: us-east-1", "zone: us-east-1a", ("aws", "us-east-1", "us-east-1a")),
        ("infra: k8s/team/cluster", "use_spot: true", ("kubernetes", "team/cluster", "")),
    ],
)
def test_an_entry_overrides_the_common_place(base: str, entry: str, place: tuple[str, str, str]) -> None:
    """`infra` replaces the whole place, a single part only itself."""
    ((requirement,),) = groups(f"{base}, any_of: [{{{entry}}}]")
    assert (requirement.provider, requirement.region, requirement.zone) == place


@pytest.mark.parametrize(
    ("text", "exact", "minimum"),
    [
        ("32", 32, 0),
        ("32+", 0, 32),
        ("64GB", 64, 0),
        ("1.5TB+", 0, 1536),
        ("512MB", 0.5, 0),
        ("'8'", 8, 0),
        ("7.5", 7.5, 0),
    ],
)
def test_memory_notations(text: str, exact: float, minimum: float) -> None:
    """Gibibytes, or with a unit; a plus means at least."""
    ((requirement,),) = groups(f"memory: {text}")
    assert (requirement.memory_exact_gib, requirement.memory_min_gib) == (exact, minimum)


def test_merge_keys_yield_to_what_is_written() -> None:
    """`<<` fills in; a map's own keys win, and of several merged maps the first."""
    found = groups(
        "ordered: [&a {infra: aws, cpus: 4}, &b {infra: azure, cpus: 2, memory: 8}, {<<: [*a, *b], infra: gcp}]"
    )
    assert [(each.provider, each.vcpus_exact, each.memory_exact_gib) for (each,) in found] == [
        ("aws", 4, 0),
        ("azure", 2, 8),
        ("gcp", 4, 8),
    ]


def test_candidates_share_one_port() -> None:
    """The engine's port is the one that every candidate opens."""
    text = "service: {readiness_probe: /}\nresources: {any_of: [{ports: 8000, cpus: 2}, {ports: ['8000'], cpus: 4}]}"
    assert spec.parse(text).spec.engine.port == 8000


def test_zero_replicas_parks_a_service() -> None:
    """As in SkyServe, a fixed number of 0 is accepted: the endpoint stays, no machine runs."""
    assert parsed("replicas: 0").scaling == ScalingSpec(min_replicas=0, max_replicas=0)


POLICY_ONLY = [
    ("replicas: 3", ""),
    ("replica_policy: {min_replicas: 0, max_replicas: 9, target_qps_per_replica: 3}", ""),
    ("load_balancing_policy: round_robin, update: {max_surge: 3}", ""),
    ("budget: {max_usd_per_hour: 1}, routing: {mode: resolve, slow_start_s: 9, models: [a]}", "name: other"),
]
REPLICA = [
    ("", "", "envs: {A: '1'}"),
    ("", "", "setup: make"),
    ("", "", "workdir: ."),
    ("", "", "workdir: {url: x}"),
    ("", "", "file_mounts: {/a: ./a}"),
    ("", "", "num_nodes: 2"),
    ("", "accelerators: L4", ""),
    ("", "use_spot: true", ""),
    ("", "image_id: {us-east-1: ami-1}", ""),
    ("", "image_id: docker:engine", ""),
    ("", "disk_size: 100", ""),
    ("", "disk_tier: high", ""),
    ("", "labels: {team: a}", ""),
    ("", "max_hourly_cost: 1", ""),
    ("access: {keys: open}", "", ""),  # its agent was told what to do with what clients show
]


@pytest.mark.parametrize(
    ("access", "envs", "name"),
    [
        ("", "VLLM_API_KEY: secret", "VLLM_API_KEY"),
        ("access: {keys: open}", "VLLM_API_KEY: secret", ""),
        ("access: {keys: open, engine_key_env: VLLM_API_KEY}", "VLLM_API_KEY: secret", "VLLM_API_KEY"),
        ("access: {engine_key_env: MINE}", "{VLLM_API_KEY: a, MINE: b}", "MINE"),
        ("", "VLLM_API_KEY: schlüssel", ""),  # no header can carry it, so vLLM never meets it
        ("", "OTHER: secret", ""),
        ("", "{}", ""),
    ],
)
def test_the_engine_s_own_key_is_vllm_s_unless_another_is_named(access: str, envs: str, name: str) -> None:
    """Behind an open endpoint it is shown for strangers only where the owner says so: else it goes on keeping them out."""
    envs = envs if envs.startswith("{") else f"{{{envs}}}"
    assert parsed(access, rest=f"envs: {envs}").routing.engine_key_env == name


def test_the_engine_s_key_may_come_from_the_command_line() -> None:
    """What stands in an env file is as good as what stands in the file."""
    text = "service: {readiness_probe: /, ports: 80, access: {engine_key_env: MINE}}"
    assert spec.parse(text, env_overrides={"MINE": "secret"}).spec.routing.engine_key_env == "MINE"


@pytest.mark.parametrize("policy", ["round_robin", "least_load", "instance_aware_least_load", "prefix_aware"])
def test_every_policy_reaches_the_routers(policy: str) -> None:
    """None of them is replaced by another, nor said not to be acted on."""
    found = spec.parse(f"service: {{readiness_probe: /, ports: 80, load_balancing_policy: {policy}}}")
    assert (found.spec.routing.policy, found.not_acted_on) == (policy, ())


@pytest.mark.parametrize(("service", "rest"), POLICY_ONLY)
def test_policy_changes_keep_the_fingerprint(service: str, rest: str) -> None:
    """Scaling, probe and routing can change without replacing a machine."""
    assert parsed(service, rest=rest).fingerprint == parsed().fingerprint


@pytest.mark.parametrize(("service", "resources", "rest"), REPLICA)
def test_replica_changes_change_the_fingerprint(service: str, resources: str, rest: str) -> None:
    """Whatever a running replica was made from changes the digest."""
    assert parsed(service, resources, rest).fingerprint != parsed().fingerprint


@given(st.permutations(["A: '1'", "B: '2'", "C: x"]), st.permutations(["L4", "A100:4", "H100"]))
def test_fingerprint_ignores_order_that_means_nothing(envs: list[str], accelerators: list[str]) -> None:
    """Neither the order of variables nor that of a set of accelerators reaches a replica."""
    made = parsed(resources=f"accelerators: {{{', '.join(accelerators)}}}", rest=f"envs: {{{', '.join(envs)}}}")
    same = parsed(resources="accelerators: {L4, A100:4, H100}", rest="envs: {A: '1', B: '2', C: x}")
    assert made.fingerprint == same.fingerprint


def test_order_of_preference_changes_the_fingerprint() -> None:
    """A list is an order, so another order is another request."""
    one, other = parsed(resources="accelerators: [L4, T4]"), parsed(resources="accelerators: [T4, L4]")
    assert one.fingerprint != other.fingerprint


@given(st.integers(0, 50), st.integers(1, 50), st.floats(0.01, 1000), st.floats(0, 3600))
def test_any_policy_changes_keep_the_fingerprint(low: int, more: int, target: float, delay: float) -> None:
    """Property: no figure of a replica policy or a probe reaches the digest."""
    policy = (
        f"replica_policy: {{min_replicas: {low}, max_replicas: {low + more}, target_qps_per_replica: {target:.3f}, "
        f"upscale_delay_seconds: {delay:.3f}}}"
    )
    assert parsed(policy).fingerprint == parsed().fingerprint
