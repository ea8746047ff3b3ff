"""What EC2 refuses, in the words of `chalicelib.errors`.

Codes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from chalicelib.errors import LaunchError, LaunchRefused, NoCapacity, QuotaExceeded, Unauthorized, Unreachable

_NO_CAPACITY = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientFreeAddressesInSubnet",
        "SpotMaxPriceTooLow",
        "Unsupported",  # this type in this zone
        "VolumeTypeNotAvailableInZone",
    }
)
_RAISE = "raise it under Service Quotas, or let other regions serve"
# What the account lacks in a region, and what to do about it.
_IN_REGION = {
    "VcpuLimitExceeded": _RAISE,
    "InstanceLimitExceeded": _RAISE,
    "MaxSpotInstanceCountExceeded": _RAISE,
    "VolumeLimitExceeded": _RAISE,
    "MaxIOPSLimitExceeded": _RAISE,
    "SecurityGroupLimitExceeded": _RAISE,
    "VPCIdNotSpecified": "machines stand in the region's default network; `aws ec2 create-default-vpc` makes one",
}
_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "UnauthorizedOperation",
        "OptInRequired",
        "Blocked",
        "PendingVerification",
        "SignatureDoesNotMatch",
        "InvalidClientTokenId",
        "ExpiredToken",
        "RequestExpired",
    }
)
# What a region says that an organization's policy forbids, or that was disabled a moment ago.
CLOSED = frozenset({"UnauthorizedOperation", "AuthFailure", "OptInRequired"})
# Throttled; or what has just been made is not known everywhere yet.
_LATER = frozenset(
    {"RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled", "InvalidGroup.NotFound"}
)
# The SDK found nothing to sign the request with, or did not like the request: nothing was sent.
_NOT_SENT = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    SSOError,
)
# What comes of an answer that is not EC2's: a proxy's page, a field that is missing, null or of another type.
_GARBLED = (ResponseParserError, KeyError, TypeError, ValueError, AttributeError)
_LONGEST = 300  # characters of EC2's own words: what a person reads, and less than the blobs it may append
_BLOB = re.compile(r"\s*Encoded authorization failure message.*", re.DOTALL)
_ACCESS_KEY = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{8,}\b")
_AUTH_HINT = (
    "check the AWS credentials of the control plane and that they allow ec2:RunInstances, ec2:CreateTags,"
    " ec2:CreateSecurityGroup and ssm:GetParameters"
)


def code(error: ClientError) -> str:
    """EC2's name for what went wrong."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def launching() -> Iterator[None]:
    """Raise what refuses a launch as a `LaunchError`, and what leaves it open whether it happened as `Unreachable`."""
    try:
        yield
    except ClientError as error:
        raise _refusal(error) from error
    except _NOT_SENT as error:
        raise Unauthorized(f"AWS cannot be asked: {error}; {_AUTH_HINT}") from error
    except ParamValidationError as error:
        # Without its text, which repeats what was sent.
        raise LaunchRefused("the AWS SDK refuses the request as malformed; check image_id, disk and labels") from error
    except (BotoCoreError, *_GARBLED) as error:
        raise _unreachable(error) from error


@contextmanager
def reaching(region: str = "") -> Iterator[None]:
    """Raise whatever goes wrong in a call that starts nothing as `Unreachable`, with the region if one is given."""
    try:
        yield
    except ClientError as error:
        hint = f"; {_AUTH_HINT}" if code(error) in _CREDENTIALS else ""
        raise Unreachable(f"{_said(error, region)}{hint}") from error
    except (BotoCoreError, *_GARBLED) as error:
        raise _unreachable(error) from error


def _refusal(error: ClientError) -> LaunchError | Unreachable:
    name, said = code(error), _said(error)
    if name in _NO_CAPACITY or _blames_the_zone(error):
        return NoCapacity(said)
    if name in _IN_REGION:
        return QuotaExceeded(f"{said}; {_IN_REGION[name]}")
    # Without a code it is not EC2 that answers.
    if not name or name in _LATER or error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
        return Unreachable(said)
    if name in _CREDENTIALS:
        return Unauthorized(f"{said}; {_AUTH_HINT}")
    is_image = name.startswith("InvalidAMIID")
    return LaunchRefused(f"{said}{'; an AMI belongs to one region' if is_image else ''}", is_regional=is_image)


def _blames_the_zone(error: ClientError) -> bool:
    """A zone that this account does not have or has no default subnet in: others will do, so it is no refusal of AWS."""
    said = str(error.response.get("Error", {}).get("Message", "")).lower()
    return code(error) in ("InvalidParameterValue", "InvalidInput", "MissingInput") and (
        "availability zone" in said or "availabilityzone" in said or "availability-zone" in said
    )


def _said(error: ClientError, region: str = "") -> str:
    message = _ACCESS_KEY.sub("***", _BLOB.sub("", str(error.response.get("Error", {}).get("Message", ""))))
    where = f" in {region}" if region else ""
    return f"AWS {error.operation_name}{where}: {code(error)}: {message[:_LONGEST]}".rstrip()


def _unreachable(error: Exception) -> Unreachable:
    what = "AWS answers what EC2 does not" if isinstance(error, _GARBLED) else "AWS did not answer"
    return Unreachable(f"{what}: {type(error).__name__}: {_ACCESS_KEY.sub('***', str(error))[:_LONGEST]}")
