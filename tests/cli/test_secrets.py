"""`sailplane secrets`, and what the other commands say of secrets."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from sailplane.cli import cli
from tests.cli.conftest import YAML, Plane

TEXT = "hf_canary0123456789"
NAMING = YAML + "secrets: {HF_TOKEN: , DB: {ref: prod-db}}\n"


def _set(plane: Plane, name: str = "HF_TOKEN", text: str | bytes = TEXT, *more: str) -> Result:
    return CliRunner().invoke(cli, ["secrets", "set", name, *(more or ("--all",))], env=plane.env, input=text)


def _kept(plane: Plane) -> dict[str, str]:
    secrets = plane.world.runtime.secrets
    return dict(secrets.read([secret.name for secret in secrets.known()]))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (f"{TEXT}\n", TEXT),
        (f"{TEXT}\r\n", TEXT),
        ("two\nlines\n\n", "two\nlines\n"),
        (" spaces ", " spaces "),
        ("x" * 4096 + "\n", "x" * 4096),
    ],
    ids=["line", "crlf", "lines", "spaces", "longest"],
)
def test_a_text_is_read_from_stdin(plane: Plane, given: str, kept: str) -> None:
    """As `echo`, `printenv` and `<` give it: all but the end of the last line. Nothing that is printed holds it."""
    result = _set(plane, text=given)
    assert (result.exit_code, result.stdout) == (0, "Secret HF_TOKEN is set, for all services.\n")
    assert "secrets: {HF_TOKEN: }" in result.stderr
    assert TEXT not in result.output
    assert _kept(plane) == {"HF_TOKEN": kept}


def test_a_text_is_asked_for_on_a_terminal(plane: Plane) -> None:
    """Twice, and what is typed is not shown."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "sailplane", "secrets", "set", "HF_TOKEN", "--all"]
    env, pipe = os.environ | plane.env, subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=theirs, stdout=pipe, stderr=pipe, start_new_session=True) as process:
        assert process.stdout
        assert process.stderr
        for prompt in (b"Text of HF_TOKEN (not shown): ", b"The same again: "):
            said = b""
            while not said.endswith(prompt):  # what is typed before is thrown away
                said += process.stderr.read(1) or pytest.fail(said.decode())
            os.write(ours, f"{TEXT}\n".encode())
        told = process.stdout.read() + process.stderr.read()
    assert select.select([ours], [], [], 0)[0] == [], "the terminal has shown something"
    os.close(ours)
    os.close(theirs)
    assert (process.returncode, _kept(plane)) == (0, {"HF_TOKEN": TEXT})
    assert TEXT.encode() not in told


