"""A relative `workdir` becomes absolute on its way to the control plane; nothing else in the file changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sailplane.cli.workdir import made_absolute

HERE = Path('/models/it\'s "here"')


@pytest.mark.parametrize("written", [".", "src", "../other", '"src"', "'src' # a comment", "&anchor src"])
def test_relative_paths_are_resolved_against_the_files_directory(written: str) -> None:
    """However it is quoted, the value becomes the absolute path, and the rest keeps its characters and lines."""
    text = f"# first\nrun: serve\nworkdir: {written}\nsetup: |\n  echo workdir: .\n"
    made = made_absolute(text, HERE)
    given = yaml.safe_load(text)["workdir"]
    assert yaml.safe_load(made)["workdir"] == str((HERE / given).resolve())
    assert made.splitlines()[:2] + made.splitlines()[3:] == text.splitlines()[:2] + text.splitlines()[3:]


@pytest.mark.parametrize(
    "text",
    [
        "workdir: /already/there\n",
        "workdir: $ROOT/src\n",
        "workdir: {url: https://example.com/repo.git, ref: main}\n",
        "workdir:\n",
        "workdir: 7\n",
        "service: {workdir: .}\n",
        "run: serve\n",
        "- workdir: .\n",
        "workdir: [unclosed\n",
        "",
    ],
)
def test_everything_else_is_left_alone(text: str) -> None:
    """Absolute paths, variables, git sources, nested keys and broken YAML are the control plane's to judge."""
    assert made_absolute(text, HERE) == text


def test_home_is_expanded() -> None:
    """`~` is the home of the user who typed it."""
    assert yaml.safe_load(made_absolute("workdir: ~/src\n", HERE))["workdir"] == str(Path.home() / "src")
