"""Launches once for every effect a launch has, each time killed with SIGKILL right before that effect.

Effects are the interpreter's own audit events (files opened, locked, renamed; processes started), so none is forgotten
when the code changes. Prints how many there were.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from chalicelib.model import Location
from chalicelib.providers.local.compute import LocalProvider
from tests.fakes import FakeClock
from tests.providers.contract import launch_request, offer_in

REPLICA_ID = "hello-step-0-1"
EFFECTS = {
    "fcntl.flock",
    "open",
    "os.chmod",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "shutil.rmtree",
    "subprocess.Popen",
}


def launch_until(effect: int, root: Path, python: str) -> None:
    """Launch a replica in the empty cloud `root`/<effect> and die before the `effect`th effect."""
    happened = 0

    def die_in_time(event: str, _arguments: object) -> None:
        nonlocal happened
        if event in EFFECTS:
            happened += 1
            if happened == effect:
                os.kill(os.getpid(), signal.SIGKILL)

    provider = LocalProvider(root / str(effect), "test", python, os.environ, FakeClock())
    request = launch_request(offer_in(Location("local", "laptop"), "process"), REPLICA_ID)
    sys.addaudithook(die_in_time)
    provider.launch(request)


if __name__ == "__main__":
    effect, status = 0, signal.SIGKILL.value
    while status == signal.SIGKILL:
        effect += 1
        child = os.fork()
        if not child:
            launch_until(effect, Path(sys.argv[1]), sys.argv[2])
            os._exit(0)
        status = os.waitpid(child, 0)[1]
    sys.stdout.write(f"{effect - 1}\n")
    sys.exit(status)
