"""From the schema's words to the core's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace

from pydantic import BaseModel

from chalicelib.model import (
    BudgetSpec,
    EngineSpec,
    Metric,
    ProbeSpec,
    Requirement,
    ResourceRequest,
    RoutingSpec,
    ScalingSpec,
    ScheduledBounds,
    ServiceSpec,
    SpotSpec,
)
from chalicelib.spec import forms, references
from chalicelib.spec.document import KeyPath, dotted
from chalicelib.spec.schema import (
    REFINED,
    Access,
    Candidate,
    GitWorkdir,
    Later,
    Probe,
    PrometheusMetric,
    ReplicaPolicy,
    Resources,
    Service,
    ServiceFile,
)
from chalicelib.spec.values import fits_header

_VLLM_KEY = "VLLM_API_KEY"  # https://docs.vllm.ai/en/stable/configuration/env_vars.html


def service_spec(file: ServiceFile, envs: Mapping[str, str]) -> ServiceSpec:
    """The core's view of a service file; `envs` is the final environment."""
    resources = file.resources or Resources()
    spec = ServiceSpec(
        probe=_probe(file.service.readiness_probe),
        scaling=_scaling(file.service),
        routing=_routing(file.service, envs, references.bound(file.secrets)),
        resources=ResourceRequest(_groups(resources)),
        engine=_engine(file, resources, envs),
        spot=_spot(file.service),
        budget=_budget(file.service),
        max_surge=file.service.update.max_surge,
    )
    return replace(spec, fingerprint=_fingerprint(spec, file, resources))


def not_acted_on(file: ServiceFile) -> tuple[str, ...]:
    """`path: what that means` for every given field that nothing acts on yet, or not beside the others."""
    later = (f"{dotted(path)}: {sentence}" for path, sentence in _later(file, ()))
    return (*later, *_of_another_placer(file.service.replica_policy))


def _of_another_placer(policy: ReplicaPolicy | None) -> Iterator[str]:
    for name, placer in REFINED.items():
        if policy and getattr(policy, name) and policy.spot_placer != placer:
            yield f"service.replica_policy.{name}: it refines `spot_placer: {placer}`, and nothing without it"


