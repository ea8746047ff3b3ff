"""Documents outlive the release that wrote them."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model import Reason, Replica, ReplicaStatus, RouterLoad
from chalicelib.store.documents import (
    add_counts,
    event_key,
    event_key_after,
    from_json,
    packed,
    to_json,
    unpacked,
)
from tests.store.nouns import NOW, event, refusal, replica, service, spec, table

INSTANTS = st.floats(0, 4e9).map(lambda instant: round(instant, 6))
COUNTS = st.lists(st.tuples(st.integers(0, 2_000), st.integers(1, 9)))


@pytest.mark.parametrize(
    "noun",
    [
        service(),
        spec(),
        replica(status=ReplicaStatus.TERMINATED, reason=Reason.PREEMPTED, ready_at=NOW, error="☠"),
        RouterLoad("r1", 3, NOW, ((1, 2),)),
        table(),
        refusal(),
        event(data={"k": "v"}),
    ],
    ids=lambda noun: type(noun).__name__,
)
def test_a_document_reads_back_as_it_was(noun: object) -> None:
    """Enums, nested dataclasses, tuples and empty values included."""
    assert from_json(type(noun), to_json(noun)) == noun


def test_defaults_are_written_out() -> None:
    """A default that a later release changes must not change what is stored."""
    assert set(json.loads(to_json(replica()))) == set(Replica.__dataclass_fields__)


def test_documents_of_another_release_can_be_read() -> None:
    """A field that is missing takes its default, one that is unknown is ignored: releases overlap while deploying."""
    document = json.loads(to_json(replica()))
    del document["error"]
    document["added_later"] = 1
    assert from_json(Replica, json.dumps(document)) == replica()


@given(INSTANTS, INSTANTS, st.integers(0, 10**15), st.integers(0, 99))
def test_event_keys_sort_by_instant(one: float, other: float, commit: int, index: int) -> None:
    """Text order is time order, and `after` lies between an instant and everything later."""
    key = event_key(event(at=one), commit, index)
    assert (key > event_key_after(other)) == (one > other)


@given(COUNTS, COUNTS)
def test_counts_lose_nothing_but_the_old(first: list[tuple[int, int]], more: list[tuple[int, int]]) -> None:
    """Every request of the last 10 minutes is in the sum once, each second once, oldest first."""
    known = add_counts((), first, now=1_200)
    assert sum(n for _, n in known) == sum(n for second, n in first if second >= 600)
    merged = add_counts(known, more, now=1_500)
    told = [*((second, n) for second, n in first if second >= 600), *more]
    assert sum(n for _, n in merged) == sum(n for second, n in told if second >= 900)
    assert [second for second, _ in merged] == sorted({second for second, _ in told if second >= 900})


@given(st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 9))))
def test_counts_are_written_densely_and_lose_nothing(counts: list[tuple[int, int]]) -> None:
    """What is packed reads back as it was, and ten busy minutes stay below 0.8 KB: DynamoDB bills what is written by the KB."""
    known = add_counts((), counts, now=0)
    assert unpacked(packed(known)) == known
    noise = b"".join(hashlib.sha512(bytes([n])).digest() for n in range(10))  # some 50 a second, in no order
    busy = tuple((1_800_000_000 + second, 42 + noise[second] % 16) for second in range(600))
    assert len(packed(busy)) < 800
