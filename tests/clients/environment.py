"""The clients' own environments, filled on first use from PyPI and npm: some 350 MB, a minute and a half."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from chalicelib.providers.local import files

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Clients:
    """Where the two languages' clients run."""

    python: Path
    node: Path  # the directory of ask.mjs and its node_modules

    def command(self, client: str, mode: str, base_url: str, key: str) -> list[str]:
        """What asks the question with this client."""
        if client in ("node fetch", "axios", "openai-node"):
            return ["node", str(self.node / "ask.mjs"), client, mode, base_url, key]
        return [str(self.python), str(HERE / "ask.py"), client, mode, base_url, key]


def install(cache: Path) -> Clients:
    """Both environments. An interrupted installation is begun anew; two at once wait for each other.

    Raises:
        subprocess.CalledProcessError: pip or npm could not; they have said why.
    """
    pins = HERE / "requirements.txt", HERE / "node" / "package.json", HERE / "node" / "package-lock.json"
    digest = hashlib.sha256(b"".join(pin.read_bytes() for pin in pins)).hexdigest()[:12]
    home = cache / f"clients-{digest}-py{sys.version_info.major}{sys.version_info.minor}"
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)  # what lies in it is executed
    with files.exclusive(home.with_name(f"{home.name}.lock")):
        if not (home / ".whole").exists():
            shutil.rmtree(home, ignore_errors=True)
            _fill(home, *pins)
    clients = Clients(home / "python" / "bin" / "python", home / "node")
    shutil.copy(HERE / "node" / "ask.mjs", clients.node)
    return clients


def _fill(home: Path, requirements: Path, package: Path, lock: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", home / "python"], check=True)
    python = str(home / "python" / "bin" / "python")
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "install", "--no-deps", "--requirement", str(requirements)], check=True)
    (home / "node").mkdir()
    for pin in (package, lock):
        shutil.copy(pin, home / "node")
    npm = ["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(npm, cwd=home / "node", check=True)
    (home / ".whole").touch()
