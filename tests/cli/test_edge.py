"""`sailplane edge`, as far as it goes without a cloud; the rest is in tests/deployed/test_edges.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from sailplane.cli import cli
from sailplane.cli.edge import _of_account
from sailplane.cli.failures import NoDeployment
from sailplane.cli.target import Target
from sailplane.deploy.deployment import Deployment
from sailplane.deploy.edges.edge import Wanted, environment
from tests.deploy.accounts import FakeAccount, Formation

TOKEN = "a" * 43
WANTED = Wanted(b"zip", environment("https://control.example", TOKEN, "gcp", "us-central1"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deploy", "--cloud", "gcp", "--location", "us-central1"], "say --gcp-project"),
        (
            ["remove", "--cloud", "azure", "--location", "eastus", "--azure-subscription", "1", "--yes"],
            "say --azure-resource-group",
        ),
        (["list"], "Say where: --gcp-project"),
        (["list", "--gcp-project", "p", "--deployment", "Not_A_Name"], "cannot be a deployment's name"),
        (
            ["deploy", "--cloud", "gcp", "--location", "us-central1", "--gcp-project", "p", "-d", "acme"],
            "In which AWS region is the control plane",
        ),
        (["deploy", "--cloud", "aws", "--location", "us-east-1"], "'aws' is not one of 'gcp', 'azure'"),
    ],
)
def test_what_is_missing_is_named(arguments: list[str], said: str, tmp_path: Path) -> None:
    """Before any cloud is asked, and always with code 2."""
    nowhere = {"SAILPLANE_HOME": str(tmp_path), "AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_REGION": ""}
    result = CliRunner().invoke(cli, ["edge", *arguments], env={**nowhere, "AWS_DEFAULT_REGION": ""})
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_account_tells_the_way_to_the_control_plane() -> None:
    """Where machines and routers exchange, not where the owner's commands go; while the token is changed, all of them."""
    account = FakeAccount(parameters={"/sailplane/acme/SAILPLANE_ROUTER_TOKEN": f"{TOKEN},next"})
    target: Any = Target(Deployment("acme"), account)  # type: ignore[arg-type]  # a fake account
    with pytest.raises(NoDeployment, match="There is no acme in us-east-1"):
        _of_account(target)
    outputs = {"ControlUrl": "https://machines.example/", "ApiUrl": "https://api.example/v1"}
    account.stacks["sailplane-acme"] = Formation("1", "CREATE_COMPLETE", parameters={"CodeKey": "k"}, outputs=outputs)
    assert _of_account(target) == ("https://machines.example/", f"{TOKEN},next")


@given(
    archive=st.binary(max_size=20),
    env=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    of_cloud=st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)
@settings(max_examples=30)
def test_what_is_to_be_is_known_by_a_keyed_hash(archive: bytes, env: dict[str, str], of_cloud: dict[str, int]) -> None:
    """Equal only if zip, environment and settings are; of the form that labels take; and useless for guessing the token."""
    base = WANTED.content({})
    other = Wanted(archive, {**WANTED.env, **env}).content(of_cloud)
    is_same = (archive, {**WANTED.env, **env}, of_cloud) == (WANTED.archive, WANTED.env, {})
    assert (other == base) is is_same
    assert len(other) == 40
    assert set(other) <= set("0123456789abcdef")
    another_token = Wanted(b"zip", {**WANTED.env, "SAILPLANE_ROUTER_TOKEN": "b" * 43})
    assert another_token.content({}) != base


def test_nothing_shows_the_token() -> None:
    """Not even the objects that carry it, in a traceback."""
    assert TOKEN not in repr(WANTED)
