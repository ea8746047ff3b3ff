"""A snapshot in an object of S3: edge functions on AWS read it with their role."""

from __future__ import annotations

from chalicelib.amazon import Amazon, Refused
from chalicelib.errors import Unreachable

# What S3 says of an object that is not there to those who may list the bucket, and to those who may not.
_ABSENT = frozenset({"NoSuchKey", "AccessDenied"})
# Caches between routers and S3 must not keep an older table alive.
_HEADERS = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-cache"}


class S3Snapshots:
    """`ports.Snapshots` in one object.

    Args:
        amazon: the bucket's region.
        bucket: its bucket.
        key: its name there.
    """

    def __init__(self, amazon: Amazon, bucket: str, key: str) -> None:
        self._amazon = amazon
        self._bucket = bucket
        self._key = key

    def read(self) -> str:
        try:
            return self._amazon.get_object(self._bucket, self._key).decode()
        except (Unreachable, UnicodeDecodeError) as error:
            if isinstance(error, Refused) and error.code in _ABSENT:
                return ""
            raise Unreachable(f"s3://{self._bucket}/{self._key} cannot be read: {error}") from error

    def write(self, text: str) -> None:
        try:
            self._amazon.put_object(self._bucket, self._key, text.encode(), _HEADERS)
        except Unreachable as error:
            raise Unreachable(f"s3://{self._bucket}/{self._key} cannot be written: {error}") from error
