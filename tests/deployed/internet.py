"""The way to AWS's public addresses, as they stand in a stack's outputs: https, by name, ending at the stand-in.

A proxy, as a company's network has one: whoever has `environment` in theirs (the command line, functions) reaches
`https://….lambda-url.….on.aws/` and `https://….execute-api.….amazonaws.com/`, and nothing else.
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Internet:
    """A proxy on 127.0.0.1 that ends TLS for AWS's names of one region and passes everything on to a port.

    Args:
        directory: takes the certificates.
        port: where the stand-in listens.
    """

    def __init__(self, directory: Path, port: int, region: str = "us-east-1") -> None:
        suffixes = (f"lambda-url.{region}.on.aws", f"execute-api.{region}.amazonaws.com")
        self._authority = directory / "authority.pem"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certified(self._authority, directory / "names.pem", [f"*.{one}" for one in suffixes]))
        self._server = _Server(("127.0.0.1", 0), _Tunnel)
        self._server.context, self._server.port, self._server.suffixes = context, port, suffixes

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to be told to go this way."""
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {
            "HTTPS_PROXY": address,
            "https_proxy": address,
            "NO_PROXY": "127.0.0.1,localhost",
            "SSL_CERT_FILE": str(self._authority),
        }


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    context: ssl.SSLContext
    port: int
    suffixes: tuple[str, ...]


class _Tunnel(socketserver.StreamRequestHandler):
    server: _Server
    rbufsize = 0  # what follows the request's head is TLS, which must not be read ahead

    def handle(self) -> None:
        method, target, _ = self.rfile.readline().decode().split(" ")
        while self.rfile.readline().strip():
            pass
        if method != "CONNECT" or not target.removesuffix(":443").endswith(self.server.suffixes):
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with (
            suppress(OSError),
            self.server.context.wrap_socket(self.connection, server_side=True) as client,
            socket.create_connection(("127.0.0.1", self.server.port)) as stand_in,
        ):
            back = threading.Thread(target=_pass_on, args=(stand_in, client), daemon=True)
            back.start()
            _pass_on(client, stand_in)
            back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def _certified(authority: Path, certificate: Path, names: list[str]) -> Path:
    """A certificate for `names`, with its key, and the authority by which it is known; good for a day."""
    root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests of Sailplane")])
    now = datetime.now(UTC)

    def builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )

    made = builder(issuer, root).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    authority.write_bytes(made.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    leaf = builder(x509.Name([]), own).add_extension(alternatives, critical=True).sign(root, hashes.SHA256())
    key = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificate.write_bytes(key + leaf.public_bytes(serialization.Encoding.PEM))
    return certificate
