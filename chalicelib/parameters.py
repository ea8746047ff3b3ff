"""What a deployed function is told beside its environment: keys and addresses, in the Parameter Store of AWS, at no price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chalicelib.amazon import Amazon


def read(path: str, region: str, endpoint_url: str | None) -> Mapping[str, str]:
    """Our variables that are stored right below `path`, decrypted. Raises `Unreachable`.

    https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParametersByPath.html
    """
    amazon = Amazon(region, endpoint_url)
    wanted: dict[str, Any] = {"Path": path, "Recursive": False, "WithDecryption": True}
    found: dict[str, str] = {}
    while True:
        answer = amazon.act("ssm", "AmazonSSM.GetParametersByPath", wanted)
        found |= {one["Name"].rpartition("/")[2]: one["Value"] for one in answer["Parameters"]}
        if not answer.get("NextToken"):
            return {name: value for name, value in found.items() if name.startswith("SAILPLANE_")}
        wanted |= {"NextToken": answer["NextToken"]}
