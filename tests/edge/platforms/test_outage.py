"""What a function does while the control plane is gone, in each platform's own runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from chalicelib.identity import sealed
from tests.edge.fakes import BEARER, TOKEN, FakeControl, table
from tests.edge.platforms.runtimes import LAMBDA, PLATFORMS, RuntimeApi, process
from tests.waiting import until

HEADERS = {name.decode(): value.decode() for name, value in BEARER.items()}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_data_plane_outlives_the_control_plane(
    platform: str, artefacts: Mapping[str, Path], tmp_path: Path
) -> None:
    """Started without a control plane it routes by the snapshot; the newer table wins; gone again, nobody notices."""
    snapshot = tmp_path / "table"
    stored = table(("hello", "round_robin", "READY", ["http://198.51.100.1"]), etag="stored")
    snapshot.write_text(sealed(TOKEN, json.dumps(stored)))
    control = FakeControl()
    with control.running():
        control.fault = "refuse"
        env = {
            "SAILPLANE_CONTROL_URL": control.url,
            "SAILPLANE_ROUTER_TOKEN": TOKEN,
            "SAILPLANE_REFRESH_S": "0.05",
            "SAILPLANE_SNAPSHOT_URL": snapshot.as_uri(),
        }
        with PLATFORMS[platform](artefacts[platform], env) as call:

            def host() -> str:
                answer = call("GET", "/hello/x", HEADERS, b"")
                assert answer.status == 307
                return str(answer.headers["location"]).split("/")[2]

            assert [host() for _ in range(5)] == ["198.51.100.1"] * 5
            newer = ("hello", "round_robin", "READY", ["http://198.51.100.2"])
            control.table, control.fault = table(newer, etag="newer", issued_at=1_800_000_000.0), ""
            until(lambda: host() == "198.51.100.2")
            control.fault = "refuse"
            assert [host() for _ in range(50)] == ["198.51.100.2"] * 50
            routed = control.recorded["hello"]
            control.fault = ""
            until(lambda: host() and control.recorded["hello"] >= routed + 50)


def test_a_wrong_environment_is_named(artefacts: Mapping[str, Path]) -> None:
    """Lambda is told what is wrong while it starts the function, in words and without the token."""
    env = {"SAILPLANE_CONTROL_URL": "localhost", "SAILPLANE_ROUTER_TOKEN": TOKEN}
    with (
        RuntimeApi().running() as api,
        process(LAMBDA, artefacts["aws"], env | {"AWS_LAMBDA_RUNTIME_API": api.address}),
    ):
        kind, error = api.posted()
    assert kind == "error"
    assert error["errorType"] == "WrongSetting"
    assert "SAILPLANE_CONTROL_URL" in error["errorMessage"]
    assert TOKEN not in str(error)
