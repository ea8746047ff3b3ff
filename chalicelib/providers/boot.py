"""How a cloud's machine becomes a replica: what its user data says.

The same script for every cloud. It holds no secret that is worth anything twice: the boot token is taken once, by the
first machine that shows it (`ports.Store.claim_boot`), in exchange for the agent and its configuration.
"""

from __future__ import annotations

import json

from chalicelib.model import LaunchRequest

# The one port that a cloud's firewall lets in; the agent listens on it, and the engine on its own port behind it.
AGENT_PORT = 7481

_SCRIPT = """\
#!/bin/bash
set -eu
umask 077
"""


def user_data(cloud: str, control_url: str, request: LaunchRequest) -> str:
    """The script that a new machine runs as root. The same request gives the same text, as idempotent launches require."""
    ticket = {
        "cloud": cloud,
        "control_url": control_url,
        "replica_id": request.replica.id,
        "boot_token": request.boot_token,
    }
    return f"{_SCRIPT}: {json.dumps(ticket)!r}\n"


def agent_url(address: str) -> str:
    """Where the agent of the machine with this IP address listens; empty while it has none."""
    return f"http://{address}:{AGENT_PORT}" if address else ""