def _later(section: BaseModel, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    for name, field in type(section).model_fields.items():
        if name not in section.model_fields_set:
            continue
        value = getattr(section, name)
        marks = [mark for mark in field.metadata if isinstance(mark, Later) and mark.when(value)]
        if marks:
            yield (*path, name), marks[0].sentence
        elif isinstance(value, BaseModel):
            yield from _later(value, (*path, name))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from _later(item, (*path, name, index))


def _probe(probe: str | Probe) -> ProbeSpec:
    if isinstance(probe, str):
        return ProbeSpec(path=probe)
    return ProbeSpec(
        path=probe.path,
        post_data=None if probe.post_data is None else forms.json_text(probe.post_data),
        headers=tuple(probe.headers.items()),
        initial_delay_s=probe.initial_delay_seconds,
        timeout_s=probe.timeout_seconds,
        interval_s=probe.endpoint_probe_interval_seconds,
        failure_threshold_s=probe.consecutive_failure_threshold_timeout,
    )


def _scaling(service: Service) -> ScalingSpec:
    policy = service.replica_policy
    if policy is None:
        replicas = 1 if service.replicas is None else service.replicas
        return ScalingSpec(min_replicas=replicas, max_replicas=replicas)
    target = policy.target_qps_per_replica
    by_accelerator = target if isinstance(target, dict) else {}
    return ScalingSpec(
        min_replicas=policy.min_replicas,
        max_replicas=policy.min_replicas if policy.max_replicas is None else policy.max_replicas,
        target_qps_per_replica=min(by_accelerator.values()) if isinstance(target, dict) else target,
        target_qps_by_accelerator=tuple(by_accelerator.items()),
        upscale_delay_s=policy.upscale_delay_seconds,
        downscale_delay_s=policy.downscale_delay_seconds,
        qps_window_s=policy.qps_window_seconds,
        metric=Metric.PROMETHEUS if isinstance(policy.metric, PrometheusMetric) else Metric(policy.metric),
        metric_name=policy.metric.prometheus if isinstance(policy.metric, PrometheusMetric) else "",
        target_per_replica=policy.target,
        panic_window_s=policy.panic_window_seconds or 0.0,
        panic_threshold=policy.panic_threshold,
        look_ahead=policy.look_ahead,
        schedule=tuple(
            ScheduledBounds(entry.cron, entry.timezone, entry.min_replicas, entry.max_replicas)
            for entry in policy.schedule
        ),
    )


def _spot(service: Service) -> SpotSpec:
    policy = service.replica_policy
    if policy is None:
        return SpotSpec()
    return SpotSpec(
        num_overprovision=policy.num_overprovision or 0,
        dynamic_ondemand_fallback=policy.dynamic_ondemand_fallback,
        base_ondemand_fallback_replicas=policy.base_ondemand_fallback_replicas,
        placer=policy.spot_placer or "",
        max_spot_price_ratio=policy.max_spot_price_ratio,
        spread=policy.spot_spread,
        zone_memory_s=policy.spot_zone_memory_seconds or 0.0,
        replace_on_rebalance=policy.replace_on_rebalance,
        availability_target=policy.availability_target or 0.0,
        zone_backoff=policy.spot_zone_backoff,
    )


def _budget(service: Service) -> BudgetSpec:
    given = service.budget
    if given is None:
        return BudgetSpec()
    return BudgetSpec(given.max_usd_per_hour, given.max_usd_per_month, shut_down=given.action == "shut_down")


def _routing(service: Service, envs: Mapping[str, str], secrets: Mapping[str, str]) -> RoutingSpec:
    given = service.routing
    return RoutingSpec(
        policy=service.load_balancing_policy,
        mode=given.mode,
        wait_for_replica_s=given.wait_for_replica_s,
        access=service.access.keys,
        engine_key_env=_engine_key_env(service.access, envs, secrets),
        sticky_header=(given.sticky_header or "").lower(),
        prefix_characters=given.prefix_characters,
        slow_start_s=given.slow_start_s,
        prefer_near=given.prefer_near,
        models=tuple(dict.fromkeys(given.models or ())),
    )


def _engine_key_env(access: Access, envs: Mapping[str, str], secrets: Mapping[str, str]) -> str:
    """Of vLLM its own unless another is named; behind an open endpoint that one goes on keeping strangers out."""
    if access.engine_key_env is not None:
        return access.engine_key_env
    is_usable = access.keys == "required" and fits_header(envs.get(_VLLM_KEY, ""))
    return _VLLM_KEY if is_usable and (_VLLM_KEY in envs or _VLLM_KEY in secrets) else ""


def _engine(file: ServiceFile, resources: Resources, envs: Mapping[str, str]) -> EngineSpec:
    opened = [port for each in resources.candidates() if each.ports is not None for port in forms.ports(each.ports)]
    return EngineSpec(
        port=file.service.ports or opened[0],
        run=file.run or "",
        setup=file.setup or "",
        envs=tuple(envs.items()),
        workdir=file.workdir if isinstance(file.workdir, str) else "",
        num_nodes=file.num_nodes or 1,
        secrets=tuple(references.bound(file.secrets).items()),
    )


def _groups(resources: Resources) -> tuple[tuple[Requirement, ...], ...]:
    """Groups in order of preference: `ordered` and accelerator lists make several, `any_of` and sets fill one."""
    groups = [group for candidate in resources.candidates() for group in _candidate_groups(candidate)]
    if resources.any_of:
        groups = [tuple(requirement for group in groups for requirement in group)]
    return tuple(tuple(dict.fromkeys(group)) for group in dict.fromkeys(groups))


def _candidate_groups(candidate: Candidate) -> list[tuple[Requirement, ...]]:
    requirement = _requirement(candidate)
    match candidate.accelerators:
        case None:
            return [(requirement,)]
        case str(text):
            return [(_with_accelerator(requirement, text),)]
        case list(texts):
            return [(_with_accelerator(requirement, text),) for text in texts]
        case counts:
            return [tuple(_with_accelerator(requirement, text, count) for text, count in counts.items())]


def _with_accelerator(requirement: Requirement, text: str, count: int | None = None) -> Requirement:
    wanted = forms.accelerator(text)
    number = count or wanted.count or 1
    if wanted.memory is None:
        return replace(requirement, accelerators=((wanted.name, number),))
    if wanted.memory.at_least:
        return replace(requirement, accelerator_memory_min_gib=wanted.memory.number, accelerator_memory_count=number)
    return replace(requirement, accelerator_memory_exact_gib=wanted.memory.number, accelerator_memory_count=number)


def _requirement(candidate: Candidate) -> Requirement:
    place = (candidate.cloud or "", candidate.region or "", candidate.zone or "")
    provider, region, zone = forms.infra(candidate.infra) if candidate.infra else place
    cpus_min, cpus_exact = _bounds(None if candidate.cpus is None else forms.amount(candidate.cpus))
    memory_min, memory_exact = _bounds(None if candidate.memory is None else forms.memory(candidate.memory))
    return Requirement(
        provider=provider,
        region=region,
        zone=zone,
        instance_type=candidate.instance_type or "",
        vcpus_min=cpus_min,
        vcpus_exact=cpus_exact,
        memory_min_gib=memory_min,
        memory_exact_gib=memory_exact,
        use_spot=candidate.use_spot,
        max_usd_per_hour=candidate.max_hourly_cost or 0.0,
        disk_size_gib=0 if candidate.disk_size is None else forms.disk_size(candidate.disk_size),
        disk_tier="" if candidate.disk_tier in (None, "none") else candidate.disk_tier,
        network_tier=candidate.network_tier or "",
        image_id=candidate.image_id if isinstance(candidate.image_id, str) else "",
        labels=tuple(sorted(candidate.labels.items())),
    )


def _bounds(amount: forms.Amount | None) -> tuple[float, float]:
    """(minimum, exact), 0 where there is none."""
    if amount is None:
        return 0.0, 0.0
    return (amount.number, 0.0) if amount.at_least else (0.0, amount.number)


def _fingerprint(spec: ServiceSpec, file: ServiceFile, resources: Resources) -> str:
    """A digest of what a running replica was made from; see `ServiceSpec.fingerprint`."""
    engine = asdict(spec.engine)
    del engine["secrets"]  # what has none keeps the digest that it had before there were any
    secrets = {"secrets": sorted(spec.engine.secrets)} if spec.engine.secrets else {}
    made_from = {
        # Neither the order within a group nor that of variables reaches a replica.
        "resources": [sorted(map(asdict, group), key=json.dumps) for group in spec.resources.groups],
        "images": [each.image_id for each in resources.candidates() if isinstance(each.image_id, dict)],
        "engine": engine | {"envs": sorted(spec.engine.envs)} | secrets,
        # Its agent was told what to do with clients' keys.
        "access": (spec.routing.access, spec.routing.engine_key_env),
        "repository": file.workdir.model_dump() if isinstance(file.workdir, GitWorkdir) else None,
        "file_mounts": {
            path: source if isinstance(source, str) else source.model_dump()
            for path, source in (file.file_mounts or {}).items()
        },
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
