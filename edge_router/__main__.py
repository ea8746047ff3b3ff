"""The router's program: `python -m edge_router`, set up by the environment (edge_router/platforms/settings.py)."""

from __future__ import annotations

import argparse
import logging
import socket
import sys

from edge_router.platforms import server
from edge_router.platforms.settings import WrongSetting


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m edge_router", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="0 takes any free one (%(default)s)")
    parser.add_argument("--fd", type=int, help="a listening socket that was handed down, instead of host and port")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if arguments.fd is None:
            listening = server.listener(arguments.host, arguments.port)
        else:
            listening = socket.socket(fileno=arguments.fd)
        server.run(listening)
    except (WrongSetting, OSError) as error:
        sys.exit(f"The edge router cannot start: {error}")


if __name__ == "__main__":
    main()
