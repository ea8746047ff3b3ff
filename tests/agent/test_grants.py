"""A grant is what a router signed, for this replica, in this boot, for this service, method and path, and nothing else is."""

from __future__ import annotations

import base64
from collections.abc import Callable
from random import Random
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.identity import grant_keys
from edge_router.grants import ANY, ONE, RENEWED, Use
from edge_router.grants import Grants as RoutersGrants
from edge_router.quotas import Share
from edge_router.sealing import secrets
from edge_router.table import Replica
from replica_agent.grants import Grant, Grants, join, split
from tests.agent.running import GRANT_KEY, KID, grant

GRANTS = Grants({KID: GRANT_KEY, "99999999": b"next year's"}, "hello")
PATH = "/v1/chat/completions"


def read(text: str, method: str = "POST", path: str = PATH) -> Grant | None:
    return GRANTS.read(text.encode(), method.encode(), path.encode())


def test_a_routers_grant_says_who_and_how_much() -> None:
    """The endpoint key, what it may use of this replica, and until when."""
    text = grant("POST", PATH, key_id="abc0123456", rate="2500", concurrency="4")
    found = read(text)
    assert found is not None
    assert found == Grant(text.encode(), found.expires_at, b"abc0123456", rate_share=2500, concurrency_share=4)


@given(
    st.sampled_from([ONE, ANY, RENEWED]),
    st.sampled_from([b"GET", b"POST"]),
    st.binary().map(lambda path: b"/" + path),
    st.none() | st.integers(0, 10**9),
    st.none() | st.integers(0, 10**6),
)
def test_the_three_programs_agree(
    scope: bytes, method: bytes, path: bytes, rate: int | None, concurrency: int | None
) -> None:
    """What the router writes, the agent reads with the keys that the control plane has told it, and takes for nothing else."""
    replica = Replica("svc-ab12-0-1", "http://192.0.2.1:7481", boot="n0")
    issued = RoutersGrants(secrets("router-token,older")).issue(
        replica, Use("svc", method, path), key_id="abc0123456", share=Share(rate, concurrency), scope=scope, now=1e9
    )
    grants = Grants(
        {name: bytes.fromhex(key) for name, key in grant_keys(["older", "router-token"], "svc-ab12-0-1", "n0").items()},
        "svc",
    )
    found = grants.read(issued, method, quote(path).encode())
    assert found == Grant(issued, 1_000_000_055, b"abc0123456", rate, concurrency)
    assert (grants.read(issued, b"PUT", quote(path).encode()) is None) == (scope != ANY)


def test_no_key_and_no_limits_are_said_with_a_dash() -> None:
    """As for a service that is open to everybody."""
    found = read(grant("POST", PATH, key_id="-"))
    assert found is not None
    assert (found.key_id, found.rate_share, found.concurrency_share) == (b"-", None, None)


def test_every_key_of_a_rotation_is_good() -> None:
    """While routers change to the new token, grants of both arrive."""
    assert read(grant("POST", PATH, kid="99999999", key=b"next year's"))
    assert read(grant("POST", PATH, kid="99999999")) is None


@pytest.mark.parametrize(
    "other",
    [
        {"key": bytes(32)},  # of another replica, or of this one's last boot
        {"kid": "00000000"},
        {"service": "hello2"},
    ],
)
def test_what_was_signed_for_others_is_none(other: dict[str, object]) -> None:
    """A grant taken from one URL opens no other machine."""
    assert read(grant("POST", PATH, **other)) is None  # type: ignore[arg-type]  # any of its keywords


@pytest.mark.parametrize(
    ("method", "path"), [("GET", PATH), ("post", PATH), ("POST", PATH + "/"), ("POST", "/v1/models"), ("", "")]
)
def test_a_grant_is_for_one_method_and_path(method: str, path: str) -> None:
    """What a router let through once is not a key to the whole engine."""
    assert read(grant("POST", PATH), method, path) is None


def test_a_resolved_grant_is_for_every_method_and_path() -> None:
    """Scope p, which a client asked for with `_resolve`; and it cannot be had by changing the letter."""
    assert read(grant("", "", scope="p"), "DELETE", "/any")
    assert read(grant("POST", PATH).replace(".x.", ".p.")) is None
    assert read(grant("", "", scope="p").replace(".p.", ".x."), "", "") is None


