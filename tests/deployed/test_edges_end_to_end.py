"""An edge on another cloud and the control plane that is really deployed: bootstrap, `edge deploy`, and it answers."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from sailplane.deploy.deployment import Deployment
from sailplane.deploy.package import Package
from tests.deployed.stand_in import StandIn
from tests.edge.platforms.runtimes import PLATFORMS
from tests.waiting import until

pytestmark = pytest.mark.deployed


def test_edges_know_the_deployed_control_plane(stand_in: StandIn, package: Package, tmp_path: Path) -> None:
    """With what the account tells the owner: both get its table, by which they know a new key, and no service."""
    from tests.clouds.edges.azure import GROUP, SUBSCRIPTION, AppsBox  # noqa: PLC0415 the SDKs
    from tests.clouds.edges.gcp import PROJECT, FunctionsBox  # noqa: PLC0415 as above

    def run(*arguments: str) -> Any:
        return stand_in.json(tmp_path, *arguments)

    options = ("-d", "edgy", "--package", str(package.directory), "--regions", "us-east-1", "-y")
    made = stand_in.bootstrap(tmp_path, *options)
    run("connect", "aws", "-d", "edgy")
    headers = {"Authorization": f"Bearer {run('keys', 'create', '--all')['key']}"}
    token = stand_in.account.keys(Deployment("edgy"))["SAILPLANE_ROUTER_TOKEN"]
    # The public address is behind a proxy, which routers do not speak to.
    control_url = f"{stand_in.endpoint}/_aws/lambda-url/{httpx.URL(made['control_url']).host.partition('.')[0]}"
    # MiniStack breaks off the start of a function whose caller leaves, and a router leaves after a second.
    assert httpx.get(f"{control_url}/healthz", timeout=60).is_success
    with FunctionsBox(looks=0).running() as google, AppsBox(looks=0).running() as microsoft:
        azure = ("--azure-subscription", SUBSCRIPTION, "--azure-resource-group", GROUP)
        places = {
            "gcp": ("us-central1", "--gcp-project", PROJECT, "--gcp-endpoint", google.endpoint_url),
            "azure": ("eastus", *azure, "--azure-endpoint", microsoft.endpoint_url),
        }
        for cloud, (location, *where) in places.items():
            place = ("--cloud", cloud, "--location", location, *where)
            assert run("edge", "deploy", *place, "--control-url", control_url, "-y")["state"] == "ready"
        [function] = google.functions.values()
        [app] = microsoft.apps
        deployed = {
            "gcp": (google.artefact(function["name"]), function["serviceConfig"]["environmentVariables"]),
            "azure": (microsoft.artefacts[app], microsoft.settings(app)),
        }
        for cloud, (archive, env) in deployed.items():
            assert env["SAILPLANE_ROUTER_TOKEN"] == token
            with zipfile.ZipFile(io.BytesIO(archive)) as content:
                content.extractall(tmp_path / cloud)
            with PLATFORMS[cloud](tmp_path / cloud, env) as call:
                assert call("GET", "/nobody/v1/models", {}, b"").status in (401, 503)
                until(lambda: call("GET", "/nobody/v1/models", headers, b"").status == 404, 90)
        for cloud, (location, *where) in places.items():
            run("edge", "remove", "--cloud", cloud, "--location", location, *where, "-y")
        assert google.is_empty()
        assert microsoft.is_empty()
    stand_in.cli(tmp_path, "teardown", "-y")
