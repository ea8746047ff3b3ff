"""Whose word a webhook's delivery is. Every comparison takes the same time whatever was shown.

GitHub: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
GitLab: https://docs.gitlab.com/user/project/integrations/webhooks/ (a signing token where it is set, else a secret token)
Others: https://www.standardwebhooks.com (what GitLab's signing token follows too)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from chalicelib.model import HookKind

# Standard Webhooks' tolerance, of clocks and of a delivery's way.
TOLERANCE_S = 300.0
# Senders that change keys sign with the old and the new one; nobody has more at a time.
_MOST_SIGNATURES = 8
_PREFIX = "whsec_"
# A dot would let id and time stamp be read in two ways, since all three parts are signed joined by dots.
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SIGNATURE = re.compile(r"v[0-9][a-z]?,[A-Za-z0-9+/=]{1,256}")  # v1 is ours, others may stand beside it
_SHAPES = (
    ("x-hub-signature-256", re.compile(r"sha256=[0-9a-f]{64}")),
    ("x-gitlab-token", re.compile(r"whsec_[A-Za-z0-9+/=]{44}")),
    ("webhook-signature", re.compile(r"v[0-9].{1,4096}")),
)
_SECOND = re.compile(r"[0-9]{1,12}")


def may_be_signed(headers: Mapping[str, str]) -> bool:
    """Whether a delivery has what some signature of ours would look like. Nothing is proven; the rest need not be looked at."""
    return any(shape.fullmatch(headers.get(name, "")) for name, shape in _SHAPES)


def delivery_names(
    kind: HookKind, secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float
) -> tuple[str, ...]:
    """What a delivery is to be remembered by, or nothing when it is not signed with one of `secrets`, or not lately.

    Args:
        kind: who sends.
        secrets: the keys that are good now, see `identity.webhook_secret`; several while one follows the other.
        headers: by lower-case name.
        body: as it came, byte for byte.
        now: epoch seconds.
    """
    return _BY_KIND[kind](secrets, headers, body, now)


def _github(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, _now: float) -> tuple[str, ...]:
    """By its id and by its body: GitHub does not sign the id, so who caught a delivery could send it under another one."""
    shown = headers.get("x-hub-signature-256", "")
    expected = [f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}" for secret in secrets]
    delivery = headers.get("x-github-delivery", "")
    if not (_is_one_of([shown], expected) and _ID.fullmatch(delivery)):
        return ()
    return delivery, _digest(body)


def _gitlab(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float) -> tuple[str, ...]:
    """A signature that is there has to be right. By what names an event through all attempts to deliver it."""
    if "webhook-signature" in headers:
        return _standard(secrets, headers, body, now)
    delivery = headers.get("idempotency-key") or headers.get("x-gitlab-event-uuid", "")
    if not (_is_one_of([headers.get("x-gitlab-token", "")], secrets) and _ID.fullmatch(delivery)):
        return ()
    return delivery, _digest(body)


def _standard(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float) -> tuple[str, ...]:
    delivery, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    shown = headers.get("webhook-signature", "").split(" ")
    if not (len(shown) <= _MOST_SIGNATURES and all(map(_SIGNATURE.fullmatch, shown)) and _ID.fullmatch(delivery)):
        return ()
    if not (_SECOND.fullmatch(at) and abs(now - int(at)) <= TOLERANCE_S):
        return ()
    signed = f"{delivery}.{at}.".encode() + body
    expected = [
        f"v1,{base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()}" for secret in secrets
    ]
    return (delivery,) if _is_one_of(shown, expected) else ()


_BY_KIND: Mapping[HookKind, Callable[[Sequence[str], Mapping[str, str], bytes, float], tuple[str, ...]]] = {
    HookKind.GITHUB: _github,
    HookKind.GITLAB: _gitlab,
    HookKind.GENERIC: _standard,
}


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("a webhook's secret is whsec_ and base64") from error


def _is_one_of(shown: Iterable[str], expected: Sequence[str]) -> bool:
    """Each is compared with each, whichever is found first."""
    matches = [hmac.compare_digest(one.encode(errors="replace"), key.encode()) for one in shown for key in expected]
    return any(matches)


def _digest(body: bytes) -> str:
    return f"sha256-{hashlib.sha256(body).hexdigest()}"