@pytest.mark.parametrize(
    ("args", "given", "exit_code", "said"),
    [
        (("HF_TOKEN", TEXT), "", 2, "is in your shell's history"),
        ((f"HF_TOKEN={TEXT}",), "", 2, "is in your shell's history"),
        (("hf token",), "x", 3, "cannot name a secret"),
        (("HF_TOKEN",), TEXT, 3, "--service NAME"),
        (("HF_TOKEN", "--service", "Chat"), TEXT, 3, "'Chat' names no service"),
        (("HF_TOKEN", "--all", "--no-service"), TEXT, 2, "one of --service, --all and --no-service"),
        (("HF_TOKEN",), "", 3, "nothing on stdin"),
        (("HF_TOKEN",), "\n", 3, "nothing on stdin"),
        (("HF_TOKEN",), TEXT * 300, 3, "more than 4,096 bytes"),
        (("HF_TOKEN",), b"\xff" + TEXT.encode(), 3, "not UTF-8"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(
    plane: Plane, args: tuple[str, ...], given: str | bytes, exit_code: int, said: str
) -> None:
    """With what to do, and without the text: a terminal's output ends up in logs."""
    result = CliRunner().invoke(cli, ["secrets", "set", *args], env=plane.env, input=given)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert said in result.stderr
    assert TEXT not in result.output
    assert _kept(plane) == {}


def test_the_list_shows_everything_but_the_texts(plane: Plane) -> None:
    """One line each, with who uses it."""
    assert plane.run("secrets", "list").stdout == "No secrets.\n"
    _set(plane)
    _set(plane, "prod-db")
    assert plane.run("up", plane.file(NAMING), "-n", "svc", "-y", "--detach").exit_code == 0
    heading, one, other = plane.run("secrets", "list").stdout.splitlines()
    assert heading.split() == ["NAME", "VERSION", "CHANGED", "(UTC)", "FOR", "USED", "BY"]
    assert (one.split()[:2], one.split()[-1]) == (["HF_TOKEN", "1"], "svc")
    assert other.split()[0] == "prod-db"
    assert [each["name"] for each in plane.json("secrets", "list")["secrets"]] == ["HF_TOKEN", "prod-db"]


def test_services_are_let_use_a_secret_and_shut_out(plane: Plane) -> None:
    """Named at first, added to, narrowed; `up` says before it asks whose it is not, and who loses it is told of."""
    assert _set(plane, "HF_TOKEN", TEXT, "--service", "chat", "--service", "llm-*").exit_code == 0
    assert "webhook create" in _set(plane, "prod-db", TEXT, "--no-service").stderr
    refused = plane.run("up", plane.file(NAMING), "-n", "svc")
    assert refused.exit_code == 3
    assert "secrets.DB: the secret 'prod-db' is not for the service 'svc'" in refused.stderr
    assert "sailplane secrets allow HF_TOKEN svc" in refused.stderr
    assert plane.run("secrets", "allow", "HF_TOKEN", "svc").stdout == "Secret HF_TOKEN is for chat, llm-*, svc.\n"
    assert plane.json("secrets", "allow", "prod-db", "--all")["services"] == ["*"]
    assert plane.run("up", plane.file(NAMING), "-n", "svc", "-y", "--detach").exit_code == 0
    narrowed = plane.run("secrets", "allow", "prod-db", "chat", "--only")
    assert "svc named it and may not use it any more" in narrowed.stderr
    assert [line.split()[-2] for line in plane.run("secrets", "list").stdout.splitlines()[1:]] == [
        "chat,llm-*,svc",
        "chat",
    ]
    assert plane.run("secrets", "allow", "prod-db").exit_code == 2
    assert plane.run("secrets", "allow", "nope", "chat").exit_code == 4


def test_one_that_is_needed_is_not_removed_by_mistake(plane: Plane) -> None:
    """Unless forced; an unknown one is said."""
    _set(plane)
    _set(plane, "prod-db")
    plane.run("up", plane.file(NAMING), "-n", "svc", "-y", "--detach")
    refused = plane.run("secrets", "remove", "prod-db")
    assert refused.exit_code == 3
    assert "used by svc" in refused.stderr
    assert plane.json("secrets", "remove", "prod-db", "--force") == {"removed": ["prod-db"]}
    assert plane.run("secrets", "remove", "prod-db").exit_code == 4
    assert list(_kept(plane)) == ["HF_TOKEN"]


def test_with_one_unknown_name_none_is_removed(plane: Plane) -> None:
    """As with keys, trusts and webhooks."""
    _set(plane)
    result = plane.run("secrets", "remove", "HF_TOKEN", "NOPE")
    assert (result.exit_code, "no secret 'NOPE'" in result.stderr) == (4, True)
    assert list(_kept(plane)) == ["HF_TOKEN"]


def test_up_names_missing_secrets_before_it_asks(plane: Plane) -> None:
    """All of them, with their commands, and nothing is started; without --yes nobody has been asked yet."""
    _set(plane, "HF_TOKEN")
    result = plane.run("up", plane.file(NAMING), "-n", "svc")
    assert result.exit_code == 3
    assert "secrets.DB: there is no secret 'prod-db' (sailplane secrets set prod-db --service svc)" in result.stderr
    assert "HF_TOKEN:" not in result.stderr
    assert plane.world.store.service_names() == ()


def test_plan_says_which_secrets_there_must_be(plane: Plane) -> None:
    """Offline: it lists what `up` will look for."""
    assert "Secrets that `up` will need:" in (shown := plane.run("plan", plane.file(NAMING)).stdout)
    assert "HF_TOKEN, prod-db" in shown
    told = plane.json("plan", plane.file(NAMING))
    assert told["secrets"] == [{"variable": "HF_TOKEN", "name": "HF_TOKEN"}, {"variable": "DB", "name": "prod-db"}]
    assert told["not_acted_on"] == []
    assert "Secrets" not in plane.run("plan", plane.file()).stdout


def test_an_update_replaces_replicas_that_have_an_old_text(plane: Plane) -> None:
    """`set` says whose replicas and how; `update` with the same file says what will happen, and it does."""
    for name in ("HF_TOKEN", "prod-db"):
        _set(plane, name)
    file = plane.file(NAMING)
    assert plane.run("up", file, "-n", "svc", "-y").exit_code == 0
    before = {replica["id"] for replica in plane.json("status", "svc")["replicas"]}
    same = plane.run("update", "svc", file, "-y")
    assert "none is replaced" in same.stderr
    rotated = _set(plane, text="another")
    assert "Replicas of svc that run keep the text they started with" in rotated.stderr
    assert "sailplane update svc FILE" in rotated.stderr
    updated = plane.run("update", "svc", file, "-y")
    assert "Every replica is replaced" in updated.stderr
    assert updated.exit_code == 0
    after = plane.json("status", "svc")
    live = {replica["id"] for replica in after["replicas"] if replica["status"] == "READY"}
    assert (after["version"], live & before) == (2, set())


@pytest.mark.parametrize("args", [("--secret", f"HF_TOKEN={TEXT}"), ("--secret", TEXT), ("--secret-file", TEXT)])
def test_skyserves_options_are_answered_with_the_way_here(args: tuple[str, str]) -> None:
    """`--secret` and `--secret-file` are refused with the exact fix, and what they were given is not repeated."""
    for command in (["plan"], ["up"], ["update", "svc"]):
        result = CliRunner().invoke(cli, [*command, "-", *args], input=YAML)
        assert result.exit_code == 2
        assert f"{args[0]} is not taken" in result.stderr
        assert "sailplane secrets set NAME --service SERVICE" in result.stderr
        assert TEXT not in result.output
