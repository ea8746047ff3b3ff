"""What is shown to Google: what was given, or else application default credentials. Nothing is asked yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import google.auth
from google.auth import aws
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials as BearerToken

_COMPUTE = ("https://www.googleapis.com/auth/compute",)
# Credentials that were made for us: what they may do is the business of their roles. Federation knows no narrower scope than this.
ALL = ("https://www.googleapis.com/auth/cloud-platform",)


def find(given: Mapping[str, Any]) -> Credentials:
    """Those that are `given` as by `chalicelib.credentials.gcp`, or those that Google's SDK finds.

    Federated ones take the function's own AWS credentials from its environment (AWS_ACCESS_KEY_ID and the like):
    https://google.aip.dev/auth/4117. Raises `GoogleAuthError` without a part of the key in it.
    """
    if not given:
        return google.auth.default(scopes=_COMPUTE)[0]
    if given["type"] == "external_account":
        return _federated(given)
    try:
        return _key(given)
    except ValueError:
        message = "SAILPLANE_GCP_CREDENTIALS: its private_key is none."
        raise DefaultCredentialsError(message) from None  # type: ignore[no-untyped-call]  # Google's


def _federated(given: Mapping[str, Any]) -> Credentials:
    found: Credentials = aws.Credentials.from_info(dict(given), scopes=ALL)  # type: ignore[no-untyped-call]  # Google's
    return found


def _key(given: Mapping[str, Any]) -> Credentials:
    make: Any = service_account.Credentials.from_service_account_info
    found: Credentials = make(given, scopes=ALL)
    return found


def token(text: str | None) -> Credentials:
    """A stand-in's one token."""
    return BearerToken(token=text)  # type: ignore[no-untyped-call]  # Google's
