"""A Python with SkyPilot in it, and SkyServe's side as a process of it. Never a dependency of Sailplane."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from chalicelib.providers.local import files

VERSION = "0.14.1"
_HERE = Path(__file__).parent


def environment(cache: Path) -> Path:
    """SkyPilot's Python, installed on first use: about a minute and 260 MB, from PyPI.

    Raises:
        subprocess.CalledProcessError: it could not be installed; pip has said why.
    """
    requirements = _HERE / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:8]
    home = cache / f"skypilot-{VERSION}-{digest}-py{sys.version_info.major}{sys.version_info.minor}"
    whole = home / ".whole"  # last, so that an interrupted installation is begun anew
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)  # what lies in it is executed
    with files.exclusive(home.with_name(f"{home.name}.lock")):
        if not whole.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
            pip = [str(home / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
            subprocess.run([*pip, "install", "--no-deps", "-r", str(requirements)], check=True)
            whole.touch()
    return home / "bin" / "python"


class Peer:
    """SkyServe's side: a question and its answer are one JSON document each."""

    def __init__(self, questions: IO[str], answers: IO[str]) -> None:
        self._questions = questions
        self._answers = answers

    def ask(self, question: dict[str, Any]) -> Any:
        """Raises EOFError when the process has ended; what it had to say stands on standard error."""
        self._questions.write(json.dumps(question) + "\n")
        self._questions.flush()
        if not (answer := self._answers.readline()):
            raise EOFError("SkyServe's side has ended")
        return json.loads(answer)


@contextmanager
def peer(python: Path) -> Iterator[Peer]:
    """A running `peer.py`. SkyPilot writes into its home directory when it is imported: it gets one of its own."""
    home = python.parent.parent / "home"
    home.mkdir(exist_ok=True)
    env = {"HOME": str(home), "PATH": os.defpath, "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    with subprocess.Popen(
        [python, _HERE / "peer.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Peer(process.stdin, process.stdout)
