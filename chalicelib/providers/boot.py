"""How a cloud's machine becomes a replica: what its user data says, and what it is told in exchange for its boot token.

The same script for every cloud. It holds no secret that is worth anything twice: the boot token is taken once, by the
first machine that shows it (`ports.Store.claim_boot`), in exchange for the agent and its configuration.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from chalicelib.model import EngineSpec, LaunchRequest

# The one port that a cloud's firewall lets in; the agent listens on it, and the engine on its own port behind it.
AGENT_PORT = 7481

# SkyPilot's default, which the files of its users count on: weights, a container image and their caches.
DEFAULT_DISK_GIB = 256

# A machine in a cloud is the engine's own: `pip install` need not spare a system that nobody else uses (PEP 668).
_MACHINE_ENV = {"PIP_BREAK_SYSTEM_PACKAGES": "1"}
_OWN_PORT = re.compile(r"\bSAILPLANE_PORT\b")
_DOCKER = "docker:"
# A machine without an agent is worth nothing, whether it was refused, gave up, or its agent has ended: it switches itself
# off. (EC2 removes it then; elsewhere it stays, stopped, until the control plane removes it.)
_SCRIPT = """\
#!/bin/bash
umask 077
python3 - <<'SAILPLANE'
{program}

main({ticket}, os.environ)
SAILPLANE
shutdown -h now
"""
_START = "import sys\nfrom replica_agent.__main__ import main\nsys.exit(main())\n"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def user_data(cloud: str, control_url: str, request: LaunchRequest) -> str:
    """The script that a new machine runs as root. The same request gives the same text, as idempotent launches require."""
    ticket = {
        "cloud": cloud,
        "control_url": control_url,
        "replica_id": request.replica.id,
        "boot_token": request.boot_token,
    }
    program = Path(__file__).with_name("first_boot.py").read_text(encoding="utf-8")
    # JSON of texts only is Python too, and is one line of ASCII, which cannot end the here-document.
    return _SCRIPT.format(program=program, ticket=json.dumps(ticket))


def agent_url(address: str) -> str:
    """Where the agent of the machine with this IP address listens; empty while it has none."""
    return f"http://{address}:{AGENT_PORT}" if address else ""


def configuration(request: LaunchRequest, cloud: str, control_url: str) -> dict[str, Any]:
    """What `replica_agent.config` reads, but for what only the machine knows: `host`, `metadata_url` and `workdir`."""
    replica, engine = request.replica, request.engine
    image = replica.requirement.image_id
    return {
        "cloud": cloud,
        "control_url": control_url,
        "replica_id": replica.id,
        "service": replica.service,
        "boot_nonce": replica.boot_nonce,
        "agent_token": request.agent_token,
        "access": request.access,
        "edge_url": request.edge_url,
        "grant_keys": dict(request.grant_keys),
        "engine_key": request.engine_key,
        "engine_key_env": request.engine_key_env,
        "secrets_url": f"{control_url}/v1/replicas/{replica.id}/secrets" if engine.secrets else "",
        "port": AGENT_PORT,
        "engine_port": _engine_port(engine),
        "image": image.removeprefix(_DOCKER) if image.startswith(_DOCKER) else "",
        "setup": engine.setup,
        "run": engine.run,
        "env": {**_node_env(request), **(_MACHINE_ENV if cloud != "local" else {}), **dict(engine.envs)},
        "drain_timeout_s": request.drain_timeout_s,
    }


@cache
def agent_archive() -> bytes:
    """The replica agent as a zip file that Python runs. The same sources give the same bytes."""
    sources = {
        f"replica_agent/{each.name}": each.read_text(encoding="utf-8")
        for each in files("replica_agent").iterdir()
        if each.name.endswith(".py")
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for name, text in sorted({"__main__.py": _START, **sources}.items()):
            packed.writestr(zipfile.ZipInfo(name, _LONG_AGO), text, zipfile.ZIP_DEFLATED)
    return archive.getvalue()


@cache
def agent_requirements() -> str:
    """What the agent needs from PyPI, by hash."""
    return files("replica_agent").joinpath("requirements.txt").read_text(encoding="utf-8")


def _engine_port(engine: EngineSpec) -> int:
    """0, a free one, when the command asks which; otherwise the port it is known to listen on."""
    return 0 if _OWN_PORT.search(engine.setup + "\n" + engine.run) else engine.port


def _node_env(request: LaunchRequest) -> dict[str, str]:
    """What SkyPilot tells a task about its node, under both names."""
    replica = request.replica
    values = {
        "NUM_GPUS_PER_NODE": str(replica.offer.accelerator_count),
        "NODE_RANK": "0",
        "NUM_NODES": str(request.engine.num_nodes),
        "NODE_IPS": "127.0.0.1",
        "SERVE_REPLICA_ID": str(replica.generation),
    }
    return {f"{prefix}_{name}": value for prefix in ("SKYPILOT", "SAILPLANE") for name, value in values.items()}
