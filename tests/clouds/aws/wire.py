"""EC2's way of speaking: form in, XML out, over HTTP."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from xml.etree import ElementTree as ET

from tests.clouds.aws.requests import Refused
from tests.clouds.box import HttpServer

Answer = tuple[int, bytes]  # status and XML


Fields = Mapping[str, Any]  # a text, further fields, or a list of those


def xml(name: str, fields: Fields) -> bytes:
    """An answer: texts, structures, and lists of structures."""
    root = ET.Element(name)
    _fill(root, fields)
    return ET.tostring(root)


def _fill(element: ET.Element, fields: Fields) -> None:
    for key, value in fields.items():
        child = ET.SubElement(element, key)
        if isinstance(value, str):
            child.text = value
        elif isinstance(value, list):
            for item in value:
                _fill(ET.SubElement(child, "item"), item)
        else:
            _fill(child, value)


def error(refused: Refused) -> bytes:
    """An error as EC2 answers it."""
    fields: Fields = {"Code": refused.code, "Message": refused.message}
    return xml("Response", {"Errors": {"Error": fields}, "RequestID": secrets.token_hex(8)})


def without(body: bytes, collection: str, unwanted: Callable[[ET.Element], bool]) -> bytes:
    """The answer, its collection rid of some items."""
    root = ET.fromstring(body)  # noqa: S314 moto's
    for items in root.iterfind(f"{{*}}{collection}"):
        for item in [each for each in items if unwanted(each)]:
            items.remove(item)
    return ET.tostring(root)


def text_of(element: ET.Element, path: str) -> str:
    """The text at a path (a child's name, or ElementTree's), or empty."""
    return element.findtext(path if path.startswith(".") else f"{{*}}{path}") or ""


def serve(answer: Callable[[str, str], Answer | None], answered: Callable[[], None], port: int) -> HttpServer:
    """Serve on 127.0.0.1 until shut down; `answered` is called after each answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            given = answer(self.headers.get("Authorization", ""), body)
            if given is None:
                self.close_connection = True
            else:
                status, document = given
                self.send_response(status)
                self.send_header("Content-Type", "text/xml;charset=UTF-8")
                self.send_header("Content-Length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)
            answered()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 http.server's name
            """Say nothing."""

    server = HttpServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), name="aws box", daemon=True).start()
    return server
