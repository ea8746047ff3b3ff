"""Texts without what opens something. Pure.

Nothing of ours writes a key on purpose. But the words of clouds and of HTTP clients are passed on, and they repeat headers and
addresses; so every line is looked through before it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

HIDDEN = "***"

# What is kept tells which key it was; the rest is what opens.
_SECRETS = re.compile(
    r"""
    (?P<keep>
        \bs[ap]_[0-9a-z]{10}_                            # an admin or endpoint key, by its id
      | \b(?:bearer|basic)\s+                            # whatever an Authorization header carries
      | ://(?=[^/\s@]*@)                                 # user and password of an address
      | [?&](?:x-amz-signature|x-amz-security-token|x-amz-credential|sig|signature|token|key|access_token)=
      | \b[0-9a-f]{8}\.\d{10}\.[0-9a-z-]+\.[0-9-]+\.[0-9-]+\.[xpt]\.  # a grant, see edge_router.grants
    )
    [^\s"'&@,;)]+
  | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b                        # AWS's access key ids
  | \b(?:hf|ghp|gho|ghs|glpat|xox[abp])[_-][A-Za-z0-9_-]{16,}  # Hugging Face's, GitHub's, GitLab's, Slack's
  | \beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}                 # JSON web tokens
  | -----BEGIN[ ](?:[A-Z]+[ ])?PRIVATE[ ]KEY-----.{1,16384}?-----END  # whatever key it is, on one line or many
  | \b[0-9a-f]{64}\b                                     # the tokens of agents and of booting machines
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def redacted(text: str, known: Collection[str] = ()) -> str:
    """`text` without the secrets that are `known`, and without what looks like one."""
    for secret in known:
        text = text.replace(secret, HIDDEN)
    return _SECRETS.sub(lambda found: f"{found['keep'] or ''}{HIDDEN}", text)


def clean(value: Any, redact: Callable[[str], str]) -> Any:
    """A value as JSON takes it, with every text in it redacted; what JSON does not know becomes its text."""
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {redact(str(key)): clean(one, redact) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [clean(one, redact) for one in value]
        case _:
            return redact(str(value))
