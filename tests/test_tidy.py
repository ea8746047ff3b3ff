"""The house rules that a machine can check: who imports whom, where the environment is read, what is documented."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parent.parent
SHIPPED = ("app.py", "chalicelib", "edge_router", "replica_agent", "sailplane")
OURS = ("app", "chalicelib", "edge_router", "replica_agent", "sailplane", "infra", "tests")

# Module (longest prefix wins) -> what it may import besides the standard library: our modules and others'. The reasons
# stand in ARCHITECTURE.md.
MAY_IMPORT: dict[str, set[str]] = {
    "chalicelib.model": set(),
    "chalicelib.actions": {"chalicelib.model"},
    "chalicelib.errors": {"chalicelib.model"},
    "chalicelib.identity": set(),
    "chalicelib.words": set(),
    "chalicelib.spec": {
        "chalicelib.spec",
        "chalicelib.model",
        "chalicelib.errors",
        "cronsim",
        "pydantic",
        "pydantic_core",
        "yaml",
    },
    "chalicelib.catalog": {"chalicelib.catalog", "chalicelib.model"},
    "chalicelib.scaler": {
        "chalicelib.scaler",
        "chalicelib.optimizer",  # who stands in for whom
        "chalicelib.model",
        "chalicelib.actions",
        "cronsim",  # pure: when did an expression fire last before an instant?
    },
    "chalicelib.optimizer": {"chalicelib.optimizer", "chalicelib.model", "chalicelib.actions", "chalicelib.words"},
    "chalicelib.lifecycle": {
        "chalicelib.lifecycle",
        "chalicelib.scaler",  # who stays when fewer are wanted
        "chalicelib.optimizer",  # how many replicas of which kind are wanted
        "chalicelib.model",
        "chalicelib.actions",
    },
    "chalicelib.routing": {
        "chalicelib.lifecycle",
        "chalicelib.scaler",  # what a replica can take
        "chalicelib.model",
    },
    "chalicelib.cost": set(),
    "chalicelib.ports": {"chalicelib.model", "chalicelib.cost"},
    "chalicelib.edge_table": {"chalicelib.model"},
    "chalicelib.launching": {"chalicelib.model", "chalicelib.identity", "chalicelib.ports"},
    "chalicelib.deploying": {
        "chalicelib.model",
        "chalicelib.errors",
        "chalicelib.ports",
        "chalicelib.schedule",
        "chalicelib.writes",
        "chalicelib.spec",
        "chalicelib.catalog",
        "chalicelib.optimizer",
        "chalicelib.lifecycle",
    },
    "chalicelib.writes": {"chalicelib.errors"},
    "chalicelib.schedule": {"chalicelib.hooks", "chalicelib.model", "chalicelib.errors", "chalicelib.ports"},
    "chalicelib.hooks": {"chalicelib.hooks", "chalicelib.model", "chalicelib.errors", "jwt", "pydantic"},
    "chalicelib.forges": {
        "chalicelib.forges",
        "chalicelib.model",
        "chalicelib.errors",
        "chalicelib.ports",
        "httpx",
        "pydantic",
    },
    "chalicelib.executor": {
        "chalicelib.model",
        "chalicelib.actions",
        "chalicelib.errors",
        "chalicelib.ports",
        "chalicelib.launching",
        "chalicelib.lifecycle",
        "chalicelib.optimizer",  # what an outcome says about a zone
        "chalicelib.words",
    },
    "chalicelib.passes": {
        "chalicelib.passes",
        "chalicelib.scaler",
        "chalicelib.optimizer",
        "chalicelib.lifecycle",
        "chalicelib.routing",
        "chalicelib.edge_table",  # which are left for routers, sealed
        "chalicelib.identity",
        "chalicelib.executor",
        "chalicelib.deploying",  # what a push asks for, as its owner would
        "chalicelib.hooks",
        "chalicelib.schedule",
        "chalicelib.ports",
        "chalicelib.model",
        "chalicelib.actions",
        "chalicelib.errors",
    },
    "chalicelib.providers.local": {
        "chalicelib.providers.local",
        "chalicelib.providers.boot",
        "chalicelib.model",
        "chalicelib.errors",
        "chalicelib.ports",
        "psutil",
    },
    "chalicelib.providers.boot": {"chalicelib.model"},
    "chalicelib.providers.first_boot": set(),  # runs alone, on machines that have nothing of ours
    "chalicelib.providers.aws": {
        "chalicelib.providers.aws",
        "chalicelib.providers.boot",
        "chalicelib.model",
        "chalicelib.errors",
        "chalicelib.ports",
        "boto3",
        "botocore",
        "mypy_boto3_ec2",  # types, for the checker only
    },
    "chalicelib.providers.gcp": {
        "chalicelib.providers.gcp",
        "chalicelib.providers.boot",
        "chalicelib.model",
        "chalicelib.errors",
        "chalicelib.ports",
        "google",
        "requests",  # what google-cloud-compute's REST transport speaks and raises
    },
    "chalicelib.providers.azure": {
        "chalicelib.providers.azure",
        "chalicelib.providers.boot",
        "chalicelib.model",
        "chalicelib.errors",
        "chalicelib.ports",
        "azure",
    },
    "chalicelib.store": {
        "chalicelib.store",
        "chalicelib.model",
        "chalicelib.errors",
        "chalicelib.ports",
        "pydantic",
        "pynamodb",
        "botocore",
    },
    "chalicelib.prober": {
        "chalicelib.model",
        "chalicelib.identity",
        "chalicelib.ports",
        "httpx",
        "pydantic",
    },
    "chalicelib.secrets": {"chalicelib.model", "chalicelib.errors", "chalicelib.ports", "botocore"},
    "chalicelib.telemetry": {"chalicelib.telemetry", "chalicelib.lifecycle", "chalicelib.model", "chalicelib.ports"},
    "chalicelib.backup": {
        "chalicelib.lifecycle",
        "chalicelib.model",
        "chalicelib.errors",
        "chalicelib.store.documents",  # nouns as JSON
        "pydantic",
    },
    "chalicelib.meters": {"chalicelib.amazon", "chalicelib.cost"},
    "chalicelib.snapshots": {"chalicelib.amazon", "chalicelib.errors"},
    "chalicelib.config": {"chalicelib.credentials", "chalicelib.errors"},
    "chalicelib.credentials": {"chalicelib.errors"},
    "chalicelib.amazon": {"chalicelib.errors", "botocore"},
    "chalicelib.parameters": {"chalicelib.amazon"},
    "chalicelib.schedules": {"chalicelib.amazon", "chalicelib.errors"},
    "chalicelib.api": {
        "chalicelib.api",
        "chalicelib.passes",
        "chalicelib.deploying",
        "chalicelib.hooks",
        "chalicelib.schedule",
        "chalicelib.writes",
        "chalicelib.ports",
        "chalicelib.spec",
        "chalicelib.model",
        "chalicelib.errors",
        "chalicelib.lifecycle",
        "chalicelib.backup",
        "chalicelib.cost",
        "chalicelib.telemetry",
        "chalicelib.identity",
        "chalicelib.edge_table",
        "chalicelib.launching",
        "chalicelib.providers.boot",
        "chalicelib.providers.aws.interruption",
        "chalice",
        "cryptography",  # answers that are kept are sealed
        "pydantic",
        "chalicelib.words",
    },
    "chalicelib.bootstrap": {"chalicelib"},
    "chalicelib": set(),
    "app": {"chalicelib.api", "chalicelib.bootstrap", "chalicelib.ports", "chalicelib.telemetry"},
    "edge_router": {"edge_router"},
    "edge_router.platforms.gcp": {"edge_router", "flask", "_typeshed", "werkzeug"},  # what functions-framework speaks
    "edge_router.platforms.azure": {"edge_router", "azure"},  # what the worker speaks
    # The one platform that is no function: it is installed, not uploaded.
    "edge_router.platforms.http1": {"edge_router", "httptools"},
    "edge_router.platforms.server": {"edge_router", "uvloop"},
    "replica_agent": {"replica_agent", "aiohttp", "httptools", "yarl"},
    "sailplane.local.guarded_ministack": {"ministack"},  # run by MiniStack's Python, which has nothing of ours
    "sailplane.catalog.live.aws": {"sailplane.catalog", "chalicelib.catalog", "boto3", "botocore"},
    "sailplane.deploy": {
        "sailplane.deploy",
        "chalicelib",
        "boto3",
        "botocore",
        "mypy_boto3_cloudformation",  # types, for the checker only
        "mypy_boto3_ec2",
        "mypy_boto3_events",
        "mypy_boto3_lambda",
        "mypy_boto3_s3",
        "mypy_boto3_ssm",
        "infra",  # builds what it deploys
    },
    # The clouds' SDKs, each in the module of its cloud only.
    "sailplane.deploy.health": {"httpx"},
    "sailplane.deploy.checks.finding": {"httpx"},
    "sailplane.deploy.checks.gcp": {"sailplane.deploy.checks", "google", "httpx"},
    "sailplane.deploy.checks.azure": {"sailplane.deploy.checks", "azure", "httpx"},
    "sailplane.deploy.edges": {"sailplane.deploy.edges", "chalicelib.errors", "infra"},
    "sailplane.deploy.edges.gcp": {"sailplane.deploy", "chalicelib.errors", "google", "requests"},
    "sailplane.deploy.edges.google_apis": {"sailplane.deploy", "google", "requests"},
    "sailplane.deploy.edges.azure": {"sailplane.deploy", "chalicelib.errors", "azure"},
    "sailplane.deploy.edges.arm": {"sailplane.deploy", "azure"},
    "sailplane.deploy.edges.scm": {"sailplane.deploy", "requests"},
    # The simulator routes with the shipped router; scipy and matplotlib are the extra `sim`.
    "sailplane.sim": {
        "sailplane.sim",
        "chalicelib",
        "edge_router",
        "click",
        "cronsim",
        "rich",
        "numpy",
        "scipy",
        "matplotlib",
    },
    "sailplane": {
        "sailplane",
        "chalicelib",
        "chalice",
        "click",
        "httpx",
        "psutil",
        "rich",
        "uvicorn",
        "yaml",
        "pydantic",
    },
}
# The deciding modules: no clock, no randomness, no environment, no logging.
PURE = (
    "chalicelib/scaler",
    "chalicelib/optimizer",
    "chalicelib/lifecycle",
    "chalicelib/routing.py",
    "chalicelib/edge_table.py",
    "chalicelib/launching.py",
    "chalicelib/hooks",
    "chalicelib/cost.py",
    "chalicelib/telemetry/emf.py",
    "chalicelib/telemetry/measures.py",
    "chalicelib/telemetry/prometheus.py",
    "chalicelib/telemetry/redaction.py",
    "sailplane/catalog/quarantine.py",
)
IMPURE_MODULES = {"time", "datetime", "random", "secrets", "os", "logging", "socket", "threading", "subprocess", "uuid"}
CALENDAR = ROOT / "chalicelib/scaler/schedule.py"  # may reckon with dates, as long as nothing in it asks what day it is
# One module for each program; click reads the options of the command line.
READS_ENVIRONMENT = [
    "chalicelib/config.py",
    "edge_router/platforms/settings.py",
    "replica_agent/__main__.py",
    "sailplane/cli/__init__.py",
    "sailplane/local/guarded_ministack.py",
]


def modules(*tops: str) -> list[Path]:
    found: list[Path] = []
    for top in tops:
        path = ROOT / top
        found += [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Every module that a file imports anywhere in it, for `from a.b import c` both `a.b` and `a.b.c`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            package = node.module or ""
            submodules = {f"{package}.{alias.name}" for alias in node.names if is_module(f"{package}.{alias.name}")}
            found |= submodules if is_namespace(package, node) else {package}
    return found


def is_namespace(package: str, node: ast.ImportFrom) -> bool:
    """`from chalicelib import a, b`: it is a and b that are imported, not all of chalicelib."""
    return package in OURS and all(is_module(f"{package}.{alias.name}") for alias in node.names)


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def within(name: str, prefixes: set[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize("path", modules(*SHIPPED), ids=lambda path: str(path.relative_to(ROOT)))
def test_who_may_import_whom(path: Path) -> None:
    """Every import of a shipped file is allowed by the table above, at the top of the file or deep inside it."""
    name = module_name(path)
    rule = max((prefix for prefix in MAY_IMPORT if within(name, {prefix})), key=len)
    foreign = {module for module in imported(path) if module.split(".")[0] not in sys.stdlib_module_names}
    refused = {module for module in foreign - {"chalicelib"} if not within(module, MAY_IMPORT[rule])}
    assert not refused, f"{name} ({rule}) must not import {sorted(refused)}"


@pytest.mark.parametrize("path", modules(*PURE), ids=lambda path: str(path.relative_to(ROOT)))
def test_deciding_modules_are_pure(path: Path) -> None:
    """Scaler, optimizer, lifecycle and routing get time, randomness and the world as arguments."""
    impure = IMPURE_MODULES - {"datetime"} if path == CALENDAR else IMPURE_MODULES
    assert not {module.split(".")[0] for module in imported(path)} & impure


def test_the_calendar_asks_for_no_date() -> None:
    """The one deciding module that may import `datetime` takes every instant as an argument."""
    names = {node.attr for node in ast.walk(ast.parse(CALENDAR.read_text())) if isinstance(node, ast.Attribute)}
    assert not names & {"now", "utcnow", "today"}


def test_the_environment_is_read_in_one_place() -> None:
    """`os.environ` and `os.getenv` stand in one module of each program, nowhere else."""
    readers = []
    for path in modules(*SHIPPED):
        names = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        if names & {"os.environ", "os.getenv"}:
            readers.append(path.relative_to(ROOT).as_posix())
    assert readers == READS_ENVIRONMENT


def test_the_entry_point_imports_no_cloud() -> None:
    """`import app` loads no SDK of Google's or Microsoft's, nor boto3: a pass pays for a cloud when it acts on it."""
    program = (
        "import sys; before = set(sys.modules); import app; clouds = {'google', 'azure', 'boto3'};"
        "print(*sorted(m for m in sys.modules.keys() - before if m.split('.')[0] in clouds))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.split() == []


def is_handler(path: Path, node: ast.stmt) -> bool:
    """A function of the API that its `Route` describes."""
    arguments = node.args.args if isinstance(node, ast.FunctionDef) else []
    return path.match("chalicelib/api/*.py") and bool(arguments) and arguments[0].arg.strip("_") == "runtime"


def test_public_functions_and_classes_say_what_they_are() -> None:
    """Whatever is public in what we ship has a docstring; routes carry theirs in the table, passes are all `decide`."""
    missing = []
    for path in modules("chalicelib", "edge_router", "replica_agent"):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            is_public = not node.name.startswith("_")
            documented = ast.get_docstring(node) or is_handler(path, node) or path.match("chalicelib/passes/*.py")
            if is_public and not documented:
                missing.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not missing


def test_broad_excepts_are_counted() -> None:
    """A broad `except` hides bugs until shown otherwise: one stands at the boundary between services, none elsewhere.

    One that only cleans up and raises again hides nothing.
    """
    broad = []
    for path in modules(*SHIPPED):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                names = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"everything"}
                cleans_up = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
                if names & {"Exception", "BaseException", "everything"} and not cleans_up:
                    broad.append(path.relative_to(ROOT).as_posix())
    assert broad == ["chalicelib/passes/report.py"]


def commands(group: click.Group, prefix: str = "sailplane") -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}"


def test_every_command_is_documented() -> None:
    """docs/cli.md has a section for every command that `sailplane --help` leads to."""
    from sailplane.cli import cli  # noqa: PLC0415 the other tests of this file need no click commands

    text = (ROOT / "docs" / "cli.md").read_text()
    missing = [command for command in commands(cli) if f"`{command}" not in text]
    assert not missing


def test_every_field_of_the_service_file_is_documented() -> None:
    """docs/service-yaml.md names every key that `service` and `resources` may hold."""
    from chalicelib.spec.schema import Access, ReplicaPolicy, Resources, Routing, Service, ServiceFile  # noqa: PLC0415 as above

    text = (ROOT / "docs" / "service-yaml.md").read_text()
    fields = {
        name
        for model in (ServiceFile, Service, ReplicaPolicy, Routing, Access, Resources)
        for name in model.model_fields
    }
    assert sorted(name for name in fields if name not in text) == []


def test_every_decision_record_is_listed() -> None:
    """docs/adr/README.md lists every record, so that they can be found."""
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    records = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert records
    assert [name for name in records if name not in index] == []


@pytest.mark.parametrize("path", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda path: path.name)
def test_prose_is_wrapped_like_code(path: Path) -> None:
    """At most 120 characters, so that a change of a sentence is one of a line; tables and examples are as they are."""
    prose, *examples = re.split(r"^```", path.read_text(), flags=re.MULTILINE)
    lines = [line for text in (prose, *examples[1::2]) for line in text.splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > 120] == []
