"""What is not from us is nothing: keys, grants, tickets and tables that were forged, replayed elsewhere, changed or late."""

from __future__ import annotations

import hmac
import json
import random
import string
from base64 import urlsafe_b64encode
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chalicelib.identity import grant_keys
from edge_router.grants import TICKET_S, TTL_S
from edge_router.keys import by_hash
from edge_router.messages import Request
from edge_router.platforms.settings import Settings
from edge_router.router import Router
from edge_router.s3 import Role
from edge_router.sealing import secrets
from edge_router.table import Key, TableRefused
from tests.edge.fakes import BEARER, KEY, KEY_ID, TOKEN, seal, table
from tests.edge.test_router import Clock, header
from tests.edge.verifier import Verifier, of_location

FORGERIES = 10_000
URL = "https://10.0.0.1:8443/base"
PATH = b"/v1/chat/completions"
REPLICA = Verifier(TOKEN, "hello", "hello-a1b2-0-1", "b0070")
ALPHABET = string.ascii_letters + string.digits + "-_."


def routed(clock: Clock, **key: object) -> Router:
    router = Router(clock=clock, random=lambda: 0.0, first_seq=1, token=TOKEN)
    document = table(
        ("hello", "least_load", "READY", [URL]), ("other", "least_load", "READY", [URL]), access="required"
    )
    document["keys"][KEY_ID] |= key
    router.accept(seal(document))
    return router


def ask(router: Router, text: str, method: bytes = b"POST", path: bytes = b"/hello" + PATH) -> int:
    return router.handle(Request(method, path, b"", {b"authorization": b"Bearer " + text.encode()})).status


def flipped(text: str, dice: random.Random) -> str:
    """One bit of one character changed, which stays a character that a header or a path can carry."""
    while True:
        place, bit = dice.randrange(len(text)), 1 << dice.randrange(7)
        changed = chr(ord(text[place]) ^ bit)
        if changed.isprintable() and changed not in " /?#%":
            return text[:place] + changed + text[place + 1 :]


def issued(clock: Clock) -> bytes:
    response = routed(clock).handle(Request(b"POST", b"/hello" + PATH, b"", BEARER))
    location = header(response, b"location")
    assert location is not None
    return of_location(location)[0]


