"""Bad input: where, why, what to do, on which line."""

from __future__ import annotations

import textwrap

import pytest

from chalicelib import spec
from chalicelib.errors import Problem, SpecError

KNOWN = ["A10", "A10G", "A100", "A100-80GB", "H100", "L4"]


def problems(text: str, **overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(SpecError) as refused:
        spec.parse(textwrap.dedent(text), env_overrides=overrides, known_accelerators=KNOWN)
    return refused.value.problems


def in_service(line: str) -> str:
    return f"resources: {{ports: 8080}}\nservice:\n  readiness_probe: /\n  {line}\n"


def in_policy(line: str) -> str:
    return in_service(f"replica_policy:\n    {line}").replace("  replica_policy", "  replica_policy", 1)


def in_resources(line: str) -> str:
    return f"service: {{readiness_probe: /}}\nresources:\n  ports: 8080\n  {line}\n"


# text, path, part of the reason, part of the hint, line
YAML = [
    ("", "", "is empty", "sections", 0),
    ("# only a comment\n", "", "is empty", "", 0),
    ("just text", "", "is a single value", "", 1),
    ("- service\n", "", "is a list", "", 1),
    ("service: {}\n---\nservice: {}\n", "", "more than one YAML document", "file of its own", 2),
    ("service:\n  replicas: [1, 2\nrun: x\n", "", "not valid YAML", "", 3),
    ("run: a: b", "", "mapping values are not allowed", "", 1),
    ("service:\n\treplicas: 1\n", "", "cannot start any token", "never with tabs", 2),
    ("run: *nowhere", "", "undefined alias 'nowhere'", "", 1),
    ("run: ok\nname: \x02", "", "character that YAML forbids (code 0x2)", "", 2),
    ("a: &a [*a]", "", "refers to a[0] from inside itself", "", 1),
    ("[" * 5000, "", "more than 40 levels", "", 1),
    ("run: " + "x" * (64 * 1024), "", "larger than 64 KiB", "", 0),
    ("[" + "1," * 6000 + "]", "", "is a list", "", 1),
    ("run: [" + "1," * 6000 + "]", "", "more than 5000 values", "", 1),
]
KEYS = [
    (in_service("replicas: 1\n  replicas: 2"), "service.replicas", "on line 4 and again on line 5", "keep one", 5),
    (in_resources("accelerators: {L4:8, L4:8}"), "resources.accelerators.L4:8", "twice on line 4", "keep one", 4),
    (in_service("replicaz: 1"), "service.replicaz", "not a known key", "did you mean replicas", 4),
    (
        in_service("min_replicas: 1"),
        "service.min_replicas",
        "not a known key",
        "service.replica_policy.min_replicas",
        4,
    ),
    (in_service("zzz: 1"), "service.zzz", "not a known key", "known keys here: readiness_probe", 4),
    (in_resources("any_of: [{acelerators: L4}]"), "resources.any_of[0].acelerators", "not a known", "accelerators?", 4),
    (in_resources("gpus: L4"), "resources.gpus", "not a known key", "accelerators", 4),
    (in_resources("job_recovery: none"), "resources.job_recovery", "forbidden in a service", "remove it", 4),
    (in_service("replicas:"), "service.replicas", "has no value", "remove the line", 4),
    ("service:\nresources: {ports: 80}", "service", "has no value", "", 1),
    ("run: x", "service", "is required", "", 1),
    ("service: {replicas: 1}\nresources: {ports: 80}", "service.readiness_probe", "is required", "", 1),
    (in_service("tls: {keyfile: a}"), "service.tls.certfile", "is required", "", 4),
    (in_service("? [a]\n  : b"), "service", "key that is not plain text", "", 4),
    (in_service("<<: [1]"), "service", "merges (<<) something that is not a map", "", 4),
    (in_resources("labels: !!set {a}"), "resources.labels", "tag tag:yaml.org,2002:set", "", 4),
    (in_resources("labels: {a: !!python/name:os.system ''}"), "resources.labels.a", "has the tag", "", 4),
    (in_resources('labels: {a: "\\0"}'), "resources.labels.a", "character that no environment", "", 4),
    (in_resources('labels: {a: "\\uD800"}'), "resources.labels.a", "character that no environment", "", 4),
    (in_resources('labels: {"a\\0": x}'), "resources.labels", "key with a character", "", 4),
    (in_service("replicas: !!int many"), "service.replicas", "not a valid int", "", 4),
    (in_service(f"replicas: {'9' * 5000}"), "service.replicas", "not a valid int", "", 4),
]
TYPES = [
    (in_service("replicas: two"), "service.replicas", "must be a whole number, not text", "plain digits", 4),
    (in_service("replicas: 1.5"), "service.replicas", "whole number, not a number with a point", "", 4),
    (in_service("replicas: true"), "service.replicas", "whole number, not true or false", "", 4),
    (in_service("replicas: 1e1"), "service.replicas", "whole number, not text", "plain digits", 4),
    (in_service("replicas: 0o7"), "service.replicas", "whole number, not text", "", 4),
    (in_service("replicas: 07"), "service.replicas", "whole number, not text", "", 4),
    (in_service("replica_policy: 3"), "service.replica_policy", "must be a map, not a number", "", 4),
    (in_service("access: {keys: shut}"), "service.access.keys", "required or open, not shut", "", 4),
    (
        in_service("load_balancing_policy: leastload"),
        "service.load_balancing_policy",
        "not leastload",
        "least_load?",
        4,
    ),
    (in_service("budget: {max_usd_per_hour: -1}"), "service.budget.max_usd_per_hour", "more than 0, not -1", "", 4),
    (in_service("budget: {action: shut_down}"), "service.budget.max_usd_per_month", "a budget needs a limit", "", 4),
    (in_service("update: {max_surge: 0}"), "service.update.max_surge", "must be 1 or more", "", 4),
    (in_service("routing: {sticky_header: 'a b'}"), "service.routing.sticky_header", "not a header's name", "", 4),
    (in_service("routing: {wait_for_replica_s: 201}"), "service.routing.wait_for_replica_s", "200 or less", "", 4),
    (in_service("routing: {slow_start_s: -1}"), "service.routing.slow_start_s", "0 or more", "", 4),
    (in_service("routing: {prefix_characters: 0}"), "service.routing.prefix_characters", "1 or more", "", 4),
    (
        in_service("routing: {prefix_characters: 9}"),
        "service.routing.prefix_characters",
        "is for the policy prefix_aware",
        "load_balancing_policy: prefix_aware",
        4,
    ),
    (in_service("routing: {models: []}"), "service.routing.models", "must not be empty", "", 4),
    (in_service("routing: {models: ['a b']}"), "service.routing.models[0]", "printable ASCII without", "", 4),
    (in_service("access: {engine_key_env: MINE}"), "service.access.engine_key_env", "not among envs", "add it", 4),
    (
        "envs: {MINE: schlüssel}\n" + in_service("access: {engine_key_env: MINE}"),
        "service.access.engine_key_env",
        "no header can carry",
        "",
        5,
    ),
    (
        "envs: {MIME: x}\n" + in_service("access: {engine_key_env: MINE}"),
        "service.access.engine_key_env",
        "not among envs",
        "did you mean MIME?",
        5,
    ),
    (in_resources("use_spot: 'yes'"), "resources.use_spot", "true or false, not text", "", 4),
    (in_resources("max_hourly_cost: .inf"), "resources.max_hourly_cost", "must be", "", 4),
    (in_resources(f"max_hourly_cost: {'9' * 400}"), "resources.max_hourly_cost", "is too large", "", 4),
    (in_resources("cpus: 4-"), "resources.cpus", "4+ for at least 4, not '4-'", "", 4),
    (in_resources("cpus: 4GB"), "resources.cpus", "must be a number above 0", "", 4),
    (in_resources("memory: 0"), "resources.memory", "such as 32, 32+ or 64GB", "", 4),
    (in_resources("disk_size: 1.5GB"), "resources.disk_size", "whole number of gigabytes", "", 4),
    (in_resources("disk_tier: hihg"), "resources.disk_tier", "not hihg", "high?", 4),
    (in_resources("disk_size: much"), "resources.disk_size", "whole number of gigabytes", "", 4),
    (in_resources("disk_size: 0"), "resources.disk_size", "between 10 and 65536 GiB", "", 4),
    (in_resources("disk_size: 9"), "resources.disk_size", "between 10 and 65536 GiB", "", 4),
    (in_resources("disk_size: 65TB"), "resources.disk_size", "between 10 and 65536 GiB", "", 4),
    (in_resources("disk_size: 100+"), "resources.disk_size", "whole number of gigabytes", "", 4),
    (in_resources("image_id: 'docker:'"), "resources.image_id", "not an image's name", "docker:vllm", 4),
    (in_resources("image_id: two words"), "resources.image_id", "not an image's name", "", 4),
    (in_resources("labels: {Team: a}"), "resources.labels.Team", "not every cloud takes", "a lower-case letter", 4),
    (in_resources("labels: {team: Ä}"), "resources.labels.team", "not every cloud takes", "a-z, 0-9", 4),
    (in_resources("labels: {sailplane-x: a}"), "resources.labels.sailplane-x", "Sailplane's own", "", 4),
    (in_resources(f"labels: {{{', '.join(f'k{n}: v' for n in range(41))}}}"), "resources.labels", "at most 40", "", 4),
    (in_resources("labels: {a: 1}"), "resources.labels.a", "must be text, not a number", "put it in quotes", 4),
    (in_resources("region: no"), "resources.region", "must be text, not true or false", "yes, no, on and off", 4),
    (in_resources("any_of: []"), "resources.any_of", "must not be empty", "", 4),
    (in_resources("any_of: {infra: aws}"), "resources.any_of", "must be a list, not a map", "", 4),
    ("num_nodes: 0\n" + in_service(""), "num_nodes", "must be 1 or more, not 0", "", 1),
    ("workdir: {ref: main}\n" + in_service(""), "workdir.url", "is required", "", 1),
    ("workdir: 5\n" + in_service(""), "workdir", "must be text or a map, not a number", "", 1),
    ("file_mounts: {/a: {mode: MOUTN}}\n" + in_service(""), "file_mounts./a.mode", "not MOUTN", "mount?", 1),
    ("file_mounts: {/a: {sauce: x}}\n" + in_service(""), "file_mounts./a.sauce", "not a known key", "", 1),
    ("name: 2026\n" + in_service(""), "name", "must be text, not a number", "put it in quotes", 1),
]
PROBE = [
    ("readiness_probe: health", "service.readiness_probe", "must begin with /", "", 1),
    ("readiness_probe: {path: health}", "service.readiness_probe.path", "must begin with /", "", 1),
    ("readiness_probe: /a b", "service.readiness_probe", "spaces", "", 1),
    ("readiness_probe: 5", "service.readiness_probe", "must be text or a map, not a number", "", 1),
    ("readiness_probe: {path: /, post_data: '{x'}", "service.readiness_probe.post_data", "not valid JSON", "", 1),
    ("readiness_probe: {path: /, post_data: 'NaN'}", "service.readiness_probe.post_data", "NaN does not exist", "", 1),
    ("readiness_probe: {path: /, post_data: {a: .nan}}", "service.readiness_probe.post_data", "not valid JSON", "", 1),
    (
        "readiness_probe: {path: /, post_data: [1]}",
        "service.readiness_probe.post_data",
        "text or a map, not a list",
        "",
        1,
    ),
    ("readiness_probe: {path: /, headers: {A: 1}}", "service.readiness_probe.headers.A", "must be text", "quotes", 1),
    ("readiness_probe: {path: /, headers: {A b: x}}", "service.readiness_probe.headers.A b", "header's name", "", 1),
    ('readiness_probe: {path: /, headers: {A: "x\\ny"}}', "service.readiness_probe.headers.A", "one line", "", 1),
    ("readiness_probe: {path: /, timeout_seconds: 0}", "service.readiness_probe.timeout_seconds", "more than 0", "", 1),
    (
        "readiness_probe: {path: /, initial_delay_seconds: .nan}",
        "service.readiness_probe.initial_delay_seconds",
        "must be",
        "",
        1,
    ),
    (
        "readiness_probe: {path: /, endpoint_probe_interval_seconds: 1e3}",
        "service.readiness_probe.endpoint_probe_interval_seconds",
        "must be a number, not text",
        "plain digits",
        1,
    ),
]
POLICY = [
    ("max_replicas: 2", "min_replicas", "is required", "", 4),
    ("min_replicas: -1", "min_replicas", "must be 0 or more, not -1", "", 5),
    ("{min_replicas: 0, max_replicas: 0}", "max_replicas", "must be 1 or more, not 0", "", 5),
    ("{min_replicas: 3, max_replicas: 2, target_qps_per_replica: 1}", "max_replicas", "below min_replicas (3)", "", 5),
    ("{min_replicas: 1, max_replicas: 2}", "max_replicas", "nothing says when to scale", "target_qps_per_replica", 5),
    ("{min_replicas: 1, target_qps_per_replica: 2}", "max_replicas", "is required with target_qps_per_replica", "", 4),
    ("{min_replicas: 1, target_qps_per_replica: 0, max_replicas: 1}", "target_qps_per_replica", "more than 0", "", 5),
    ("{min_replicas: 1, target_qps_per_replica: .nan, max_replicas: 2}", "target_qps_per_replica", "must be", "", 5),
    ("{min_replicas: 1, target_qps_per_replica: .inf, max_replicas: 2}", "target_qps_per_replica", "must be", "", 5),
    (
        "{min_replicas: 1, target_qps_per_replica: {L5: 1}, max_replicas: 2}",
        "target_qps_per_replica.L5",
        "no accelerator that is known: 'L5'",
        "L4",
        5,
    ),
    ("{min_replicas: 1, upscale_delay_seconds: -5}", "upscale_delay_seconds", "must be 0 or more", "", 5),
    ("{min_replicas: 1, qps_window_seconds: 700}", "qps_window_seconds", "must be 600 or less", "", 5),
    ("{min_replicas: 1, metric: concurrency}", "target", "is required with a metric other than qps", "", 4),
    ("{min_replicas: 1, target: 4}", "target", "for other metrics than qps", "target_qps_per_replica", 5),
    ("{min_replicas: 1, metric: latency, target: 4}", "metric", "queue_depth, not latency", "", 5),
    ("{min_replicas: 1, max_replicas: 3, metric: [1]}", "metric", "queue_depth or a map, not a list", "", 5),
    (
        "{min_replicas: 1, max_replicas: 3, metric: concurrency, target: 4, target_qps_per_replica: 2}",
        "target",
        "a service follows one metric",
        "",
        5,
    ),
    ("{min_replicas: 1, max_spot_price_ratio: 70}", "max_spot_price_ratio", "must be 1 or less", "", 5),
    ("{min_replicas: 1, dynamic_ondemand_fallback: true}", "dynamic_ondemand_fallback", "spot replicas", "use_spot", 5),
    ("{min_replicas: 1, base_ondemand_fallback_replicas: 1}", "base_ondemand_fallback_replicas", "spot", "use_spot", 5),
    ("{min_replicas: 1, spot_placer: dynamic}", "spot_placer", "must be dynamic_fallback", "dynamic_fallback?", 5),
    ("{min_replicas: 1, spot_spread: true}", "spot_spread", "is for spot replicas", "use_spot", 5),
    ("{min_replicas: 1, spot_zone_memory_seconds: 0}", "spot_zone_memory_seconds", "must be more than 0", "", 5),
    ("{min_replicas: 1, replace_on_rebalance: true}", "replace_on_rebalance", "is for spot replicas", "use_spot", 5),
    ("{min_replicas: 1, availability_target: 1}", "availability_target", "less than 1", "", 5),
    ("{min_replicas: 1, schedule: [{cron: '* * *', min_replicas: 1}]}", "schedule[0].cron", "5 fields", "", 5),
    ("{min_replicas: 1, schedule: [{cron: '61 * * * *', min_replicas: 1}]}", "schedule[0].cron", "'61'", "", 5),
    ("{min_replicas: 1, schedule: [{cron: '0 9-8 * * *', min_replicas: 1}]}", "schedule[0].cron", "'9-8'", "", 5),
    ("{min_replicas: 1, schedule: [{cron: '*/0 * * * *', min_replicas: 1}]}", "schedule[0].cron", "'*/0'", "", 5),
    ("{min_replicas: 1, schedule: [{cron: '* * * * *'}]}", "schedule[0].max_replicas", "with neither", "", 5),
    (
        "{min_replicas: 1, schedule: [{cron: '* * * * *', min_replicas: 3, max_replicas: 2}]}",
        "schedule[0].max_replicas",
        "below min_replicas (3)",
        "",
        5,
    ),
    (
        "{min_replicas: 1, target_qps_per_replica: {L4: 1, l4: 2}, max_replicas: 2}",
        "target_qps_per_replica.l4",
        "two targets",
        "keep one",
        5,
    ),
    (
        "{min_replicas: 1, target_qps_per_replica: {80GB+: 1}, max_replicas: 2}",
        "target_qps_per_replica.80GB+",
        "the name of an accelerator",
        "",
        5,
    ),
    (
        "{min_replicas: 1, max_replicas: 3, target_qps_per_replica: 1, panic_window_seconds: 60}",
        "panic_window_seconds",
        "shorter than qps_window",
        "tenth",
        5,
    ),
    (
        "{min_replicas: 1, panic_window_seconds: 6}",
        "panic_window_seconds",
        "is for bursts",
        "target_qps_per_replica",
        5,
    ),
    (
        "{min_replicas: 1, max_replicas: 3, metric: {prometheus: 'm{le=\"1\"}'}, target: 4}",
        "metric.prometheus",
        "is not a metric's name",
        "without labels",
        5,
    ),
    (
        "{min_replicas: 1, max_replicas: 3, target_qps_per_replica: {'L4:01': 1}}",
        "target_qps_per_replica",
        "NAME:COUNT with a whole count",
        "",
        5,
    ),
    ("{min_replicas: 1, availability_target: 1}", "availability_target", "must be less than 1, not 1", "", 5),
    (
        "{min_replicas: 1, schedule: [" + "{cron: '0 0 29 2 *', max_replicas: 1}, " * 201 + "]}",
        "schedule",
        "at most 200",
        "",
        5,
    ),
    (
        "{min_replicas: 1, schedule: [{cron: '0 9 * * *', min_replicas: 1, timezone: leapseconds}]}",
        "schedule[0].timezone",
        "no timezone that is known: 'leapseconds'",
        "",
        5,
    ),
    ("{min_replicas: 1, panic_threshold: 2}", "panic_threshold", "panic mode, which is off", "panic_window_seconds", 5),
    ("{min_replicas: 1, look_ahead: true}", "look_ahead", "follows requests per second", "target_qps_per_replica", 5),
    (
        "{min_replicas: 1, max_replicas: 3, metric: concurrency, target: 4, look_ahead: true}",
        "look_ahead",
        "follows requests per second",
        "target_qps_per_replica",
        5,
    ),
    ("{min_replicas: 1, schedule: [{cron: '0 0 31 4 *', min_replicas: 1}]}", "schedule[0].cron", "never comes", "", 5),
    (
        "{min_replicas: 1, schedule: [{cron: '0 8 * * *', max_replicas: 1}, {cron: '0 9 * * *', min_replicas: 3}]}",
        "schedule[1]",
        "leaves max_replicas (1) below min_replicas (3)",
        "give both",
        5,
    ),
    (
        "{min_replicas: 1, schedule: [{cron: '0 9 * * *', max_replicas: 3}]}",
        "schedule[0]",
        "leaves 1 to 3 replicas, but nothing says when to scale",
        "target_qps_per_replica",
        5,
    ),
    (
        "{min_replicas: 1, schedule: [{cron: '0 9 * * *', min_replicas: 1, timezone: Mars/Olympus}]}",
        "schedule[0].timezone",
        "no timezone that is known: 'Mars/Olympus'",
        "",
        5,
    ),
    (
        "{min_replicas: 1, schedule: [{cron: '0 9 * * *', min_replicas: 1, timezone: Europe}]}",
        "schedule[0].timezone",
        "no timezone that is known: 'Europe'",
        "",
        5,
    ),
    (
        "{min_replicas: 1, schedule: [{cron: '* * * * *', min_replicas: 3, timezone: 'UTC+1 h'}]}",
        "schedule[0].timezone",
        "not of the right form",
        "",
        5,
    ),
]
PLACE = [
    (
        "infra: aws/us-east-1\n  zone: us-east-1a",
        "infra",
        "cannot be combined with zone",
        "infra: cloud/region/zone",
        4,
    ),
    ("infra: awss/us-east-1", "infra", "names no cloud that is known: 'awss'", "aws", 4),
    ("infra: aws//us-east-1a", "infra", "cloud/region/zone", "", 4),
    ("infra: aws/a/b/c", "infra", "cloud/region/zone", "", 4),
    ("cloud: azur", "cloud", "names no cloud", "azure?", 4),
    ("any_of: [{infra: aws}]\n  ordered: [{infra: gcp}]", "ordered", "any_of and resources.ordered exclude", "", 5),
    ("any_of: [{infra: aws, cloud: gcp}]", "any_of[0].infra", "cannot be combined with cloud", "", 4),
    ("any_of: [{accelerators: [L4, A10]}]", "any_of[0].accelerators", "order of preference", "use ordered", 4),
    ("accelerators: [L4, A10]\n  any_of: [{infra: aws}]", "any_of[0]", "order of preference", "use ordered", 5),
    ("accelerators: H10", "accelerators", "no accelerator that is known: 'H10'", "H100", 4),
    ("accelerators: A10GG:4", "accelerators", "'A10GG'", "A10G", 4),
    ("accelerators: {L4:1, XYZ9:1}", "accelerators.XYZ9:1", "'XYZ9'", "A10, A100, A100-80GB", 4),
    ("accelerators: [L4, 5]", "accelerators[1]", "must be text", "", 4),
    ("accelerators: {L4: 0}", "accelerators.L4", "1 or more, not 0", "", 4),
    ("accelerators: {L4:8: 8}", "accelerators.L4:8", "two counts", "L4: 8", 4),
    ("accelerators: L4:0", "accelerators", "leave accelerators out", "", 4),
    ("accelerators: L4:0.5", "accelerators", "NAME:COUNT with a whole count", "", 4),
    ("accelerators: NVIDIA:80GB+", "accelerators", "asks for a manufacturer", "", 4),
    ("accelerators: {}", "accelerators", "must not be empty", "", 4),
    ("accelerators: 8", "accelerators", "must be text or a list or a map, not a number", "", 4),
]
PORTS = [
    ("service: {readiness_probe: /}\n", "service.ports", "nothing says on which port", "resources.ports", 1),
    ("service: {readiness_probe: /}\nresources: {ports: [80, 81]}", "service.ports", "several", "service.ports", 1),
    ("service: {readiness_probe: /}\nresources: {ports: 80-82}", "service.ports", "several", "service.ports", 1),
    ("service: {readiness_probe: /, ports: 90}\nresources: {ports: 80-82}", "service.ports", "not among", "", 1),
    ("service: {readiness_probe: /, ports: 0}\nresources: {}", "service.ports", "must be 1 or more, not 0", "", 1),
    ("service: {readiness_probe: /}\nresources: {ports: []}", "resources.ports", "must not be empty", "", 2),
    ("service: {readiness_probe: /}\nresources: {ports: 8080:80}", "resources.ports", "host:container", "", 2),
    ("service: {readiness_probe: /}\nresources: {ports: 22:22}", "resources.ports", "not '22:22'", "", 2),
    ("service: {readiness_probe: /}\nresources: {ports: 0777}", "resources.ports", "not '0777'", "", 2),
    ("service: {readiness_probe: /}\nresources: {ports: 90-80}", "resources.ports", "lower port first", "", 2),
    ("service: {readiness_probe: /}\nresources: {ports: 70000}", "resources.ports", "1 and 65535", "", 2),
    ("service: {readiness_probe: /}\nresources: {ports: [80, x]}", "resources.ports", "not 'x'", "", 2),
]
ENVS = [
    ("envs: {HF_TOKEN: }\n" + in_service(""), "envs.HF_TOKEN", "HF_TOKEN has no value", "--env HF_TOKEN=...", 1),
    ("envs: {9A: x}\n" + in_service(""), "envs.9A", "not a variable's name", "no digit first", 1),
    ("envs: {A: [1]}\n" + in_service(""), "envs.A", "must be text or a number or true or false, not a list", "", 1),
    ("envs: [A]\n" + in_service(""), "envs", "must be a map, not a list", "", 1),
]
TABLE = [
    *YAML,
    *KEYS,
    *TYPES,
    *(
        (f"service: {{{line}}}\nresources: {{ports: 80}}", path, reason, hint, at)
        for line, path, reason, hint, at in PROBE
    ),
    *((in_policy(line), f"service.replica_policy.{path}", reason, hint, at) for line, path, reason, hint, at in POLICY),
    *((in_resources(line), f"resources.{path}", reason, hint, at) for line, path, reason, hint, at in PLACE),
    *PORTS,
    *ENVS,
]


@pytest.mark.parametrize(("text", "path", "reason", "hint", "line"), TABLE, ids=lambda value: str(value)[:40])
def test_bad_input_is_explained(text: str, path: str, reason: str, hint: str, line: int) -> None:
    """One mistake is one problem, with its place, its reason in plain words, a hint and its line."""
    (problem,) = problems(text)
    assert problem.path == path
    assert reason in problem.reason
    assert hint in problem.hint
    assert problem.line == line


def test_everything_is_reported_at_once() -> None:
    """Typos, types, broken rules, missing variables and keys given twice hide none of each other."""
    text = """\
        service:
          readiness_probe: {path: health, timeout_secs: 4}
          replicas: 2
          replica_policy:
            min_replicas: 3
            max_replicas: 2
        resources:
          accelerators: H10
          ports: [80, 81]
          ports: 80
          use_spot: maybe
        envs:
          HF_TOKEN:
        num_nodes: many
        runn: serve
        """
    assert [(each.line, each.path) for each in problems(text)] == [
        (2, "service.readiness_probe.path"),
        (2, "service.readiness_probe.timeout_secs"),
        (3, "service.replicas"),
        (6, "service.replica_policy.max_replicas"),
        (8, "resources.accelerators"),
        (10, "resources.ports"),
        (11, "resources.use_spot"),
        (13, "envs.HF_TOKEN"),
        (14, "num_nodes"),
        (15, "runn"),
    ]


def test_both_ways_to_scale_are_named() -> None:
    """`replicas` beside `replica_policy` is refused in words that name both."""
    (problem,) = problems(in_service("replicas: 1\n  replica_policy: {min_replicas: 1}"))
    assert "service.replicas and service.replica_policy exclude each other" in problem.reason


def test_rules_between_sections_are_reported_together() -> None:
    """A missing port and a fallback without spot are two problems, not one after the other."""
    text = "service: {readiness_probe: /, replica_policy: {min_replicas: 1, dynamic_ondemand_fallback: true}}"
    assert [each.path for each in problems(text)] == [
        "service.ports",
        "service.replica_policy.dynamic_ondemand_fallback",
    ]


def test_fallback_needs_spot_in_every_entry() -> None:
    """One entry that turns spot off is enough to refuse a fallback from spot."""
    text = """\
        service: {readiness_probe: /, replica_policy: {min_replicas: 1, spot_placer: dynamic_fallback}}
        resources: {ports: 80, use_spot: true, any_of: [{infra: aws}, {infra: gcp, use_spot: false}]}
        """
    (problem,) = problems(text)
    assert problem.path == "service.replica_policy.spot_placer"
    assert spec.parse(textwrap.dedent(text).replace("use_spot: false", "cpus: 4")).spec.scaling.min_replicas == 1


def test_alias_bomb_is_refused_quickly() -> None:
    """Nine levels of nine aliases would be 400 million values; reading stops at 5000."""
    levels = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    levels += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    (problem,) = problems("\n".join(levels))
    assert "more than 5000 values" in problem.reason


def test_values_of_variables_never_appear() -> None:
    """A value may be a secret: neither a refused variable nor a field it was put into shows it."""
    text = """\
        envs: {SECRET: hunter2, "BAD-NAME": hunter2}
        service:
          readiness_probe: {path: $SECRET, headers: {X-Key: "$SECRET\\n"}, post_data: "{$SECRET"}
          load_balancing_policy: $SECRET
        resources: {ports: 80}
        """
    found = problems(text)
    assert len(found) == 5
    assert "hunter2" not in str(SpecError(found))


def test_override_without_a_place_in_the_file_has_no_line() -> None:
    """A bad name that came with --env is not blamed on the file."""
    (problem,) = problems(in_service(""), **{"BAD-NAME": "x"})
    assert (problem.path, problem.line) == ("envs.BAD-NAME", 0)


def test_names_match_regardless_of_case_only() -> None:
    """`A10g` is A10G; A10 stays another accelerator."""
    text = in_resources("accelerators: {a10g:8, A10:1, a100-80gb:2}")
    (group,) = spec.parse(text, known_accelerators=KNOWN).spec.resources.groups
    assert [each.accelerators[0] for each in group] == [("A10G", 8), ("A10", 1), ("A100-80GB", 2)]


def test_unknown_catalog_accepts_every_name() -> None:
    """Without a catalog the names are left as they are written."""
    ((requirement,),) = spec.parse(in_resources("accelerators: TPU-v9:4")).spec.resources.groups
    assert requirement.accelerators == (("TPU-v9", 4),)


def test_schema_describes_the_file() -> None:
    """The JSON schema is made from the same models: closed maps, bounds, no null for what may be left out."""
    schema = spec.json_schema()
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["service"]
    definitions = schema["$defs"]
    assert definitions["ReplicaPolicy"]["properties"]["max_replicas"]["minimum"] == 1
    assert definitions["Probe"]["properties"]["initial_delay_seconds"]["default"] == 1200
    assert "null" not in str(schema)
