"""What is uploaded to Lambda: it is whole, it runs where nothing else is installed, and the same sources make the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from infra import control, package
from infra.checkout import ROOT
from infra.package import THIS_PYTHON
from sailplane.deploy.edges.edge import archive

pytestmark = pytest.mark.deployed

# As the stack and the parameters tell a function, without any of AWS being there.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "SAILPLANE_ADMIN_KEY": "a" * 43,
    "SAILPLANE_AGENT_KEY": "b" * 43,
    "SAILPLANE_ROUTER_TOKEN": "c" * 43,
    "SAILPLANE_CONTROL_URL": "https://control.example",
    "SAILPLANE_DEPLOYMENT": "acme",
    "SAILPLANE_EDGE_URL": "https://edge.example",
    "SAILPLANE_PROVIDERS": "aws,gcp,azure",
    "SAILPLANE_TABLE": "sailplane-acme",
    "SAILPLANE_GCP_PROJECT": "acme-project",
    "SAILPLANE_AZURE_SUBSCRIPTION": "00000000-0000-0000-0000-000000000000",
    "SAILPLANE_AZURE_RESOURCE_GROUP": "acme",
}
REST: dict[str, Any] = {
    "resource": "/healthz",
    "path": "/healthz",
    "httpMethod": "GET",
    "headers": {},
    "multiValueHeaders": {},
    "queryStringParameters": None,
    "multiValueQueryStringParameters": None,
    "pathParameters": None,
    "stageVariables": None,
    "requestContext": {
        "resourcePath": "/healthz",
        "path": "/api/healthz",
        "httpMethod": "GET",
        "identity": {"sourceIp": "192.0.2.1"},
        "requestId": "r-1",
        "stage": "api",
    },
    "body": None,
    "isBase64Encoded": False,
}
URL: dict[str, Any] = {
    "version": "2.0",
    "rawPath": "/healthz",
    "rawQueryString": "",
    "headers": {"host": "control.example"},
    "requestContext": {
        "http": {"method": "GET", "path": "/healthz", "sourceIp": "192.0.2.1"},
        "requestId": "r-2",
        "stage": "$default",
    },
    "isBase64Encoded": False,
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> package.Built:
    """For this interpreter, so that it can be run here."""
    return package.build(tmp_path_factory.mktemp("dist"), ["aws", "gcp", "azure"], THIS_PYTHON, "x86_64")


@pytest.fixture(scope="module")
def unzipped(built: package.Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("task")
    zipfile.ZipFile(built.control).extractall(directory)
    return directory


def run(task: Path, program: str, **environment: str) -> str:
    """What a program prints in a process of its own that has the standard library and the package, and nothing else."""
    text = f"import sys; sys.path.insert(0, {str(task)!r})\n{program}"
    command = [sys.executable, "-I", "-S", "-c", text]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**ENVIRONMENT, **environment}, cwd=task
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_fits(built: package.Built) -> None:
    """Less than Lambda's 250 MB, unzipped, with the SDKs of all three clouds."""
    assert built.sizes.fits
    assert built.sizes.unzipped < 180 * 1024**2


def test_the_gateways_function_answers(unzipped: Path) -> None:
    """A request as API Gateway hands it over, in a fresh process: 200, and routes that want a key refuse without."""
    refused = json.loads(json.dumps(REST).replace("/healthz", "/v1/services"))
    program = f"import json, app\nfor event in {[REST, refused]!r}: print(json.dumps(app.app(event, None)))"
    health, services = map(json.loads, run(unzipped, program).splitlines())
    assert (health["statusCode"], json.loads(health["body"])) == (200, {"status": "ok"})
    assert services["statusCode"] == 401


def test_the_machines_function_answers(unzipped: Path) -> None:
    """A request as a function URL hands it over."""
    answer = json.loads(run(unzipped, f"import json, app\nprint(json.dumps(app.machines({URL!r}, None)))"))
    assert (answer["statusCode"], json.loads(answer["body"])) == (200, {"status": "ok"})


def test_every_handler_of_the_stack_is_there(built: package.Built, unzipped: Path) -> None:
    """What the template calls by name can be called."""
    resources = json.loads(built.template.read_text())["Resources"].values()
    handlers = {each["Properties"]["Handler"] for each in resources if each["Type"] == "AWS::Serverless::Function"}
    assert len(handlers) == 5
    program = f"import app\nfor name in {sorted(handlers)!r}: assert callable(eval(name)), name"
    run(unzipped, program)


