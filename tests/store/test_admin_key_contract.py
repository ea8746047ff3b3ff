"""What every store promises of admin keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.errors import Exists, NotFound
from chalicelib.model import AdminKey, Scope
from chalicelib.ports import Store
from tests.fakes import FakeClock
from tests.store.conftest import Database
from tests.store.nouns import NOW

DAY_S = 86_400.0


def admin_key(key_id: str = "0123456789", **fields: Any) -> AdminKey:
    base: dict[str, Any] = {"name": "ci", "hash": "ab" * 32, "scopes": frozenset({Scope.DEPLOY, Scope.KEYS})}
    return AdminKey(key_id, **({"created_at": NOW} | base | fields))


def test_an_admin_key_is_read_back_as_it_was_written(store: Store) -> None:
    """Alone by its id, and among all in the order of their making."""
    full = admin_key("b", services=("a", "b"), expires_at=NOW + 60, created_by="root")
    written = store.create_admin_key(full)
    assert written == replace(full, version=1)
    later, same_instant = (
        store.create_admin_key(admin_key("0", created_at=NOW + 1)),
        store.create_admin_key(admin_key("a")),
    )
    assert store.admin_key("b") == written
    assert store.admin_key("c") is None
    assert store.admin_keys() == (same_instant, written, later)


def test_an_admin_key_s_id_is_taken_once(store: Store) -> None:
    """The second is refused and the first stays as it is; a revoked one is gone, and revoked once."""
    first = store.create_admin_key(admin_key())
    with pytest.raises(Exists, match="0123456789"):
        store.create_admin_key(admin_key(hash="other"))
    assert store.admin_keys() == (first,)
    store.revoke_admin_key(first.id)
    assert store.admin_keys() == ()
    assert store.admin_key(first.id) is None
    with pytest.raises(NotFound, match="0123456789"):
        store.revoke_admin_key(first.id)


def test_an_expired_admin_key_stays_listed_as_long_as_it_was_good(store: Store, clock: FakeClock) -> None:
    """A job's key of some minutes goes soon, a person's after a week, one without end never."""
    store.create_admin_key(admin_key("a", expires_at=NOW + 900))
    store.create_admin_key(admin_key("b", expires_at=NOW + 90 * DAY_S))
    store.create_admin_key(admin_key("c"))

    def listed(after_s: float) -> str:
        clock.time = NOW + after_s
        return "".join(key.id for key in store.admin_keys())

    assert listed(1799) == "abc"
    assert listed(1800) == "bc"
    assert listed(97 * DAY_S - 1) == "bc"
    assert listed(97 * DAY_S) == "c"


def test_the_last_use_of_an_admin_key_is_kept_to_the_hour(store: Store) -> None:
    """It is no change of the key; a key that is gone does not come back by it."""
    key = store.create_admin_key(admin_key())
    store.record_admin_key_used(key, NOW + 5)
    seen = store.admin_key(key.id)
    assert seen == replace(key, last_used_at=NOW + 5)
    store.record_admin_key_used(seen, NOW + 3604.9)
    assert store.admin_keys() == (seen,)
    store.record_admin_key_used(seen, NOW + 3605)
    assert store.admin_key(key.id) == replace(key, last_used_at=NOW + 3605)
    store.revoke_admin_key(key.id)
    store.record_admin_key_used(key, NOW + 9999)
    assert store.admin_keys() == ()


def test_looking_an_admin_key_up_is_one_request(database: Database) -> None:
    """Every request that shows one pays for it; noting its use costs one more, once an hour."""
    key = database.store.create_admin_key(admin_key())
    database.requests.clear()
    seen = database.store.admin_key(key.id)
    assert seen is not None
    assert database.requests == {"GetItem": 1}
    database.store.record_admin_key_used(seen, NOW)
    database.store.record_admin_key_used(replace(seen, last_used_at=NOW), NOW + 3599)
    assert database.requests == {"GetItem": 1, "UpdateItem": 1}
