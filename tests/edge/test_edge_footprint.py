"""What starting the router costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import edge_router

PACKAGE = Path(edge_router.__file__).parent
IMPORT = "import edge_router.platforms.asgi"


def cpu_s(code: str) -> float:
    """CPU seconds of a Python process that runs `code`: waiting for a core does not count."""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def modules(code: str) -> set[str]:
    listing = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    return set(json.loads(subprocess.check_output([sys.executable, "-c", listing])))


def test_importing_the_router_costs_at_most_60_ms() -> None:
    """Over bare Python, with everything the router process needs of ours.

    Neighbours on the machine's caches make both slower, nothing makes them faster: the best of up to 40 runs counts.
    """
    bare_s = importing_s = float("inf")
    for _ in range(40):
        bare_s, importing_s = min(bare_s, cpu_s("pass")), min(importing_s, cpu_s(IMPORT))
        if importing_s - bare_s <= 0.060:
            break
    assert importing_s - bare_s <= 0.060


def test_only_the_standard_library_is_imported() -> None:
    """Nothing else of ours, no dependency, and not the parts of the standard library that are slow to load."""
    imported = {name for name in modules(IMPORT) - modules("pass") if not name.startswith("edge_router")}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
    assert not imported & {"asyncio", "urllib.request", "http.server", "concurrent.futures", "multiprocessing"}


def test_the_package_is_below_100_kb() -> None:
    """Source files, as they are shipped."""
    assert sum(path.stat().st_size for path in PACKAGE.rglob("*.py")) < 100_000
