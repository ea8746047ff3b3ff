"""Whose word a delivery is: forged, altered and late ones are nobody's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
import standardwebhooks

from chalicelib import identity
from chalicelib.hooks.signatures import TOLERANCE_S, delivery_names
from chalicelib.model import HookKind

NOW = 1_800_000_000.0
SECRET, OLD, FOREIGN = (identity.webhook_secret("k" * 32, "0123456789", number) for number in (2, 1, 3))
BODY = json.dumps({"ref": "refs/heads/main", "after": "a" * 40, "repository": {"full_name": "acme/app"}}).encode()
MUTANTS = 10_000


@dataclass(frozen=True)
class Sent:
    """A delivery on its way."""

    kind: HookKind
    headers: Mapping[str, str]
    body: bytes = BODY

    def names(self, *secrets: str, now: float = NOW) -> tuple[str, ...]:
        return delivery_names(self.kind, secrets or (SECRET,), self.headers, self.body, now)

    def with_header(self, name: str, value: str) -> Sent:
        return replace(self, headers={**self.headers, name: value})


def github(secret: str = SECRET, body: bytes = BODY) -> Sent:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": f"sha256={digest}", "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"}
    return Sent(HookKind.GITHUB, {**headers, "x-github-event": "push"}, body)


def token(secret: str = SECRET) -> Sent:
    headers = {"x-gitlab-token": secret, "x-gitlab-event": "Push Hook"}
    return Sent(HookKind.GITLAB, {**headers, "x-gitlab-event-uuid": "13792a34-cac6-4fda-95a8-c58e00a3954e"})


def standard(*secrets: str, kind: HookKind = HookKind.GENERIC, at: float = NOW, body: bytes = BODY) -> Sent:
    """Signed by the oracle, with each of the secrets."""
    signed = [
        standardwebhooks.Webhook(secret).sign("msg_2KWPBgLlAfxd", datetime.fromtimestamp(at, UTC), body.decode())
        for secret in secrets or (SECRET,)
    ]
    headers = {"webhook-id": "msg_2KWPBgLlAfxd", "webhook-timestamp": str(int(at))}
    return Sent(kind, {**headers, "webhook-signature": " ".join(signed)}, body)


KINDS: dict[str, Callable[[], Sent]] = {
    "github": github,
    "gitlab-token": token,
    "gitlab-signed": lambda: standard(kind=HookKind.GITLAB),
    "generic": standard,
}
SIGNED_BY = {"github": "x-hub-signature-256", "gitlab-token": "x-gitlab-token"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_delivery_of_ours_is_known(kind: str) -> None:
    """And it has a name to remember it by."""
    assert all(KINDS[kind]().names())


def test_github_s_own_example_is_accepted() -> None:
    """The values that its documentation gives for trying one's implementation."""
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": f"sha256={digest}", "x-github-delivery": "1"}
    assert Sent(HookKind.GITHUB, headers, b"Hello, World!").names("It's a Secret to Everybody")


@pytest.mark.parametrize("kind", KINDS)
def test_another_secret_signs_for_nobody(kind: str) -> None:
    """Nor does none at all."""
    sent = KINDS[kind]()
    assert not sent.names(FOREIGN)
    assert not delivery_names(sent.kind, (), sent.headers, sent.body, NOW)


@pytest.mark.parametrize(
    "sent", [github(OLD), token(OLD), standard(OLD), standard(FOREIGN, OLD), standard(OLD, SECRET)]
)
def test_while_keys_change_both_are_good(sent: Sent) -> None:
    """Senders sign with either, or with both, and receivers take either."""
    assert sent.names(SECRET, OLD)


@pytest.mark.parametrize("kind", KINDS)
def test_mutants_are_refused(kind: str) -> None:
    """10,000 deliveries with something of body, signature, id or time changed: none is accepted."""
    sent, lots = KINDS[kind](), random.Random(kind)
    accepted = [mutant for mutant in mutants(sent, SIGNED_BY.get(kind, "webhook-signature"), lots) if mutant.names()]
    assert accepted == []


