"""FILE, --env and --env-file."""

from __future__ import annotations

import json
from pathlib import Path

import click
from click.testing import CliRunner, Result

from sailplane.cli import inputs
from sailplane.cli.exits import Exit


@click.command()
@inputs.service_file
def show(text: str, envs: dict[str, str]) -> None:
    click.echo(json.dumps([text, envs]))


def run(*args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(show, args, input=stdin)


def test_env_beats_env_file(tmp_path: Path) -> None:
    """The command line wins over the env file; both understand values with `=`; the file knows comments and quotes."""
    env_file = tmp_path / ".env"
    env_file.write_text("# comment\n\nexport A='from file'\nB = two=2\nC=\"it's\"\nD=\n")
    result = run("-", "--env-file", str(env_file), "--env", "A=a b=c", "--env", "E='kept'", stdin="name: x")
    assert json.loads(result.stdout) == [
        "name: x",
        {"A": "a b=c", "B": "two=2", "C": "it's", "D": "", "E": "'kept'"},
    ]


def test_a_malformed_env_is_refused_without_being_shown() -> None:
    """What is not KEY=VALUE may be a secret given in the wrong place: it is named by number."""
    result = run("-", "--env", "A=1", "--env", "hf_secret")
    assert result.exit_code == Exit.USAGE
    assert "entry 2 is not of the form KEY=VALUE" in result.stderr
    assert "hf_secret" not in result.output
    named = run("-", "--env", "A=1", "--env", "1FOO=3")
    assert (named.exit_code, "KEY of entry 2 is no variable's name" in named.stderr) == (Exit.USAGE, True)


def test_missing_and_binary_files_are_usage_errors(tmp_path: Path) -> None:
    """A file that is not there, or is no text, ends in a message that names it."""
    binary = tmp_path / "model.bin"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, message in ((tmp_path / "absent.yaml", "No such file"), (binary, "is not UTF-8 text")):
        result = run(str(path))
        assert result.exit_code == Exit.USAGE
        assert path.name in result.stderr
        assert message in result.stderr
