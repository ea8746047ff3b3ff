"""A service's `workdir` as its user means it: relative to the file it stands in."""

from __future__ import annotations

import json
from pathlib import Path

import yaml


def made_absolute(text: str, directory: Path) -> str:
    """The YAML with a relative (or `~`) top-level `workdir` made absolute; every other character stays, so do the line numbers.

    The control plane is another process and, in the cloud, another machine: only this side knows where the file stands.
    What cannot be a relative path is left for the control plane to judge: a git source, a leading variable, broken YAML.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return text
    if not isinstance(root, yaml.MappingNode):
        return text
    for key, value in root.value:
        if key.value == "workdir" and isinstance(value, yaml.ScalarNode) and value.tag == "tag:yaml.org,2002:str":
            path = Path(value.value).expanduser()
            if value.value.startswith("$") or (path.is_absolute() and value.value == str(path)):
                return text
            written = json.dumps(str((directory / path).resolve()), ensure_ascii=False)
            return text[: value.start_mark.index] + written + text[value.end_mark.index :]
    return text
