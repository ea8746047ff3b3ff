"""What a cloud's machine installs to run the agent. Run as a program it prints what the file should hold."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
HEADER = "# aiohttp and httptools as locked, for Linux machines. Made by: python -m tests.agent.test_requirements > replica_agent/requirements.txt\n"
FITTING = re.compile(r"-(cp31[123]-cp31[123]-manylinux\S+_(x86_64|aarch64)|py3-none-any)\.whl$")


def requirements() -> str:
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    packages: dict[str, Any] = {package["name"]: package for package in lock["package"]}
    needed: set[str] = set()
    waiting = ["aiohttp", "httptools"]
    while waiting:
        needed.add(name := waiting.pop())
        waiting += [each["name"] for each in packages[name].get("dependencies", ()) if each["name"] not in needed]
    return HEADER + "".join(_requirement(packages[name]) for name in sorted(needed))


def _requirement(package: dict[str, Any]) -> str:
    hashes = sorted(wheel["hash"] for wheel in package["wheels"] if FITTING.search(wheel["url"]))
    return " \\\n".join([f"{package['name']}=={package['version']}", *(f"    --hash={each}" for each in hashes)]) + "\n"


def test_machines_get_what_was_tested() -> None:
    """The agent's requirements are the lock's: aiohttp, httptools, all they depend on, and wheels for every Linux machine."""
    text = requirements()
    assert (ROOT / "replica_agent" / "requirements.txt").read_text(encoding="utf-8") == text
    for requirement in text.removeprefix(HEADER).split("\n\n"):
        assert "--hash=sha256:" in requirement


if __name__ == "__main__":
    sys.stdout.write(requirements())
