"""Secrets as SecureStrings of AWS Systems Manager's Parameter Store: free, and encrypted with the account's key for it.

https://docs.aws.amazon.com/systems-manager/latest/userguide/systems-manager-parameter-store.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from chalicelib.errors import Exists, NotFound, Unreachable
from chalicelib.model import Secret

# An API call waits for it; a throttled one (an account may make 40 a second) is worth another try or two.
_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 4})
# https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_DeleteParameter.html: 30 s until the name is free again.
_NOT_FREE_YET = ("TooManyUpdates", "ParameterAlreadyExists")
_MOST_NAMES = 10  # that GetParameters takes at once


class SsmSecrets:
    """`ports.Secrets` in the parameters directly below `path`.

    Args:
        path: such as `/sailplane/acme-prod/secrets`.
        region: where they are kept.
        endpoint_url: a stand-in for SSM, `http://<access key id>@host:port`. Without it the SDK finds AWS and real credentials.
    """

    def __init__(self, path: str, region: str, *, endpoint_url: str | None = None) -> None:
        self._path = path
        self._region = region
        self._endpoint_url = endpoint_url

    def read(self, names: Collection[str]) -> Mapping[str, str]:
        wanted = [self._parameter(name) for name in names]
        found: dict[str, str] = {}
        for start in range(0, len(wanted), _MOST_NAMES):
            with _asking("GetParameters"):
                answer = self._client.get_parameters(Names=wanted[start : start + _MOST_NAMES], WithDecryption=True)
            found |= {self._name(each): each["Value"] for each in answer["Parameters"]}
        return found

    def write(self, name: str, text: str) -> None:
        with _asking("PutParameter", name):
            # Advanced parameters, which a setting of the account may make the default, cost $0.05 a month each.
            self._client.put_parameter(
                Name=self._parameter(name), Value=text, Type="SecureString", Tier="Standard", Overwrite=True
            )

    def delete(self, name: str) -> None:
        with _asking("DeleteParameter", name):
            self._client.delete_parameter(Name=self._parameter(name))

    def known(self) -> tuple[Secret, ...]:
        with _asking("GetParametersByPath"):
            # Not decrypted: who lists names need not be allowed to read texts.
            pages = self._client.get_paginator("get_parameters_by_path").paginate(Path=self._path, WithDecryption=False)
            found = [each for page in pages for each in page["Parameters"]]
        return tuple(sorted(map(self._seen, found), key=lambda secret: secret.name))

    @cached_property
    def _client(self) -> Any:
        """Made when first used, in 80 ms that most functions never pay; of a session of its own, for threads must not share one."""
        stand_in: dict[str, Any] = {}
        if self._endpoint_url:
            parts = urlsplit(self._endpoint_url)
            stand_in = {"endpoint_url": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"}
            stand_in |= dict.fromkeys(("aws_access_key_id", "aws_secret_access_key"), parts.username)
        return get_session().create_client("ssm", region_name=self._region, config=_CONFIG, **stand_in)

    def _seen(self, parameter: Mapping[str, Any]) -> Secret:
        # AWS's milliseconds, which survive every notation; the stand-in has more.
        changed_at = round(parameter["LastModifiedDate"].timestamp(), 3)
        return Secret(self._name(parameter), parameter["Version"], changed_at)

    def _parameter(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _name(self, parameter: Mapping[str, Any]) -> str:
        name: str = parameter["Name"]
        return name.removeprefix(f"{self._path}/")


@contextmanager
def _asking(operation: str, name: str = "") -> Iterator[None]:
    """Raise what goes wrong as our errors, without AWS's words and without the cause: both may repeat the text that was sent."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "ParameterNotFound":
            raise NotFound(f"There is no secret {name!r}.") from None
        if code in _NOT_FREE_YET:
            raise Exists(
                f"AWS is still busy with the secret {name!r}: one that was removed cannot be set again for 30 s. Nothing was set; "
                "try again then."
            ) from None
        raise Unreachable(f"AWS refused ssm:{operation}: {code}.") from None
    except BotoCoreError as error:
        raise Unreachable(f"AWS did not answer ssm:{operation}: {type(error).__name__}.") from None
