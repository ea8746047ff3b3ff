r"""How the agent knows the control plane's commands and proves who answers them: both sign with the agent's token.

The token itself is not sent, so that whoever listens on the way, or sits at an address that was this replica's, gets nothing.

    Authorization: Sailplane <epoch seconds>.<nonce>.<mac>
    mac = hex HMAC-SHA256(token, <seconds> \n <nonce> \n <method> \n <path?query> \n <hex SHA-256 of the body>)
    X-Sailplane-Signature: hex HMAC-SHA256(token, <nonce> \n <body of the answer>)
"""

from __future__ import annotations

import hashlib
import hmac
import re

from replica_agent.times import ControlTime

HEADER = "X-Sailplane-Signature"
_AUTHORIZATION = re.compile(rb"Sailplane ([0-9]{1,12})\.([0-9a-f]{16,64})\.([0-9a-f]{64})")
_WINDOW_S = 30.0  # a command may take so long to arrive


class Signatures:
    """Checks commands, each of which is good once, and signs answers."""

    def __init__(self, token: str, clock: ControlTime) -> None:
        self._token = token.encode()
        self._clock = clock
        self._oldest = 0.0  # epoch seconds
        self._seen: dict[str, float] = {}

    def check(self, authorization: bytes, method: bytes, target: bytes, body: bytes) -> str | None:
        """The nonce of a command that the control plane gave, now and not before.

        Whoever signs cannot be ahead of the control plane's time, so a command is never too new: the first one, and any
        that is newer than expected, tells what time it is. That holds for a machine whose clock is wrong, too.
        """
        match = _AUTHORIZATION.fullmatch(authorization)
        if match is None:
            return None
        seconds, nonce, mac = match.groups()
        message = b"\n".join((seconds, nonce, method, target, hashlib.sha256(body).hexdigest().encode()))
        if not hmac.compare_digest(self._mac(message).encode(), mac):
            return None
        return nonce.decode() if self._is_new(int(seconds), nonce.decode()) else None

    def sign(self, nonce: str, body: bytes) -> str:
        """For `HEADER`: proves that this replica, in this boot, gives this answer to the command with this nonce."""
        return self._mac(f"{nonce}\n".encode() + body)

    def _is_new(self, at: int, nonce: str) -> bool:
        told = self._clock.told()
        if told is not None:
            self._oldest = max(self._oldest, told - _WINDOW_S)  # never back, or what was forgotten could come again
        if at < self._oldest or nonce in self._seen:
            return False
        self._seen = {each: when for each, when in self._seen.items() if when >= self._oldest}
        self._seen[nonce] = at
        if at >= max(self._seen.values()):
            self._clock.learn(at)
        return True

    def _mac(self, message: bytes) -> str:
        return hmac.new(self._token, message, hashlib.sha256).hexdigest()
