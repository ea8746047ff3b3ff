"""A question to S3 in the name of the function's own role, which no SDK has to be loaded for."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

_NOTHING = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Role:
    """Who asks, and in which region; as Lambda tells a function in its environment.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """

    region: str
    key_id: str
    secret: str = field(repr=False)
    session: str = field(default="", repr=False)
    endpoint_url: str = ""  # a stand-in for S3, `http://host:port`


def question(url: str, role: Role, now: float) -> tuple[str, dict[str, str]]:
    """The address and the headers of a signed GET of `s3://bucket/key`, good for 15 minutes after `now` (epoch seconds).

    Signature Version 4: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    bucket, _, key = url.removeprefix("s3://").partition("/")
    base = f"{role.endpoint_url}/{bucket}" if role.endpoint_url else f"https://{bucket}.s3.{role.region}.amazonaws.com"
    address = urlsplit(f"{base}/{quote(key)}")
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    headers = {"host": address.netloc, "x-amz-content-sha256": _NOTHING, "x-amz-date": at}
    if role.session:
        headers["x-amz-security-token"] = role.session
    signed = ";".join(headers)
    lines = (f"{name}:{value}" for name, value in headers.items())
    canonical = "\n".join(("GET", address.path, "", *lines, "", signed, _NOTHING))
    scope = f"{at[:8]}/{role.region}/s3/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", at, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    signing_key = f"AWS4{role.secret}".encode()
    for word in scope.split("/"):
        signing_key = _hmac(signing_key, word)
    signature = _hmac(signing_key, text).hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={role.key_id}/{scope}, SignedHeaders={signed}, Signature={signature}"
    )
    return address.geturl(), headers


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