def test_ten_thousand_wrong_keys_open_nothing() -> None:
    """Made up, with one bit changed, cut short, lengthened: none gets further than 401; the right one does."""
    clock, dice = Clock(), random.Random(1)
    router = routed(clock)
    made_up = (f"sp_{KEY_ID}_{''.join(dice.choices(ALPHABET, k=43))}" for _ in range(FORGERIES // 2))
    changed = (flipped(KEY, dice) for _ in range(FORGERIES // 2))
    others = (KEY[:-1], KEY + "A", KEY.upper(), f"sp_{KEY_ID}", KEY_ID, "", "sp_", "0" * 64, f"Bearer {KEY}")
    seen = [ask(router, text) for text in (*made_up, *changed, *others) if text != KEY]
    assert len(seen) >= FORGERIES
    assert set(seen) == {401}
    assert ask(router, KEY) == 307
    assert router.batch().requests["hello"] == ((int(clock.now), 1),)


@given(st.binary(max_size=80))
def test_no_credential_but_the_right_one_opens(text: bytes) -> None:
    """Any bytes, under either header."""
    router = routed(Clock())
    for headers in ({b"authorization": text}, {b"authorization": b"Bearer " + text}, {b"x-api-key": text}):
        response = router.handle(Request(b"POST", b"/hello" + PATH, b"", headers))
        assert response.status == 401


def test_a_key_ends_when_it_says() -> None:
    """Good until the instant of its end, 401 from then on; gone from the table is gone."""
    clock = Clock()
    router = routed(clock, expires_at=clock.now + 10)
    assert ask(router, KEY) == 307
    clock.now += 9.999
    assert ask(router, KEY) == 307
    clock.now += 0.001
    assert ask(router, KEY) == 401
    clock.now -= 1
    document = table(("hello", "least_load", "READY", [URL]), access="required") | {"keys": {}}
    router.accept(seal(document))
    assert ask(router, KEY) == 401


def test_what_has_expired_is_what_never_was() -> None:
    """It is not even found, which could be told by the time that it takes."""
    good, ended = (Key(name, name * 64, frozenset("*"), expires_at=at) for name, at in (("a", 5.1), ("b", 5.0)))
    assert by_hash([good, ended], now=5.0) == {good.hash: good}


def test_a_key_opens_what_it_is_for() -> None:
    """403 at another service that is there, 404 at one that is not."""
    router = routed(Clock(), services=["other"])
    assert ask(router, KEY) == 403
    assert ask(router, KEY, path=b"/other/x") == 307
    assert ask(router, KEY, path=b"/none/x") == 404


def test_a_grant_opens_what_it_was_made_for() -> None:
    """The replica honours it for the minute, for any encoding of the path."""
    clock = Clock()
    grant = issued(clock)
    assert REPLICA.honours(grant, b"POST", PATH, clock.now)
    assert REPLICA.honours(grant, b"POST", b"/v1/chat%2Fcompl%65tions", clock.now + TTL_S - 1)
    assert not REPLICA.honours(grant, b"POST", PATH, clock.now + TTL_S)


def test_ten_thousand_wrong_grants_open_nothing() -> None:
    """Made up, with one bit changed, or with a later expiry, another key, a larger share or a wider scope."""
    clock, dice = Clock(), random.Random(2)
    grant = issued(clock).decode()
    text = grant[:-44]
    made_up = [f"{text}.{''.join(dice.choices(ALPHABET[:-1], k=43))}" for _ in range(FORGERIES // 2)]
    changed = [flipped(grant, dice) for _ in range(FORGERIES // 2)]
    fields = grant.split(".")
    edited = [
        ".".join([*fields[:place], value, *fields[place + 1 :]])
        for place, value in (
            (1, "9999999999"),
            (2, "-"),
            (2, "0ther00000"),
            (3, "9999"),
            (4, "9999"),
            (5, "p"),
            (6, ""),
        )
    ]
    forged = [each for each in (*made_up, *changed, *edited) if each != grant]
    assert len(forged) >= FORGERIES
    assert not [each for each in forged if REPLICA.honours(each.encode(), b"POST", PATH, clock.now)]


@pytest.mark.parametrize(
    ("where", "method", "path"),
    [
        (replace(REPLICA, replica_id="hello-a1b2-1-1"), b"POST", PATH),
        (replace(REPLICA, boot="b0071"), b"POST", PATH),
        (replace(REPLICA, service="other"), b"POST", PATH),
        (replace(REPLICA, token="another router token"), b"POST", PATH),
        (REPLICA, b"GET", PATH),
        (REPLICA, b"POST", b"/v1/completions"),
        (REPLICA, b"POST", PATH + b"/"),
        (REPLICA, b"POST", b"/" + PATH),
    ],
)
def test_a_grant_opens_nothing_else(where: Verifier, method: bytes, path: bytes) -> None:
    """Replayed at another replica, boot, service, deployment, with another method or path."""
    clock = Clock()
    grant = issued(clock)
    assert REPLICA.honours(grant, b"POST", PATH, clock.now)
    assert not where.honours(grant, method, path, clock.now)


@given(
    st.text(ALPHABET, min_size=1, max_size=12),
    st.sampled_from([b"GET", b"POST", b"PUT"]),
    st.binary(max_size=12),
    st.sampled_from([b"GET", b"POST", b"PUT"]),
    st.binary(max_size=12),
)
def test_grants_are_bound(boot: str, method: bytes, path: bytes, other_method: bytes, other_path: bytes) -> None:
    """Whatever is asked: the replica honours the grant for the same request and boot, and for no other."""
    clock = Clock()
    path, other_path = (each.translate(None, bytes(range(0x21)) + b"\x7f~?%") for each in (path, other_path))
    assume(path != b"_resolve")
    router = Router(clock=clock, random=lambda: 0.0, first_seq=1, token=TOKEN)
    document = table(("hello", "least_load", "READY", [URL]))
    document["services"]["hello"]["replicas"][0]["boot"] = boot
    router.accept(seal(document))
    location = header(router.handle(Request(method, b"/hello/" + path, b"", {})), b"location")
    assert location is not None
    grant, arrived = of_location(location)
    here = replace(REPLICA, boot=boot)
    assert here.honours(grant, method, arrived, clock.now)
    assert not replace(here, boot=boot + "x").honours(grant, method, arrived, clock.now)
    is_same = (method, path) == (other_method, other_path)
    assert here.honours(grant, other_method, b"/" + other_path, clock.now) is is_same


def ticket(grant: bytes, replica: str = "hello-a1b2-0-1~b0070", service: bytes = b"hello") -> bytes:
    return b"/" + service + b"/~" + grant + b"~" + replica.encode() + PATH


def test_a_late_client_comes_back_once() -> None:
    """Its grant has expired on the way and its key is lost: it gets another, which is no ticket again.

    Otherwise who finds one grant in a log could renew it for ever.
    """
    clock = Clock()
    router, grant = routed(clock), issued(clock)
    clock.now += TTL_S + 5
    response = router.handle(Request(b"POST", ticket(grant), b"", {}))
    assert response.status == 307
    renewed, path = of_location(header(response, b"location") or b"")
    assert path == PATH
    assert REPLICA.honours(renewed, b"POST", PATH, clock.now)
    assert router.handle(Request(b"POST", ticket(renewed), b"", {})).status == 401
    assert router.batch().requests["hello"] == ()  # its first visit was counted, by whichever router


@pytest.mark.parametrize(("method", "rest"), [(b"GET", b"/_resolve"), (b"GET", PATH), (b"POST", PATH)])
def test_a_resolved_grant_is_no_ticket(method: bytes, rest: bytes) -> None:
    """It is good for everything, so it would be a key while it can be renewed: its client asks `_resolve` again."""
    clock = Clock()
    router = routed(clock)
    resolved = json.loads(router.handle(Request(b"GET", b"/hello/_resolve", b"", BEARER)).body)["url"]
    back = b"/hello/~" + resolved.rpartition("~")[2].encode() + b"~hello-a1b2-0-1~b0070"
    clock.now += TTL_S + 5
    assert router.handle(Request(method, back + rest, b"", {})).status == 401


def test_a_ticket_is_as_good_as_its_key() -> None:
    """Not two minutes after it was written, not when the key is revoked, has expired, or is for another service."""
    clock = Clock()
    grant = issued(clock)
    came = Request(b"POST", ticket(grant), b"", {})
    clock.now += TTL_S + TICKET_S
    assert routed(clock).handle(came).status == 307
    assert routed(clock, expires_at=clock.now).handle(came).status == 401
    assert routed(clock, services=["other"]).handle(came).status == 403
    revoked = routed(clock)
    revoked.accept(seal(table(("hello", "least_load", "READY", [URL]), access="required") | {"keys": {}}))
    assert revoked.handle(came).status == 401
    assert TTL_S + TICKET_S < 120
    clock.now += 1
    assert routed(clock).handle(came).status == 401


def minted(service: bytes, text: bytes, expires: bytes = b"1700000000") -> bytes:
    """A ticket that a replica wrote itself, with the key of its own grants."""
    kid, key = next(iter(grant_keys([TOKEN], "hello-a1b2-0-1", "b0070").items()))
    signed = b".".join((kid.encode(), expires, text))
    mac = hmac.digest(bytes.fromhex(key), b"\n".join((signed, service, b"POST", PATH)), "sha256")
    return ticket(signed + b"." + urlsafe_b64encode(mac).rstrip(b"="), service=service)


def test_a_replica_that_was_taken_over_opens_no_other_service() -> None:
    """It knows its own key and can write tickets: good for its service only, and none of them ends in an exception."""
    clock = Clock()
    router = routed(clock)
    as_its_own = minted(b"hello", f"{KEY_ID}.-.-.x".encode())
    assert router.handle(Request(b"POST", as_its_own, b"", {})).status == 307
    for path in (
        minted(b"other", f"{KEY_ID}.-.-.x".encode()),
        minted(b"hello", f"{KEY_ID}.-.x".encode()),
        minted(b"hello", b"\xff.-.-.x"),
        minted(b"hello", b""),
        minted(b"hello", f"{KEY_ID}.-.-.x".encode(), expires=b"soon"),
    ):
        assert router.handle(Request(b"POST", path, b"", {})).status == 401


def test_ten_thousand_wrong_tickets_open_nothing() -> None:
    """Changed in one bit, of another replica, boot, service, method or path: 401 or 400."""
    clock, dice = Clock(), random.Random(3)
    router, grant = routed(clock), issued(clock)
    good = ticket(grant)
    assert router.handle(Request(b"POST", good, b"", {})).status == 307
    head, tail = b"/hello/", PATH
    ours = good.removeprefix(head).removesuffix(tail).decode()
    changed = (head + flipped(ours, dice).encode() + tail for _ in range(FORGERIES))
    elsewhere = (
        ticket(grant, "hello-a1b2-1-1~b0070"),
        ticket(grant, "hello-a1b2-0-1~b0071"),
        ticket(grant, service=b"other"),
        good + b"/x",
    )
    seen = [router.handle(Request(b"POST", path, b"", {})).status for path in (*changed, *elsewhere)]
    seen.append(router.handle(Request(b"GET", good, b"", {})).status)
    assert set(seen) <= {400, 401, 404}
    assert len(seen) >= FORGERIES


def test_ten_thousand_wrong_tables_are_refused() -> None:
    """Changed in one bit anywhere, cut short, sealed with another token, not sealed: the table in use stays."""
    clock, dice = Clock(), random.Random(4)
    router = routed(clock)
    document = table(("hello", "least_load", "READY", ["http://evil.example"]), etag="evil")
    sealed = seal(document)
    forged = [flipped_anywhere(sealed, dice) for _ in range(FORGERIES)]
    forged += [seal(document, "another"), json.dumps(document), "", sealed[:-1], sealed + " ", "sailplane-table 1 "]
    for each in forged:
        with pytest.raises(TableRefused):
            router.accept(each)
    assert router.etag == "one"
    router.accept(sealed)
    assert router.etag == "evil"


def flipped_anywhere(text: str, dice: random.Random) -> str:
    place = dice.randrange(len(text))
    return text[:place] + chr(ord(text[place]) ^ (1 << dice.randrange(7))) + text[place + 1 :]


@given(st.text(max_size=200))
def test_no_text_crashes_the_seal(text: str) -> None:
    """Whatever lies in the object storage."""
    router = routed(Clock())
    for each in (text, "sailplane-table 1 " + text, "sailplane-table 1 a b\n" + text):
        with pytest.raises(TableRefused):
            router.accept(each)


def test_tokens_rotate() -> None:
    """A router that knows the old token and the new one takes tables of both, writes grants with the first, and takes
    tickets of both.
    """  # noqa: D205 the sentence is the summary
    clock = Clock()
    old_grant = issued(clock)
    router = Router(clock=clock, random=lambda: 0.0, first_seq=1, token=f"new-token, {TOKEN}")
    document = table(("hello", "least_load", "READY", [URL]), access="required")
    router.accept(seal(document))
    router.accept(seal(document, "new-token"))
    location = header(router.handle(Request(b"POST", b"/hello" + PATH, b"", BEARER)), b"location") or b""
    assert replace(REPLICA, token="new-token").honours(of_location(location)[0], b"POST", PATH, clock.now)
    assert router.handle(Request(b"POST", ticket(old_grant), b"", {})).status == 307
    with pytest.raises(ValueError, match="empty"):
        Router(clock=clock, random=lambda: 0.0, first_seq=1, token=" , ")


def test_secrets_do_not_show() -> None:
    """Not where a program's state is printed, as by an error reporter."""
    secret = secrets(TOKEN)[0]
    role = Role("us-east-1", "AKIA", "of-the-role", "of-its-session")
    known = Settings("https://control", TOKEN, 1.0, "", "https://bucket/table?signature=x", "", role)
    for hidden in (
        repr(secret.grant_root),
        repr(secret.table_key),
        TOKEN,
        "signature",
        "of-the-role",
        "of-its-session",
    ):
        assert hidden not in repr((secret, known))
