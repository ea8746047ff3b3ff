"""What Azure says when it does not do something, in the words of `chalicelib.errors`.

https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from chalicelib.errors import LaunchError, LaunchRefused, NoCapacity, QuotaExceeded, Unauthorized, Unreachable

_NO_CAPACITY = {
    "AllocationFailed",
    "AllocationTimeout",
    "OverconstrainedAllocationRequest",
    "OverconstrainedZonalAllocationRequest",
    "SkuNotAvailable",
    "SpotVmSkuNotAvailable",
    "ZonalAllocationFailed",
}
# Refusals that pass by themselves: the network or the machine of the same name is still changing, or was removed just now.
_PASSING = {
    "AnotherOperationInProgress",
    "Conflict",
    "InUse",
    "InvalidResourceReference",
    "OperationPreempted",
    "ReferencedResourceNotProvisioned",
    "RetryableError",
}
# What no other region of the same subscription will do better at.
_ACCOUNT = {
    "AuthorizationFailed",
    "ExpiredAuthenticationToken",
    "InvalidAuthenticationToken",
    "InvalidAuthenticationTokenTenant",
    "MissingSubscriptionRegistration",
    "ReadOnlyDisabledSubscription",
    "ResourceGroupNotFound",
    "SubscriptionNotFound",
}
_RENEW = (
    "Check the control plane's credentials (az login, or AZURE_CLIENT_ID and the like; of one in AWS: "
    "sailplane upgrade --azure-credentials FILE)."
)
_WHAT_TO_DO = {
    "AuthorizationFailed": "Give the control plane's identity the role Contributor on the resource group.",
    "ExpiredAuthenticationToken": _RENEW,
    "ImageNotFound": "Name an image as publisher:offer:sku:version in image_id.",
    "InvalidAuthenticationToken": _RENEW,
    "MarketplacePurchaseEligibilityFailed": "Accept the image's terms with az vm image terms accept.",
    "MissingSubscriptionRegistration": "Run az provider register for Microsoft.Compute and Microsoft.Network.",
    "PlatformImageNotFound": "Name an image as publisher:offer:sku:version in image_id.",
    "ResourceGroupNotFound": "Create the resource group with az group create, or name an existing one.",
    "SubscriptionNotFound": "Name a subscription that the control plane's identity can see.",
}
# What comes of an answer that is not Azure's: a proxy's page, a field that is missing, null or of another type.
_GARBLED = (KeyError, TypeError, ValueError, AttributeError)
_LONGEST = 500  # characters of Azure's message that are worth keeping


@contextmanager
def launching() -> Iterator[None]:
    """Raise what Azure's SDK raises as one of `LaunchError`, or as `Unreachable` when it may have been done."""
    try:
        yield
    except AzureError as error:
        raise _translated(error) from error
    except _GARBLED as error:
        raise _garbled(error) from error


@contextmanager
def reaching() -> Iterator[None]:
    """Raise what Azure's SDK raises as `Unreachable`."""
    try:
        yield
    except AzureError as error:
        raise Unreachable(f"Azure: {_translated(error)}") from error
    except _GARBLED as error:
        raise _garbled(error) from error


def late_refusal(code: str, message: str) -> LaunchError:
    """Why a machine could not be made whose order had been taken: the order was good, so another place may do."""
    error = _refusal(code, message)
    return error if isinstance(error, QuotaExceeded) else NoCapacity(str(error))


def _refusal(code: str, message: str) -> LaunchError | Unreachable:
    text = f"{code}: {message}"[:_LONGEST]
    if code in _NO_CAPACITY:
        return NoCapacity(text)
    if _is_quota(code, message):
        return QuotaExceeded(text)
    if code in _PASSING:
        return Unreachable(text)
    hint = _WHAT_TO_DO.get(code, "")
    refused = Unauthorized if code in _ACCOUNT else LaunchRefused
    return refused(f"{text} {hint}".rstrip())


def _is_quota(code: str, message: str) -> bool:
    """`OperationNotAllowed` stands for many things; only its message says that it is about cores."""
    by_message = code == "OperationNotAllowed" and ("quota" in message.lower() or "cores" in message.lower())
    return by_message or "Quota" in code or "CountLimit" in code


def _garbled(error: Exception) -> Unreachable:
    return Unreachable(f"Azure answers what Resource Manager does not: {type(error).__name__}: {error}"[:_LONGEST])


def _translated(error: AzureError) -> LaunchError | Unreachable:
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        code = (error.error.code if error.error else None) or f"HTTP {error.status_code}"
        message = (error.error.message if error.error else None) or error.reason or ""
        # Below 400 it is the answer that cannot be understood, and what was asked for may have been done.
        if error.status_code < 400 or error.status_code in (408, 429) or error.status_code >= 500:
            return Unreachable(f"{code}: {message}"[:_LONGEST])
        return _refusal(code, message)
    if isinstance(error.__cause__, (ServiceRequestError, ServiceResponseError)):  # whoever gives tokens out is silent
        return Unreachable(error.message[:_LONGEST])
    if isinstance(error, ClientAuthenticationError):  # there was nothing to show to Azure
        hint = _WHAT_TO_DO["InvalidAuthenticationToken"]
        return Unauthorized(f"no credentials: {error.message[:_LONGEST]} {hint}")
    return Unreachable(error.message[:_LONGEST])
