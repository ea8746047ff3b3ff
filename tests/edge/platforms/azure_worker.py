"""What Azure's Python worker does with a function app, without gRPC: indexes it, then calls its function.

Requests come as lines of JSON on stdin, answers leave as lines on stdout. The conversions on both sides of the call are
the library's own, the ones that the worker uses.
"""

from __future__ import annotations

import base64
import json
import sys
from importlib import import_module
from typing import Any

from azure.functions import http, meta


def main() -> None:
    """Serve until stdin ends."""
    app = import_module("function_app").app
    [function] = app.get_functions()
    say(json.loads(function.get_function_json()))
    for line in sys.stdin:
        request = http.HttpRequestConverter.decode(http_datum(json.loads(line)), trigger_metadata=None)
        response = function.get_user_function()(**{function.get_trigger().name: request})
        answer = http.HttpResponseConverter.encode(response, expected_type=None).value
        headers = {name: value.value for name, value in answer["headers"].items()}
        body = base64.b64encode(answer["body"].value).decode()
        say({"status": int(answer["status_code"].value), "headers": headers, "body": body})


def http_datum(message: dict[str, Any]) -> meta.Datum:
    """A request as it comes out of the host's protocol."""
    return meta.Datum(
        {
            "method": text(message["method"]),
            "url": text(message["url"]),
            "headers": {name: text(value) for name, value in message["headers"].items()},
            "query": {},
            "params": {},
            "body": meta.Datum(base64.b64decode(message["body"]), "bytes"),
        },
        "http",
    )


def text(value: str) -> meta.Datum:
    """A string of the host's protocol."""
    return meta.Datum(value, "string")


def say(document: object) -> None:
    """One line."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
