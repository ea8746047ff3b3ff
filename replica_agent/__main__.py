"""`python -m replica_agent --config FILE`: exit code 0 after SIGTERM, 2 bad configuration, 3 this directory is taken."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from replica_agent import lock
from replica_agent.agent import live
from replica_agent.config import ConfigError, load


def main() -> int:
    """Run one agent to its end and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="replica_agent", description="Runs one replica's engine and stands before it."
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="JSON file, mode 0600; its directory is the replica's"
    )
    arguments = parser.parse_args()
    if os.getpgrp() != os.getpid():
        os.setpgrp()  # an interruption kills the whole group, which must not be the caller's
    try:
        config = load(arguments.config)
        asyncio.run(live(config, os.environ))
    except ConfigError as error:
        return _fail(2, str(error))
    except lock.Refused as error:
        return _fail(3, str(error))
    return 0


def _fail(code: int, message: str) -> int:
    print(f"replica_agent: {message}", file=sys.stderr)  # noqa: T201 - it goes to agent.log, the only place to say it
    return code


if __name__ == "__main__":
    sys.exit(main())
