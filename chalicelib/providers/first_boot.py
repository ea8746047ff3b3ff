"""What a cloud's new machine does first, as root: it learns what it is to be, and becomes that.

`boot.user_data` sends this file's text; nothing imports it. It must run on whatever Python a cloud's image has, so it uses
the standard library and the syntax of Python 3.6. When it ends, for whatever reason, the machine is switched off.
"""

import base64
import hashlib
import io
import ipaddress
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from http.client import HTTPException
from pathlib import Path
from typing import Any

PATIENCE_S = 600  # a network may take minutes to come up; after `Limits.provisioning_s` (900 s) the replica is given up
LONGEST_PAUSE_S = 15
TIMEOUT_S = 30  # as long as API Gateway waits for its function
REFUSALS = (401, 403, 410)  # asking again cannot help
# A network that is not up, an answer cut short or that makes no sense, a wheel that is none, uv's failure.
TROUBLE = (OSError, HTTPException, ValueError, KeyError, zipfile.BadZipFile, subprocess.CalledProcessError)
METADATA_URL = "http://169.254.169.254"  # the same address on all three clouds
ROOT = "/opt/sailplane"
# uv is one static program, so that an image needs neither pip nor venv.
UV = "uv-0.13.9"
PYPI = "https://files.pythonhosted.org/packages/"
X86, ARM = (
    "manylinux_2_17_x86_64.manylinux2014_x86_64",
    "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
)
UV_WHEELS = {
    "x86_64": (
        f"{PYPI}3d/aa/26d64642d808de4a652579ef950d7cd2d37f080a8babf9c67c6b75fc4c3f/{UV}-py3-none-{X86}.whl",
        "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    ),
    "aarch64": (
        f"{PYPI}57/15/94b6cd62ac3ff6550288328e8035288875197cbc183f51554b266a69877b/{UV}-py3-none-{ARM}.whl",
        "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
    ),
}
NEEDED = ("aiohttp", "httptools")
IS_FIT = f"""
import sys
from importlib.metadata import version
sys.exit(sys.version_info < (3, 11) or [version(name) for name in {NEEDED}] != sys.argv[1:])
"""


def main(ticket: Any, environ: Any) -> None:
    """Become the replica that the ticket is for. Never returns: this process becomes the agent, or exits."""
    os.umask(0o077)
    deadline = time.monotonic() + PATIENCE_S
    metadata_url = environ.get("SAILPLANE_METADATA_URL", METADATA_URL)
    # Made anew by a machine that is started again, which is why it is refused then: a replica has one life.
    machine_key = secrets.token_hex(16)
    told = insist(deadline, "control plane", lambda: claim(ticket, machine_key))
    address = insist(deadline, "metadata", lambda: private_ip(ticket["cloud"], metadata_url))
    root = Path(environ.get("SAILPLANE_ROOT", ROOT))
    directory = root / ticket["replica_id"]
    (directory / "workdir").mkdir(parents=True, exist_ok=True)
    config = dict(told["config"], host=address, metadata_url=metadata_url, workdir="workdir")
    (directory / "agent.json").write_text(json.dumps(config))
    (directory / "agent.pyz").write_bytes(base64.b64decode(told["agent"]))
    python = fit_python(told["requirements"])
    if not python:
        python = insist(deadline, "Python", lambda: made_python(root, told["requirements"]))
    # cloud-init leaves HOME out, where engines keep their models.
    environ = dict({"HOME": str(Path.home()), "PATH": os.defpath}, **environ)
    os.chdir(str(directory))
    # As root: the user's commands install drivers and packages and talk to docker. What it writes to standard output is the
    # machine's console log.
    command = [python, "-P", "agent.pyz", "--config", str(directory / "agent.json")]
    os.execve(python, command, environ)  # noqa: S606 - no shell, and no word of it is the user's


def insist(deadline: float, what: str, attempt: Any) -> Any:
    """What `attempt()` returns, tried until the deadline. Exits when the time is up."""
    pause_s = 1
    while True:
        try:
            return attempt()
        except TROUBLE as error:
            trouble = f"{type(error).__name__}: {error}"
        if time.monotonic() + pause_s > deadline:
            sys.exit(f"sailplane: {what}: {trouble}; giving up")
        print(f"sailplane: {what}: {trouble}; again in {pause_s} s", flush=True)  # noqa: T201 - the console log
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def claim(ticket: Any, machine_key: str) -> Any:
    """Show the ticket and be told what to run. Exits when the machine is refused: it comes too late, or is not the first."""
    body = {"replica_id": ticket["replica_id"], "boot_token": ticket["boot_token"], "machine_key": machine_key}
    headers = {"Content-Type": "application/json"}
    try:
        return json.loads(fetch(ticket["control_url"] + "/v1/boot", headers, json.dumps(body).encode()).decode())
    except urllib.error.HTTPError as error:
        # A gateway or firewall in between may answer so too, while it is being changed; the control plane's word has a form.
        is_ours = error.headers.get("Content-Type", "").startswith("application/problem+json")
        if error.code in REFUSALS and is_ours:
            sys.exit(f"sailplane: refused: {error.read(2000).decode(errors='replace')}")
        raise


def private_ip(cloud: str, base: str) -> str:
    """This machine's address within its cloud's network."""
    if cloud == "aws":
        token = fetch(base + "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, method="PUT")
        address = fetch(base + "/latest/meta-data/local-ipv4", {"X-aws-ec2-metadata-token": token.decode()})
    elif cloud == "gcp":
        url = base + "/computeMetadata/v1/instance/network-interfaces/0/ip"
        address = fetch(url, {"Metadata-Flavor": "Google"})
    else:
        path = "/metadata/instance/network/interface/0/ipv4/ipAddress/0/privateIpAddress"
        address = fetch(base + path + "?api-version=2021-02-01&format=text", {"Metadata": "true"})
    return str(ipaddress.ip_address(address.decode().strip()))


def fit_python(requirements: str) -> str:
    """A Python of the image that can run the agent as it was tested; empty when there is none."""
    wanted = [requirements.partition(f"\n{name}==")[2].split()[0] for name in NEEDED]
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        path = shutil.which(name)
        if path and subprocess.call([path, "-c", IS_FIT, *wanted], stderr=subprocess.DEVNULL) == 0:  # noqa: S603 - no shell
            return path
    return ""


def made_python(root: Path, requirements: str) -> str:
    """An environment of our own, every package checked against its hash."""
    url, digest = UV_WHEELS[platform.machine()]
    wheel = fetch(url, {})
    if hashlib.sha256(wheel).hexdigest() != digest:
        raise ValueError("uv's hash is wrong")
    uv, home, listed = root / "uv", root / "env", root / "requirements.txt"
    uv.write_bytes(zipfile.ZipFile(io.BytesIO(wheel)).read(UV + ".data/scripts/uv"))
    uv.chmod(0o700)
    listed.write_text(requirements)
    python = str(home / "bin" / "python")
    environ = {
        "PATH": os.defpath,
        "UV_NO_CONFIG": "1",
        "UV_SYSTEM_CERTS": "1",  # trust what the image trusts, as this program does
        "UV_CACHE_DIR": str(root / "cache"),
        "UV_PYTHON_INSTALL_DIR": str(root / "python"),
    }
    checked = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(listed)]
    for command in (
        ["venv", "--clear", "--python", ">=3.11,<3.14", str(home)],
        ["pip", "install", "--python", python, *checked],
    ):
        subprocess.check_call([str(uv), *command], env=environ)  # noqa: S603 - no shell
    return python


def fetch(url: str, headers: Any, body: Any = None, method: Any = None) -> bytes:
    """One HTTP request's answer; certificates are checked."""
    request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 - http(s), by the control plane's configuration
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - same
        content: bytes = answer.read()
    return content
