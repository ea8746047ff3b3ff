"""What the nouns show of themselves."""

from __future__ import annotations

from chalicelib.model import EngineSpec, ProbeSpec, ResourceRequest, RoutingSpec, ScalingSpec, ServiceSpec, SpecVersion


def test_no_noun_shows_the_users_secrets() -> None:
    """Environment, probe headers and body, and the file itself hold keys; a repr ends up in a log sooner or later."""
    secret = "hf_not_for_logs"
    spec = ServiceSpec(
        probe=ProbeSpec(post_data=secret, headers=(("Authorization", secret),)),
        scaling=ScalingSpec(),
        routing=RoutingSpec(),
        resources=ResourceRequest(),
        engine=EngineSpec(port=8080, envs=(("HF_TOKEN", secret),)),
    )
    assert secret not in repr(SpecVersion("hello", 1, spec, secret, 0.0))
