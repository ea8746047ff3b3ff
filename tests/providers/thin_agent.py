"""The agent without its proxy: it takes the lock, tells a port and waits. For drills that start agents by the hundred."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from replica_agent import lock

if __name__ == "__main__":
    directory = Path(sys.argv[sys.argv.index("--config") + 1]).parent
    try:
        descriptor = lock.take(directory)
    except lock.Refused:
        sys.exit(3)
    lock.publish(descriptor, {"pid": os.getpid(), "port": 1, "engine_port": 2, "started_at": 0.0})
    with (directory / "lives").open("a") as lives:
        lives.write(f"{os.getpid()}\n")
    signal.pause()
