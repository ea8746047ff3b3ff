"""Log records as JSON, one object a line.

    {"timestamp": "2026-11-22T18:40:00.123Z", "level": "INFO", "message": "pass", "logger": "chalicelib.api.triggers",
     "request_id": "…", "service": "hello", "acted": true}

`timestamp` and `level` are the names by which Lambda's own log filters know them
(https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html). Whatever a caller gives as `extra`
stands beside them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from datetime import UTC, datetime
from functools import partial
from typing import Any

from chalicelib.ports import Settings
from chalicelib.telemetry.redaction import clean, redacted

# What logging itself puts on a record, and what Lambda's runtime does: nobody's `extra`.
_NOT_EXTRA = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "aws_request_id", "tenant_id"}


class JsonLines(logging.Formatter):
    """Formats records without secrets.

    Args:
        known: secrets of this process, which are hidden wherever they stand.
    """

    def __init__(self, known: Collection[str]) -> None:
        super().__init__()
        self._redact = partial(redacted, known=tuple(known))

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in _NOT_EXTRA}
        document: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            # Of the invocation, which Lambda's runtime puts on every record; a request's own id takes precedence.
            "request_id": getattr(record, "aws_request_id", None),
            **extra,
            "error": self.formatException(record.exc_info) if record.exc_info else None,
        }
        told = {name: clean(value, self._redact) for name, value in document.items() if value is not None}
        return json.dumps(told, ensure_ascii=False)


def configure(known: Collection[str], root: logging.Logger) -> None:
    """Have everything that this process logs, from INFO on, written so: by the handlers that are there, or on stderr."""
    if not root.handlers:
        root.addHandler(logging.StreamHandler())
    for handler in root.handlers:
        handler.setFormatter(JsonLines(known))
    root.setLevel(logging.INFO)
    # Each request of theirs, at INFO: with a pass every few seconds that is most of the log, and none of the news.
    for talkative in ("httpx", "botocore", "urllib3", "azure"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """What a process with these settings must never write."""
    return tuple(
        filter(None, (settings.admin_key, settings.agent_key, *settings.router_tokens, *settings.cloud_secrets))
    )
