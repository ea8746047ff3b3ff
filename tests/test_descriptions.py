"""What is left of a service's description makes the calls that it made before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import botocore
from botocore.loaders import Loader
from botocore.model import ServiceModel

from infra.descriptions import trim, trimmed

ROOT = Path(__file__).parents[1]

WHOLE = {
    "metadata": {"protocol": "ec2"},
    "operations": {
        "RunInstances": {"name": "RunInstances", "input": {"shape": "Run"}, "errors": [{"shape": "Fault"}]},
        "DescribeTrunks": {"name": "DescribeTrunks", "input": {"shape": "Trunks"}},
    },
    "shapes": {
        "Run": {"type": "structure", "members": {"Tags": {"shape": "Tags"}, "Self": {"shape": "Run"}}},
        "Tags": {"type": "list", "member": {"shape": "Tag"}},
        "Tag": {"type": "string"},
        "Fault": {"type": "structure", "members": {}},
        "Trunks": {"type": "structure", "members": {"Only": {"shape": "Here"}}},
        "Here": {"type": "string"},
    },
}


def test_what_is_called_stays_with_all_that_it_reaches() -> None:
    """Shapes within shapes, lists of them, one that holds itself, and errors; nothing of what is not called."""
    left = trimmed(WHOLE, {"run_instances", "other", "words"})
    assert left["operations"].keys() == {"RunInstances"}
    assert left["shapes"].keys() == {"Run", "Tags", "Tag", "Fault"}
    assert left["metadata"] == WHOLE["metadata"]


def test_the_provider_finds_every_call_it_makes(tmp_path: Path) -> None:
    """EC2's own description, trimmed by our provider's sources, as botocore reads it: less, and the same where it is called."""
    newest = max((Path(botocore.__file__).parent / "data" / "ec2").iterdir())
    shutil.copytree(newest, tmp_path / "ec2" / newest.name)
    trim(tmp_path / "ec2", (ROOT / "chalicelib/providers/aws").glob("*.py"))
    whole, left = (
        Loader([str(where)], include_default_search_paths=False).load_service_model("ec2", "service-2")
        for where in (newest.parents[1], tmp_path)
    )
    called = {"RunInstances", "TerminateInstances", "DescribeInstances", "DescribeRegions", "DescribeImages"}
    assert called < left["operations"].keys() < whole["operations"].keys()
    assert left["shapes"].keys() < whole["shapes"].keys()
    for name in called:
        operation = ServiceModel(left).operation_model(name)
        assert _described(operation.input_shape) == _described(ServiceModel(whole).operation_model(name).input_shape)


def _described(shape: Any, above: tuple[str, ...] = ()) -> Any:
    """All that a shape is made of."""
    if shape.type_name == "list":
        return [_described(shape.member, above)]
    if shape.type_name != "structure" or shape.name in above:
        return shape.type_name
    return {name: _described(member, (*above, shape.name)) for name, member in shape.members.items()}