def test_all_clouds_are_in_it(unzipped: Path) -> None:
    """Every provider's SDK, with what is compiled in it, can be loaded from the package alone."""
    modules = [f"chalicelib.providers.{cloud}.compute" for cloud in ("aws", "gcp", "azure")]
    program = f"""
import importlib, sysconfig
for name in {modules!r}: importlib.import_module(name)
own, stdlib = {str(unzipped)!r}, sysconfig.get_paths()["stdlib"]
files = [getattr(module, "__file__", None) or own for module in list(sys.modules.values())]
print(*[file for file in files if not file.startswith((own, stdlib))])
"""
    assert run(unzipped, program).split() == []


def test_a_machine_gets_its_agent_from_it(unzipped: Path) -> None:
    """The agent's sources and requirements are in the package, and are what the checkout has."""
    program = "from chalicelib.providers import boot; print(boot.agent_archive().hex(), boot.agent_requirements().encode().hex())"
    here = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
        cwd=ROOT,
    )
    assert run(unzipped, program) == here.stdout
    assert len(here.stdout) > 10_000


def test_nothing_is_compiled_at_a_cold_start(unzipped: Path) -> None:
    """Every module that the API loads comes from a .pyc that is taken as it is, whatever the time stamps of files say."""
    program = """
import app
from importlib.util import cache_from_source
for module in list(sys.modules.values()):
    source = getattr(module, "__file__", None) or ""
    if source.startswith(sys.path[0]) and source.endswith(".py"):
        with open(cache_from_source(source), "rb") as compiled:
            flags = compiled.read(8)[4:]
        assert flags == b"\\x01\\0\\0\\0", source
        print(source)
"""
    assert len(run(unzipped, program).splitlines()) > 50


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment into which Sailplane's wheel was installed, and nothing of the checkout."""
    root = tmp_path_factory.mktemp("installed")
    uv = str(Path(sys.executable).with_name("uv"))
    locked = control.export_locked(root / "locked.txt")
    python = root / "venv" / "bin" / "python"
    for command in (
        [uv, "build", "--wheel", "--quiet", "--out-dir", str(root), str(ROOT)],
        [uv, "venv", "--quiet", "--python", sys.executable, str(root / "venv")],
    ):
        subprocess.run(command, check=True)
    (wheel,) = root.glob("*.whl")
    install = [uv, "pip", "install", "--quiet", "--python", str(python), "--constraints", str(locked), str(wheel)]
    subprocess.run(install, check=True)
    return python


def test_the_same_sources_make_the_same_bytes(installed: Path, tmp_path: Path) -> None:
    """In a checkout and installed from a wheel, hash seeds apart: the same hashes, so that one version is uploaded once."""
    hashes = []
    without = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    for seed, python, directory in (("1", sys.executable, ROOT), ("2", str(installed), tmp_path)):
        command = [python, "-m", "infra.package", "--clouds", "aws", "--out", str(tmp_path / seed)]
        environment = {**(without if seed == "2" else os.environ), "PYTHONHASHSEED": seed}
        subprocess.run(command, check=True, capture_output=True, cwd=directory, env=environment)
        files = sorted((tmp_path / seed).iterdir())
        hashes.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files})
    assert hashes[0] == hashes[1]
    assert hashes[0].keys() == {"control.zip", "edge-aws.zip", "foundation.json", "template.json"}


def test_edges_are_built_without_a_checkout(installed: Path, tmp_path: Path) -> None:
    """For the other clouds' functions too, of the same bytes."""
    program = (
        "from hashlib import sha256; from sailplane.deploy.edges.edge import archive;"
        "print(*(sha256(archive(cloud)).hexdigest() for cloud in ('gcp', 'azure')))"
    )
    here = (hashlib.sha256(archive(cloud)).hexdigest() for cloud in ("gcp", "azure"))
    done = subprocess.run([installed, "-I", "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == [*here]


def test_a_wheel_that_is_not_the_locked_one_is_refused(tmp_path: Path) -> None:
    """Every file is checked against the lock file: with other hashes in it, nothing is packed."""
    locked = control.export_locked(tmp_path / "locked.txt")
    locked.write_text(re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", locked.read_text()))
    with pytest.raises(control.CannotPackage, match=r"(?i)hash"):
        control.fetch(tmp_path / "package", locked, ["aws"], THIS_PYTHON, "x86_64")


def test_another_python_than_there_is_says_what_to_do(tmp_path: Path) -> None:
    """An interpreter of the version is needed to compile; its lack is told before anything is fetched."""
    with pytest.raises(control.CannotPackage, match=f"--python {THIS_PYTHON}"):
        package.build(tmp_path, ["aws"], "3.99", "arm64")
