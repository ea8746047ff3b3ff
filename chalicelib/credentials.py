"""Credentials of clouds for a control plane that is not in them, as texts of JSON: what is taken, and what is secret in it.

Pure. A file of Google's says itself which addresses are asked for tokens, with which of our own credentials in hand. So only
Google's and AWS's are taken, and nothing is kept but what is used:
https://cloud.google.com/docs/authentication/external/externally-sourced-credentials. No message repeats a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from chalicelib.errors import Invalid

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TENANT = re.compile(rf"{_UUID.pattern}|[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+")  # its id, or a domain of its own
_TEXT = re.compile(r"[!-~]{1,1024}")  # printable, without spaces

_ACCOUNT = re.compile(r"[a-z0-9.-]+@[a-z0-9.-]+\.gserviceaccount\.com")
_PRIVATE_KEY = re.compile(r"-----BEGIN PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+-----END PRIVATE KEY-----\n?")
_TOKENS = re.compile(r"https://oauth2\.googleapis\.com/token")
_AUDIENCE = re.compile(
    r"//iam\.googleapis\.com/projects/\d+/locations/global/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+"
)
_EXCHANGE = re.compile(r"https://sts\.googleapis\.com/v1/token")
_IMPERSONATION = re.compile(
    rf"https://iamcredentials\.googleapis\.com/v1/projects/-/serviceAccounts/{_ACCOUNT.pattern}:generateAccessToken"
)
_AWS_TYPE = "urn:ietf:params:aws:token-type:aws4_request"
_AWS_SOURCE = {
    "environment_id": "aws1",
    "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
}


def gcp(text: str) -> Mapping[str, Any]:
    """A service account's key, or a configuration of Workload Identity Federation for AWS, which holds no secret.

    Raises `Invalid`.
    """
    found = _object(text)
    kind = found.get("type")
    if kind == "service_account":
        kept = {"client_email": _ACCOUNT, "private_key": _PRIVATE_KEY, "token_uri": _TOKENS}
        return {"type": kind, **_matching(found, kept)}
    if kind == "external_account":
        return {"type": kind, **_federated(found)}
    raise Invalid("expected `type` to be `external_account` or `service_account`.")


def azure(text: str) -> Mapping[str, str]:
    """The `tenant_id`, `client_id` and `client_secret` of an app registration. Raises `Invalid`."""
    return _matching(_object(text), {"tenant_id": _TENANT, "client_id": _UUID, "client_secret": _TEXT})


def secrets_of(credentials: Mapping[str, Any]) -> tuple[str, ...]:
    """What opens something, as it is and as it stands in JSON and in Python's representations."""
    found = [str(credentials[name]) for name in ("client_secret", "private_key") if name in credentials]
    return tuple(dict.fromkeys(form for secret in found for form in (secret, json.dumps(secret)[1:-1])))


def _federated(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the addresses of a machine's metadata: a function has its AWS credentials in its environment."""
    kept = _matching(found, {"audience": _AUDIENCE, "token_url": _EXCHANGE})
    source = found.get("credential_source")
    if (
        not isinstance(source, dict)
        or found.get("subject_token_type") != _AWS_TYPE
        or any(source.get(name) != text for name, text in _AWS_SOURCE.items())
    ):
        raise Invalid("expected the configuration for AWS (`create-cred-config … --aws`).")
    if "service_account_impersonation_url" in found:
        kept |= _matching(found, {"service_account_impersonation_url": _IMPERSONATION})
    return {**kept, "subject_token_type": _AWS_TYPE, "credential_source": dict(_AWS_SOURCE)}


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Invalid("expected an object in JSON.") from None
    return found


def _matching(found: Mapping[str, Any], wanted: Mapping[str, re.Pattern[str]]) -> dict[str, str]:
    for name, pattern in wanted.items():
        if not isinstance(found.get(name), str) or not pattern.fullmatch(found[name]):
            raise Invalid(f"expected `{name}`, and what the cloud's own command writes there.")
    return {name: found[name] for name in wanted}
