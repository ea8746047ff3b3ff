"""What every store promises of hooks, deliveries and trusts, asked of memory, MiniStack and (strict_store) DynamoDB Local."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.errors import Conflict, Exists, NotFound
from chalicelib.model import Hook, HookKind, OidcIssuer, Outcome, Push, SecretBinding, Trust
from chalicelib.ports import Commit, Store
from tests.fakes import FakeClock
from tests.store.nouns import NOW, event, service, spec

DAY_S = 86_400.0
HOOK = Hook(
    id="0123456789",
    kind=HookKind.GITLAB,
    service="hello",
    created_at=NOW,
    repository="acme/app",
    branch="main",
    path="service.yaml",
    api_url="https://gitlab.com/api/v4",
    token_secret="gitlab-token",
    generation=2,
    old_key_until=NOW + 1.5,
    push=Push("a" * 40, NOW, NOW - 1, "service: {}"),
    is_pending=True,
    outcome=Outcome("b" * 40, NOW - 2, 0, "refused", is_told=False),
    look_at=NOW + 300,
    failures=1,
    trouble="down",
)
TRUST = Trust(
    "0123456789", OidcIssuer.GITHUB, "https://issuer", "acme/app", ("hello",), NOW, "refs/heads/*", "prod", "42"
)


def made(store: Store) -> Hook:
    return store.create_hook(HOOK)


def deployed(store: Store, hook: Hook, **fields: Any) -> None:
    store.create_service(service(**fields), spec(), (event("created"),), hook=replace(hook, failures=7))


def test_a_hook_is_read_back_as_it_was_written(store: Store) -> None:
    """By its id and among all, at version 1; its id is taken then."""
    assert store.hooks() == ()
    assert store.hook(HOOK.id) is None
    assert made(store) == replace(HOOK, version=1)
    assert store.hook(HOOK.id) == replace(HOOK, version=1)
    other = store.create_hook(replace(HOOK, id="0000000000", look_at=None, push=None, outcome=None))
    assert store.hooks() == (other, replace(HOOK, version=1))
    with pytest.raises(Exists, match=HOOK.id):
        store.create_hook(replace(HOOK, service="other"))


def test_a_hook_that_is_deleted_stays_so(store: Store) -> None:
    """Neither whoever was at work on it brings it back, nor a backup of before."""
    hook = made(store)
    store.delete_hook(hook.id)
    assert store.hook(hook.id) is None
    with pytest.raises(NotFound, match=hook.id):
        store.delete_hook(hook.id)
    with pytest.raises(Conflict):
        store.commit("hello", None, Commit(hook=hook, events=(event("late"),)))
    with pytest.raises(Conflict):
        store.record_push(hook, ["d1"], NOW + DAY_S)
    with pytest.raises(Exists, match="revoked or removed"):
        store.create_hook(HOOK)
    assert (store.hooks(), store.events("hello")) == ((), ())


def test_a_push_and_its_delivery_are_one_write(store: Store) -> None:
    """Either of its names, again, changes nothing, and neither is remembered when the hook had changed."""
    hook = made(store)
    assert store.record_push(replace(hook, trouble="first"), ["d1", "digest1"], NOW + DAY_S)
    written = store.hook(hook.id)
    assert written == replace(hook, trouble="first", version=2)
    for again in (["d1", "digest2"], ["d2", "digest1"]):
        assert not store.record_push(replace(written, trouble="again"), again, NOW + DAY_S)
    assert store.hook(hook.id) == written
    with pytest.raises(Conflict):
        store.record_push(hook, ["d3"], NOW + DAY_S)
    assert store.record_push(written, ["d2", "digest2"], NOW + DAY_S)
    assert not store.record_push(replace(written, version=3), ["d2"], NOW + DAY_S)


def test_deliveries_are_remembered_for_a_while(store: Store, clock: FakeClock) -> None:
    """Of each source by itself, until the instant that was given."""
    assert store.remember_delivery("one", "d", NOW + 3 * DAY_S)
    assert not store.remember_delivery("one", "d", NOW + 9 * DAY_S)
    assert store.remember_delivery("other", "d", NOW + 3 * DAY_S)
    clock.advance(3 * DAY_S - 1)
    assert not store.remember_delivery("one", "d", NOW + 9 * DAY_S)
    clock.advance(1)
    assert store.remember_delivery("one", "d", NOW + 9 * DAY_S)


def test_a_service_and_its_hook_are_one_write(store: Store) -> None:
    """Neither is written when the other cannot be: a name that is taken, a version or a hook that changed meanwhile."""
    hook = made(store)
    deployed(store, hook)
    written = store.hook(hook.id)
    assert written == replace(hook, failures=7, version=2)
    with pytest.raises(Exists):
        deployed(store, written, uid="ffff")
    with pytest.raises(Conflict):
        deployed(store, hook, name="second")
    state = store.load("hello")
    assert state
    following = replace(state.service, spec_version=2)
    with pytest.raises(Conflict):
        store.add_version(following, spec(number=2), (event("never"),), hook=hook)
    with pytest.raises(Conflict):
        store.add_version(replace(following, version=9), spec(number=2), hook=written)
    assert store.hook(hook.id) == written
    assert (store.service_names(), len(store.specs("hello"))) == (("hello",), 1)
    store.add_version(following, spec(number=2), hook=replace(written, failures=0))
    assert store.hook(hook.id) == replace(written, failures=0, version=3)
    assert [one.message for one in store.events("hello")] == ["created"]


def test_a_hook_and_an_event_are_one_write(store: Store) -> None:
    """As when a push was refused: the service need not exist."""
    hook = made(store)
    store.commit("hello", None, Commit(hook=replace(hook, trouble="why"), events=(event("refused"),)))
    assert store.hook(hook.id) == replace(hook, trouble="why", version=2)
    with pytest.raises(Conflict):
        store.commit("hello", None, Commit(hook=hook, events=(event("never"),)))
    assert [one.message for one in store.events("hello")] == ["refused"]


def test_of_many_that_deliver_the_same_one_is_first(store: Store) -> None:
    """At the same moment: one is recorded, the others are duplicates or come too late."""
    hook = made(store)

    def deliver(_number: int) -> bool:
        try:
            return store.record_push(hook, ["d1"], NOW + DAY_S)
        except Conflict:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(deliver, range(8))) == 1


def test_trusts_come_and_go(store: Store) -> None:
    """As they were written, by id; one that was removed never again."""
    assert store.create_trust(TRUST) == TRUST
    with pytest.raises(Exists, match=TRUST.id):
        store.create_trust(replace(TRUST, services=("*",)))
    other = store.create_trust(replace(TRUST, id="0000000000", ref="", environment="prod"))
    assert store.trusts() == (other, TRUST)
    store.delete_trust(TRUST.id)
    with pytest.raises(NotFound, match=TRUST.id):
        store.delete_trust(TRUST.id)
    with pytest.raises(Exists, match="revoked or removed"):
        store.create_trust(TRUST)
    assert store.trusts() == (other,)


def test_a_trust_is_changed_as_it_is_known(store: Store) -> None:
    """By one of two who saw the same, and not at all when it is gone."""
    store.create_trust(TRUST)
    pinned = replace(TRUST, repository_id="43")
    store.change_trust(TRUST, pinned)
    assert store.trusts() == (pinned,)
    with pytest.raises(Conflict, match=TRUST.id):
        store.change_trust(TRUST, replace(TRUST, repository_id="44"))
    assert store.trusts() == (pinned,)
    store.delete_trust(TRUST.id)
    with pytest.raises(Conflict, match=TRUST.id):
        store.change_trust(pinned, TRUST)
    assert store.trusts() == ()


def test_bindings_of_secrets_come_and_go(store: Store) -> None:
    """By secret; the later one counts, and one that is not there is as good as forgotten."""
    wide, none = SecretBinding("HF_TOKEN", ("chat", "llm-*")), SecretBinding("A", ())
    for binding in (wide, none, replace(wide, services=("chat",))):
        store.bind_secret(binding)
    assert store.secret_bindings() == (none, SecretBinding("HF_TOKEN", ("chat",)))
    for _ in range(2):
        store.unbind_secret("A")
    assert [binding.secret for binding in store.secret_bindings()] == ["HF_TOKEN"]
