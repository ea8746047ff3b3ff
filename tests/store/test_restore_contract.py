"""What every store promises of a service that comes from elsewhere, with its past."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.errors import Exists
from chalicelib.ports import Store
from tests.store.nouns import NOW, event, service, spec


def test_a_restored_service_has_all_its_versions(store: Store) -> None:
    """And goes on from there: the next version follows, and it is deleted with all of them."""
    versions = tuple(spec(number=number) for number in (3, 5, 6))
    written = store.create_service(replace(service(), spec_version=6), versions[-1], (event(),), earlier=versions[:-1])
    state = store.load(written.name)
    assert state is not None
    assert (state.service, state.service.version, state.replicas) == (written, 1, ())
    assert store.specs(written.name) == versions
    assert store.service_names() == (written.name,)
    assert store.events(written.name) == (event(),)
    lease = store.acquire_lease(written.name, "x", 60, NOW)
    store.delete_service(lease, written)
    assert store.specs(written.name) == ()


def test_a_service_that_is_there_is_left_as_it_is(store: Store) -> None:
    """No version of the other one is written beside its own."""
    first = store.create_service(service(), spec(number=1))
    with pytest.raises(Exists):
        store.create_service(replace(service(), uid="other", spec_version=7), spec(number=7), earlier=(spec(number=6),))
    state = store.load(first.name)
    assert state is not None
    assert state.service == first
    assert [version.number for version in store.specs(first.name)] == [1]


def test_as_many_versions_as_are_promised_fit(store: Store) -> None:
    """Ninety, in one transaction."""
    versions = tuple(spec(number=number) for number in range(1, 91))
    store.create_service(replace(service(), spec_version=90), versions[-1], (event(),), earlier=versions[:-1])
    assert len(store.specs(service().name)) == 90
