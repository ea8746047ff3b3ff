"""The metadata server of one machine, https://cloud.google.com/compute/docs/metadata/querying-metadata."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from threading import Event
from urllib.parse import parse_qsl, urlsplit

_ROOT = "/computeMetadata/v1/"
_FLAVOR = {"Metadata-Flavor": "Google"}
_LONGEST_WAIT_S = 60.0  # Google waits for ever unless told otherwise


class MetadataServer:
    """A `box.Metadata`. `values` gives all but `preempted`, by path; whoever takes the machine sets that."""

    def __init__(self, values: Callable[[], dict[str, str]]) -> None:
        self._values = values
        self.preempted = Event()

    def __call__(self, method: str, target: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        url = urlsplit(target)
        if method != "GET":
            return 405, _FLAVOR, b"Method Not Allowed\n"
        if headers.get("metadata-flavor") != "Google":
            return 403, _FLAVOR, b"Missing Metadata-Flavor:Google header.\n"
        if not url.path.startswith(_ROOT):
            return 404, _FLAVOR, b"Not Found\n"
        name, query = url.path.removeprefix(_ROOT), dict(parse_qsl(url.query))
        if name == "instance/preempted":
            return _answer(self._preempted(query))
        value = self._values().get(name)
        return (404, _FLAVOR, b"Not Found\n") if value is None else _answer(value)

    def _preempted(self, query: dict[str, str]) -> str:
        """`wait_for_change=true` waits for `timeout_sec` at most, for a value other than the one of `last_etag`.

        Without `last_etag` that is the value at the time of asking: who asks late waits for a change that has been already.
        """
        value = self._value()
        if query.get("wait_for_change") == "true" and query.get("last_etag", _etag(value)) == _etag(value):
            change = self.preempted if value == "FALSE" else Event()
            change.wait(min(float(query.get("timeout_sec", _LONGEST_WAIT_S)), _LONGEST_WAIT_S))
        return self._value()

    def _value(self) -> str:
        return "TRUE" if self.preempted.is_set() else "FALSE"


def _answer(value: str) -> tuple[int, dict[str, str], bytes]:
    return 200, {**_FLAVOR, "Content-Type": "application/text", "ETag": _etag(value)}, value.encode()


def _etag(value: str) -> str:
    return f"{zlib.crc32(value.encode()):08x}"
