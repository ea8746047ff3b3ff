"""What starting the router costs."""

from __future__ import annotations

import json
import subprocess
import sys

IMPORT = "import edge_router.snapshot"


def modules(code: str) -> set[str]:
    listing = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    return set(json.loads(subprocess.check_output([sys.executable, "-c", listing])))


def test_only_the_standard_library_is_imported() -> None:
    """Nothing else of ours, no dependency, and not the parts of the standard library that are slow to load.

    The time it takes is measured by benchmarks/router_decision.py; what costs time is modules, and these can be counted
    on a busy machine too (86 more than bare Python today).
    """
    imported = {name for name in modules(IMPORT) - modules("pass") if not name.startswith("edge_router")}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
    assert len(modules(IMPORT) - modules("pass")) <= 120
    assert not imported & {"asyncio", "urllib.request", "http.server", "concurrent.futures", "multiprocessing"}