def mutants(sent: Sent, header: str, lots: random.Random) -> Iterator[Sent]:
    """Of each kind of change some; GitLab's token signs nothing but itself."""
    signed = [header] if header == "x-gitlab-token" else [header, "body"]
    signed += ["webhook-id", "webhook-timestamp"] if header == "webhook-signature" else []
    for number in range(MUTANTS // len(KINDS)):
        what = signed[number % len(signed)]
        if what == "body":
            yield replace(sent, body=mutated(sent.body.decode(), lots).encode(errors="surrogateescape"))
        else:
            yield sent.with_header(what, mutated(sent.headers[what], lots))


def mutated(text: str, lots: random.Random) -> str:
    """Another text: a character changed, added or left out, the case turned, a part repeated, cut or moved."""
    place, other = lots.randrange(len(text)), lots.choice("0aAzZ9+/=.,v1 \t\n\0é\"'")
    ways = (
        text[:place] + other + text[place + 1 :],
        text[:place] + other + text[place:],
        text[:place] + text[place + 1 :],
        text[:place],
        text[place:],
        text.swapcase(),
        text[place:] + text[:place],
        text[:place] + text,
        f" {text}",
        f"{text},{text}",
        text.replace("=", "=="),
        text.replace("v1,", "v2,").replace("sha256=", "sha1="),
    )
    found = [way for way in ways if way != text]
    return lots.choice(found)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_no_signature(kind: str) -> None:
    """Whatever is left out or empty."""
    sent = KINDS[kind]()
    needed = [name for name in sent.headers if name not in ("x-github-event", "x-gitlab-event")]
    for name in needed:
        without = {key: value for key, value in sent.headers.items() if key != name}
        assert not replace(sent, headers=without).names()
        assert not sent.with_header(name, "").names()


@pytest.mark.parametrize("header", ["webhook-signature", "x-hub-signature-256", "x-gitlab-token"])
def test_a_header_may_hold_anything(header: str) -> None:
    """What no encoding has, and what no sender would send: refused, not broken."""
    for sent in (make() for make in KINDS.values()):
        for value in ("\ud800", "é", "v1,", "v1", ",", "sha256=", "\0", "v1," * 10_000):
            assert not sent.with_header(header, value).names() or header not in sent.headers


def test_a_wrong_signature_is_not_made_good_by_a_token() -> None:
    """GitLab may send both: then the signature counts, which nobody can copy from another delivery."""
    signed = standard(kind=HookKind.GITLAB)
    both = signed.with_header("x-gitlab-token", SECRET).with_header("idempotency-key", "msg_2KWPBgLlAfxd")
    assert both.names()
    assert not replace(both, body=b"{}").names()
    assert not both.with_header("webhook-signature", "").names()


@pytest.mark.parametrize(
    ("late_s", "is_good"),
    [(0, True), (TOLERANCE_S, True), (TOLERANCE_S + 1, False), (-TOLERANCE_S, True), (-TOLERANCE_S - 1, False)],
)
def test_a_delivery_has_five_minutes(late_s: float, is_good: bool) -> None:
    """Before and after the instant that it is signed with."""
    assert bool(standard().names(now=NOW + late_s)) is is_good


def test_a_signature_hides_among_few() -> None:
    """Other versions may stand beside it; a header of thousands costs no thousands of comparisons."""
    good = standard().headers["webhook-signature"]
    others = ["v1a,AAAA"] * 7
    assert standard().with_header("webhook-signature", " ".join([*others, good])).names()
    assert not standard().with_header("webhook-signature", " ".join([*others, "v1,AAAA", good])).names()


def test_an_id_with_a_dot_is_refused() -> None:
    """`a.1.body` could be read as the id `a` or as the id `a.1`."""
    body = "5.{}"
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = base64.b64encode(hmac.new(key, f"a.{int(NOW)}.{body}".encode(), hashlib.sha256).digest()).decode()
    signed = {"webhook-signature": f"v1,{mac}", "webhook-timestamp": "5", "webhook-id": f"a.{int(NOW)}"}
    assert not Sent(HookKind.GENERIC, signed, b"{}").names(now=5.0)
    assert Sent(
        HookKind.GENERIC, {**signed, "webhook-timestamp": str(int(NOW)), "webhook-id": "a"}, body.encode()
    ).names()


def test_replays_have_the_name_of_the_first() -> None:
    """GitHub signs no ids: who sends what they caught under another one is known by the body."""
    caught = github()
    again = caught.with_header("x-github-delivery", "00000000-0000-0000-0000-000000000000")
    assert set(caught.names()) & set(again.names())
    assert not set(github(body=b"{}").names()) & set(again.names())


def test_the_oracle_agrees() -> None:
    """Whatever Standard Webhooks' own library makes of a mutant's signature, we accept no more than it does."""
    oracle = standardwebhooks.Webhook(SECRET)
    at = datetime.now(UTC).timestamp()  # the library asks the clock itself
    sent, lots = standard(at=at), random.Random(7)

    def accepted_there(mutant: Sent) -> bool:
        try:
            oracle.verify(mutant.body, dict(mutant.headers), json_parse=False)
        except (standardwebhooks.WebhookVerificationError, ValueError):
            return False
        return True

    assert accepted_there(sent)
    for mutant in mutants(sent, "webhook-signature", lots):
        assert not mutant.names(now=at) or accepted_there(mutant)
    both = standard(FOREIGN, SECRET, at=at)
    assert accepted_there(both)
    assert both.names(now=at)
