"""What the nouns show of themselves."""

from __future__ import annotations

from itertools import product

from chalicelib.model import (
    EngineSpec,
    ProbeSpec,
    ResourceRequest,
    RoutingSpec,
    ScalingSpec,
    SecretBinding,
    ServiceSpec,
    SpecVersion,
)


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


def test_a_narrowed_binding_covers_what_both_do() -> None:
    """Names, beginnings that lie in one another or apart, and all: never more, never less."""
    lists = [(), ("*",), ("llm-*",), ("llm-a",), ("llm-a*", "b"), ("llm", "llm-b", "c*")]
    names = ["llm", "llm-a", "llm-ab", "llm-b", "b", "c", "chat"]
    for one, other in product(lists, repeat=2):
        both, binding = SecretBinding("A", one).narrowed(other), SecretBinding("A", other)
        for name in names:
            assert both.covers(name) == (SecretBinding("A", one).covers(name) and binding.covers(name)), (one, other)