@given(st.binary(min_size=1).map(lambda path: b"/" + path), st.data())
def test_clients_may_encode_a_path_in_their_own_way(path: bytes, data: st.DataObject) -> None:
    """Some encode what a Location had plain, some decode it: the path stays what it means."""
    extra = data.draw(st.text("/ab~-._:@!$&'()*+,;= "))
    text = grant("GET", quote(path))
    assert read(text, "GET", quote(path))
    assert read(text, "GET", quote(path, safe=extra))
    assert read(text, "GET", "".join(f"%{byte:02x}" for byte in path))


GENUINE = grant("POST", PATH, key_id="abc0123456", rate="2500", concurrency="4")


@settings(max_examples=500)
@given(st.integers(0, 8 * len(GENUINE) - 1))
def test_no_bit_of_a_grant_may_change(bit: int) -> None:
    """Neither in what it says nor in its mac, whose last character holds two bits that no byte needs."""
    assert GRANTS.read(flipped(GENUINE.encode(), bit), b"POST", PATH.encode()) is None


def test_ten_thousand_forgeries_open_nothing() -> None:
    """Of another key, another service, another path, with a bit flipped, cut, or made up."""
    random = Random(5)
    makers: list[Callable[[], bytes]] = [
        lambda: grant("POST", PATH, key=random.randbytes(32)).encode(),
        lambda: grant("POST", PATH, service=f"hello{random.randrange(100)}").encode(),
        lambda: grant("POST", f"{PATH}/{random.randrange(100)}").encode(),
        lambda: flipped(GENUINE.encode(), random.randrange(8 * len(GENUINE))),
        lambda: GENUINE.encode()[: random.randrange(len(GENUINE))],
        lambda: GENUINE.rpartition(".")[0].encode() + b"." + base64.urlsafe_b64encode(random.randbytes(32))[:43],
    ]
    forged = [makers[number % len(makers)]() for number in range(10_000)]
    assert [text for text in forged if GRANTS.read(text, b"POST", PATH.encode())] == []


def flipped(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(st.binary() | st.from_regex(r"[0-9a-z.-]*", fullmatch=True).map(str.encode))
def test_nonsense_is_no_grant(text: bytes) -> None:
    """Whatever stands in the URL, the answer is None, without an error."""
    assert GRANTS.read(text, b"POST", PATH.encode()) is None


@given(st.integers(0, 63))
def test_a_mac_has_one_spelling(last: int) -> None:
    """Base64 would also decode a mac whose last character differs in its two spare bits."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    text = GENUINE[:-1] + alphabet[last]
    assert (read(text) is not None) == (text == GENUINE)
    assert len(base64.urlsafe_b64decode(text[-43:] + "=")) == 32


def test_a_redirect_takes_the_grant_along() -> None:
    """To the new method and path, with the same key, limits and end."""
    found = read(GENUINE)
    assert found is not None
    moved = GRANTS.moved(found, b"GET", b"/elsewhere").decode()
    assert moved.rpartition(".")[0] == GENUINE.rpartition(".")[0]
    assert read(moved, "GET", "/elsewhere")
    assert read(moved) is None


@pytest.mark.parametrize(
    ("target", "text", "rest"),
    [
        (b"/~g/v1/x?q=~/", b"g", b"/v1/x?q=~/"),
        (b"/~g", b"g", b"/"),
        (b"/~g/", b"g", b"/"),
        (b"/~g//x", b"g", b"//x"),
        (b"/v1/~g/x", b"", b"/v1/~g/x"),
        (b"/~/x", b"", b"/x"),
        (b"*", b"", b"*"),
    ],
)
def test_the_grant_is_the_first_segment(target: bytes, text: bytes, rest: bytes) -> None:
    """The rest is the client's, byte for byte."""
    assert split(target) == (text, rest)


def test_what_is_joined_can_be_split() -> None:
    """For the engine's redirects."""
    assert split(join(b"g", b"/a?b")) == (b"g", b"/a?b")
