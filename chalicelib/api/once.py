"""A write that is sent twice is done once.

The sender names it with an `Idempotency-Key`, in the way of
https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/. The name is claimed before anything is done, and
what was answered is kept with it. Whoever dies in between leaves a claim without an answer: after a minute the next to ask
takes it over, and since all that a handler draws at random is derived from the claim, it makes the same things again, and
finds those that are there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from itertools import count

from chalice.app import Response

from chalicelib import identity
from chalicelib.api import problems
from chalicelib.api.auth import Principal
from chalicelib.errors import Retry, SailplaneError
from chalicelib.model import Claim
from chalicelib.ports import Runtime

KEPT_S = 86_400.0
HELD_S = 60.0  # longer than API Gateway waits for a function (29 s): who has not answered by then never will
ASK_AGAIN_S = 1
PATTERN = r"^[!-~]{1,255}$"  # of a key: visible ASCII
IN_PROGRESS = "in-progress"


def valid_key(header: str) -> str:
    """The key as it was given. Raises a 400 `Refused`."""
    if not re.fullmatch(PATTERN, header):
        raise problems.Refused(HTTPStatus.BAD_REQUEST, "Idempotency-Key: expected 1 to 255 visible ASCII characters.")
    return header


def done_once(
    runtime: Runtime, principal: Principal, key: str, request: str, do: Callable[[Runtime], Response]
) -> Response:
    """What `do` answers to `request` (a digest), or answered before to the same principal's same key.

    An answer that says "later" (503, 423, a lost race) is not kept: the next attempt tries again.

    Raises:
        Refused: 422, the key was used for another request; 409, the same request is under way.
    """
    now = runtime.clock.now()
    mine = Claim(
        id=hashlib.sha256(f"{principal.id}\n{key}".encode()).hexdigest(),
        request=request,
        seed=runtime.ids.token(16),
        holder=runtime.ids.token(16),
        held_until=now + HELD_S,
        forget_at=now + KEPT_S,
    )
    claim = runtime.store.claim(mine, now)
    if claim.request != request:
        detail = "This Idempotency-Key came with another request before: take a new one for every request."
        raise problems.Refused(HTTPStatus.UNPROCESSABLE_ENTITY, detail, slug="idempotency-key-reused")
    agent_key = runtime.settings.agent_key
    seal = _Seal(identity.once_key(agent_key, "answer", key, claim.seed))
    if claim.answer:
        return seal.opened(claim.answer)
    if claim.holder != mine.holder:
        detail = "The same request is under way. Ask again for its answer, with the same Idempotency-Key."
        raise problems.Refused(HTTPStatus.CONFLICT, detail, {"Retry-After": str(ASK_AGAIN_S)}, IN_PROGRESS)
    draws = _Derived(identity.once_key(agent_key, "draws", key, claim.seed))
    answer = _attempt(replace(runtime, ids=draws), claim, do)
    runtime.store.settle(claim, seal.closed(answer))
    return answer


def _attempt(runtime: Runtime, claim: Claim, do: Callable[[Runtime], Response]) -> Response:
    try:
        return do(runtime)
    except Retry:
        runtime.store.give_up(claim)
        raise
    except SailplaneError as error:
        return problems.answer_for(error)


class _Derived:
    """`ports.Ids`: the same draws in the same order for whoever has the key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._drawn = count()

    def token(self, nbytes: int) -> str:
        return hashlib.shake_256(self._key + next(self._drawn).to_bytes(4)).hexdigest(nbytes)


class _Seal:
    """Answers as they lie in the table: some hold a new key's text, which is kept nowhere else."""

    def __init__(self, key: bytes) -> None:
        from cryptography.fernet import Fernet  # noqa: PLC0415 takes 30 ms, which a request without a key need not pay

        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def closed(self, answer: Response) -> str:
        document = json.dumps([answer.status_code, answer.headers, answer.body])
        return self._fernet.encrypt(zlib.compress(document.encode())).decode()

    def opened(self, sealed: str) -> Response:
        status, headers, body = json.loads(zlib.decompress(self._fernet.decrypt(sealed.encode())))
        return Response(body, {**headers, "Idempotency-Replayed": "true"}, status)
