"""What Google Compute Engine says when it refuses, in the words of `chalicelib.errors`.

A call is refused with an HTTP status and `reason`s; a launch also later, by an operation that ends with error `code`s.
https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-resource-availability,
https://cloud.google.com/compute/docs/reference/rest/v1/errors (both read in November 2026).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import requests
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud.compute_v1 import Operation
from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]  # has no types

from chalicelib.errors import (
    LaunchError,
    LaunchRefused,
    NoCapacity,
    QuotaExceeded,
    SailplaneError,
    Unauthorized,
    Unreachable,
)

# What comes of an answer that is not Google's: a proxy's page, a field that is missing or of another type.
_GARBLED = (ParseError, KeyError, TypeError, ValueError, AttributeError)
_LONGEST = 500  # characters of Google's own words: what a person reads, and the record of a replica has room for
_LATER = {"rateLimitExceeded", "userRateLimitExceeded", "resourceNotReady"}
_QUOTA = {"quotaExceeded", "QUOTA_EXCEEDED", "QUOTA_LIMIT_EXCEEDED"}
_NO_CAPACITY = {
    "ZONE_RESOURCE_POOL_EXHAUSTED",
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
    "zoneResourcePoolExhausted",
    "resourcePoolExhausted",
}
# What one zone has and another has not, as Google names it in "… was not found" and "… does not exist".
_NOT_IN_THIS_ZONE = re.compile(r"/(machineTypes|acceleratorTypes|diskTypes)/[^/]+'")

_CREDENTIALS = (
    "let the control plane's identity use Compute Engine in this project: enable the API, grant "
    "roles/compute.instanceAdmin.v1 and roles/compute.securityAdmin, renew the credentials "
    "(of a control plane in AWS: sailplane upgrade --gcp-credentials FILE)"
)


@contextmanager
def launching(secrets: Collection[str]) -> Iterator[None]:
    """Raise what goes wrong in a launch as `LaunchError` or `Unreachable`, with none of `secrets` in the message.

    Google repeats the value of a field that it rejects, and one of them is the user data. For the same reason the SDK's own
    exception is left behind.
    """
    try:
        yield
    except (requests.RequestException, TransportError) as error:
        raise Unreachable(f"Google does not answer: {error}") from error
    except GoogleAuthError as error:
        raise _unauthenticated(error) from error
    except GoogleAPICallError as error:
        raise _refusal(error, _without(secrets, _said(error))) from None
    except _GARBLED as error:
        # Without its text, which repeats what was sent.
        raise Unreachable(f"Google answers what Compute Engine does not ({type(error).__name__})") from None


@contextmanager
def reaching() -> Iterator[None]:
    """Raise everything that goes wrong otherwise as `Unreachable`: nothing is known, asking again may help."""
    try:
        yield
    except (requests.RequestException, TransportError) as error:
        raise Unreachable(f"Google does not answer: {error}") from error
    except GoogleAuthError as error:
        raise Unreachable(str(_unauthenticated(error))) from error
    except GoogleAPICallError as error:
        raise Unreachable(str(_refusal(error, _said(error)))) from error
    except _GARBLED as error:
        text = str(error)[:_LONGEST]
        raise Unreachable(f"Google answers what Compute Engine does not: {type(error).__name__}: {text}") from error


def failure(operation: Operation) -> LaunchError:
    """Why a finished operation did not make the machine.

    Final: the request's id always leads back to this operation. So a failure of Google's own counts as the zone's.
    """
    codes = {error.code for error in operation.error.errors}
    message = "; ".join(f"{error.code}: {error.message}" for error in operation.error.errors)[:_LONGEST]
    if codes & _QUOTA:
        return _over_quota(message)
    if codes & _NO_CAPACITY or _NOT_IN_THIS_ZONE.search(message) or operation.http_error_status_code >= 500:
        return NoCapacity(f"Google has no such machine in this zone now: {message}")
    return LaunchRefused(f"Google could not make the machine: {message}")


def _refusal(error: GoogleAPICallError, message: str) -> SailplaneError:
    status, message = int(error.code or 0), message[:_LONGEST]
    reasons = {str(detail.get("reason")) for detail in error.errors if isinstance(detail, dict)}
    if reasons & _QUOTA:
        return _over_quota(message)
    if reasons & _NO_CAPACITY or _NOT_IN_THIS_ZONE.search(message):
        return NoCapacity(f"Google has no such machine in this zone now: {message}")
    if status == 429 or status >= 500 or reasons & _LATER:
        return Unreachable(f"Google asks to try later (HTTP {status}): {message}")
    if status in (401, 403):
        return Unauthorized(f"Google refuses the credentials (HTTP {status}): {message}; {_CREDENTIALS}")
    return LaunchRefused(f"Google rejects the request (HTTP {status}): {message}")


def _unauthenticated(error: GoogleAuthError) -> SailplaneError:
    if error.retryable:
        return Unreachable(f"Google's credentials could not be renewed now: {error}")
    return Unauthorized(f"Google's credentials are missing or refused: {error}; {_CREDENTIALS}")


def _over_quota(message: str) -> QuotaExceeded:
    return QuotaExceeded(f"{message} (ask for more at https://console.cloud.google.com/iam-admin/quotas)")


def _said(error: GoogleAPICallError) -> str:
    """Google's own words; the SDK puts `POST https://…: ` before them, hundreds of characters that help nobody."""
    return re.sub(r"^[A-Z]+ https?://\S+: ", "", str(error.message))


def _without(secrets: Collection[str], message: str) -> str:
    for secret in secrets:
        message = message.replace(secret, "…")
    return message
