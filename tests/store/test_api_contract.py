"""What every store promises the API: admin keys, claims, the audit, lists by the page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.errors import Exists, NotFound
from chalicelib.model import AdminKey, AuditEntry, Claim, Scope
from chalicelib.ports import Commit, Store
from tests.fakes import FakeClock
from tests.store.conftest import Database
from tests.store.nouns import NOW, event, service, spec
from tests.store.test_contract import at_once

DAY_S = 86_400.0


def admin_key(key_id: str = "0123456789", **fields: Any) -> AdminKey:
    base: dict[str, Any] = {"name": "ci", "hash": "ab" * 32, "scopes": frozenset({Scope.DEPLOY, Scope.KEYS})}
    return AdminKey(key_id, **({"created_at": NOW} | base | fields))


def claim(holder: str = "first", **fields: Any) -> Claim:
    base: dict[str, Any] = {"request": "create it", "seed": f"seed of {holder}", "held_until": NOW + 60}
    return Claim("id", holder=holder, **({"forget_at": NOW + DAY_S} | base | fields))


def entry(at: float = NOW, entry_id: str = "r1", **fields: Any) -> AuditEntry:
    base: dict[str, Any] = {"principal": "root", "name": "root", "operation": "create", "method": "POST"}
    return AuditEntry(entry_id, at, path="/v1/services", ip="127.0.0.1", **(base | fields))


# --- admin keys ---


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
    """The second is refused and the first stays as it is; a revoked one is gone, revoked once, and never written again."""
    first = store.create_admin_key(admin_key())
    with pytest.raises(Exists, match="0123456789"):
        store.create_admin_key(admin_key(hash="other"))
    assert store.admin_keys() == (first,)
    store.revoke_admin_key(first.id)
    assert store.admin_keys() == ()
    assert store.admin_key(first.id) is None
    with pytest.raises(NotFound, match="0123456789"):
        store.revoke_admin_key(first.id)
    with pytest.raises(Exists, match="was revoked"):
        store.create_admin_key(replace(first, version=0))
    assert store.admin_keys() == ()


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


# --- claims ---


def test_the_first_claim_stands(store: Store) -> None:
    """Whoever comes later, with whatever request, is told of it; another id is another claim."""
    first = claim()
    assert store.claim(first, NOW) == first
    assert store.claim(claim("second"), NOW + 59) == first
    assert store.claim(claim("third", request="something else"), NOW + 61) == first
    other = replace(claim("second"), id="other")
    assert store.claim(other, NOW) == other


def test_one_of_many_claims_stands(store: Store) -> None:
    """Of 16 made at the same moment all are told of one, whose holder is among them."""
    stand = at_once(lambda number: store.claim(claim(str(number)), NOW))
    assert len({one.holder for one in stand}) == 1
    assert stand[0] == claim(stand[0].holder)


def test_an_answer_is_kept_for_as_long_as_was_said(store: Store) -> None:
    """Then the id is free again, and nothing of the old claim is left."""
    first = store.claim(claim(), NOW)
    store.settle(first, "sealed")
    assert store.claim(claim("second"), NOW + DAY_S - 1) == replace(first, answer="sealed")
    new = claim("third", request="something else", forget_at=NOW + 9 * DAY_S)
    assert store.claim(new, NOW + DAY_S) == new


def test_a_dead_holder_s_claim_goes_over_with_its_seed(store: Store) -> None:
    """To one of those who ask for the same; what the dead one says after all is not heard."""
    first = store.claim(claim(), NOW)
    heir = claim("second", held_until=NOW + 120)
    taken = store.claim(heir, NOW + 60)
    assert taken == replace(first, holder="second", held_until=NOW + 120)
    store.settle(first, "too late")
    store.give_up(first)
    assert store.claim(claim("third"), NOW + 61) == taken
    store.settle(taken, "sealed")
    assert store.claim(claim("third"), NOW + 999) == replace(taken, answer="sealed")


def test_one_of_many_heirs_takes_over(store: Store) -> None:
    """All of them are told of the same one."""
    store.claim(claim(), NOW)
    stand = at_once(lambda number: store.claim(claim(str(number), held_until=NOW + 200), NOW + 100))
    assert len({one.holder for one in stand}) == 1
    assert stand[0].holder != "first"


def test_a_claim_given_up_goes_over_at_once(store: Store) -> None:
    """With its seed too: nobody knows how far its holder came."""
    first = store.claim(claim(), NOW)
    store.give_up(first)
    assert store.claim(claim("second"), NOW + 1) == replace(first, holder="second")


def test_a_claim_costs_one_request_and_its_answer_another(database: Database) -> None:
    """Where there was one already it is read as well."""
    first = database.store.claim(claim(), NOW)
    assert database.requests == {"PutItem": 1}
    database.store.settle(first, "sealed")
    assert database.requests == {"PutItem": 1, "UpdateItem": 1}
    database.store.claim(claim("second"), NOW)
    assert database.requests == {"PutItem": 2, "UpdateItem": 1, "GetItem": 1}


# --- audit ---


def test_the_audit_is_read_from_the_newest_on(store: Store) -> None:
    """An entry written again, with what became of it, takes the place of the first; two of one instant are two."""
    store.record_audit(entry())
    store.record_audit(entry(entry_id="r0"))
    store.record_audit(entry(NOW + 1))
    done = entry(status=201, replayed=True)
    store.record_audit(done)
    page = store.audit_page(limit=10)
    assert [one for _, one in page] == [entry(NOW + 1), done, entry(entry_id="r0")]
    assert store.audit_page(limit=2) == page[:2]
    assert store.audit_page(limit=5, upto=page[1][0]) == page[1:]
    assert store.audit_page(limit=5, upto="0") == ()


def test_the_audit_is_kept_for_90_days(store: Store, clock: FakeClock) -> None:
    """And no longer."""
    store.record_audit(entry())
    clock.advance(90 * DAY_S - 1)
    assert len(store.audit_page(limit=5)) == 1
    clock.advance(1)
    assert store.audit_page(limit=5) == ()


# --- pages ---


def test_events_are_read_by_the_page(store: Store, clock: FakeClock) -> None:
    """Newest first, each with its place: all of them once, those of one instant too, and of one kind only where asked."""
    many = tuple(event(str(number), at=NOW + number // 4, kind="ab"[number % 2]) for number in range(12))
    store.commit("hello", None, Commit(events=many))
    clock.advance(10)
    whole = store.events_page("hello", limit=99)
    assert [one for _, one in reversed(whole)] == list(many)
    seen, upto = [], ""
    while page := store.events_page("hello", limit=6, upto=upto):
        seen += [one.message for _, one in page[:5]]
        if len(page) < 6:
            break
        upto = page[5][0]
    assert seen == [str(number) for number in range(11, -1, -1)]
    odd = store.events_page("hello", limit=3, upto=whole[2][0], kind="b")
    assert [one.message for _, one in odd] == ["9", "7", "5"]
    assert [one.message for _, one in store.events_page("hello", limit=9, after=NOW + 1, upto=whole[3][0])] == ["8"]


def test_versions_are_read_by_the_page(store: Store) -> None:
    """From a number on, so many at the most."""
    written = store.create_service(service(), spec())
    for number in range(2, 6):
        written = store.add_version(replace(written, spec_version=number), spec(number=number))
    assert [one.number for one in store.specs("hello", start=2, limit=3)] == [2, 3, 4]
    assert [one.number for one in store.specs("hello", start=4, limit=3)] == [4, 5]
    assert store.specs("hello", start=999_999_999) == ()
