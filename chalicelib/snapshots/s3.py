"""A snapshot in an object of S3, which routers on any cloud read over plain HTTPS."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import Unreachable

# A pass waits for it, so no longer than it does for a throttling database: some 20 s with both retries.
_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 3})
# What S3 says of an object that is not there to those who may list the bucket, and to those who may not.
_ABSENT = frozenset({"NoSuchKey", "404", "AccessDenied", "403"})


class S3Snapshots:
    """`ports.Snapshots` in one object.

    Args:
        bucket: its bucket, in any region.
        key: its name there.
        region: where to ask for the bucket first.
        endpoint_url: a stand-in for S3, `http://<access key id>@host:port`. Without it the SDK finds AWS and real credentials.
    """

    def __init__(self, bucket: str, key: str, region: str, *, endpoint_url: str | None = None) -> None:
        self._object = {"Bucket": bucket, "Key": key}
        self._name = f"s3://{bucket}/{key}"
        stand_in: dict[str, Any] = {}
        if endpoint_url:
            parts = urlsplit(endpoint_url)
            stand_in = {"endpoint_url": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"}
            stand_in |= dict.fromkeys(("aws_access_key_id", "aws_secret_access_key"), parts.username)
        self._client: Any = boto3.client("s3", region_name=region, config=_CONFIG, **stand_in)

    def read(self) -> str:
        try:
            text: str = self._client.get_object(**self._object)["Body"].read().decode()
        except ClientError as error:
            if error.response["Error"]["Code"] in _ABSENT:
                return ""
            raise Unreachable(f"{self._name} cannot be read: {error}") from error
        except (BotoCoreError, UnicodeDecodeError) as error:
            raise Unreachable(f"{self._name} cannot be read: {error}") from error
        return text

    def write(self, text: str) -> None:
        try:
            # Caches between routers and S3 must not keep an older table alive.
            self._client.put_object(
                **self._object, Body=text.encode(), ContentType="text/plain; charset=utf-8", CacheControl="no-cache"
            )
        except (BotoCoreError, ClientError) as error:
            raise Unreachable(f"{self._name} cannot be written: {error}") from error
