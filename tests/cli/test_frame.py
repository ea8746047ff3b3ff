"""The frame of the command line: lazy commands, output, failures and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from chalicelib import errors
from sailplane.cli import COMMANDS, LazyCommand, cli, failures, inputs, output
from sailplane.cli.exits import Exit
from sailplane.deploy.account import NoAccess

PROBE = "import sys; from sailplane.cli import main; sys.argv = ['sailplane', {args}]; sys.excepthook = print\ntry: main()\nexcept SystemExit: pass\nprint(sorted(sys.modules), file=sys.stderr)"

SPEC = "urn:sailplane:problem:spec"


def python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=30, check=False)


def fail_with(error: BaseException, *args: str) -> tuple[int, str, str]:
    """Run `sailplane fail`, a command that raises `error`; its exit code, stdout and stderr."""

    @click.command()
    @output.options
    def command(out: output.Output) -> None:
        del out
        raise error

    group = type(cli)("sailplane", commands={"fail": command}, params=cli.params, callback=cli.callback)
    result = CliRunner().invoke(group, ["fail", *args])
    return result.exit_code, result.stdout, result.stderr


def test_help_lists_every_command_and_imports_none() -> None:
    """`sailplane --help` shows each command's one-line help and loads no command, no core, no rich, no pydantic."""
    result = python(PROBE.format(args="'--help'"))
    width = max(map(len, COMMANDS))
    for name, text in COMMANDS.items():
        assert f"  {name.ljust(width)}  {text}\n" in result.stdout
    loaded = result.stderr
    assert "'click.core'" in loaded
    for module in ("chalicelib.", "rich", "pydantic", "yaml", "sailplane.cli.output", "sailplane.cli.plan"):
        assert f"'{module}" not in loaded


def test_help_documents_every_exit_code() -> None:
    """The exit codes that scripts rely on are part of `sailplane --help`."""
    text = CliRunner().invoke(cli, ["--help"]).stdout
    for code in Exit:
        assert f"{code.value:<3}  {code.meaning}" in text


def test_unknown_command_is_a_usage_error_with_the_nearest_name() -> None:
    """A mistyped command ends with exit code 2 and says which one was probably meant."""
    result = CliRunner().invoke(cli, ["plann"])
    assert result.exit_code == Exit.USAGE
    assert "'plan'" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SpecError((errors.Problem("service", "is missing"),)), Exit.INVALID),
        (errors.NoFeasibleOffer("nothing fits"), Exit.INVALID),
        (errors.Invalid("no"), Exit.INVALID),
        (errors.NotFound("no such service"), Exit.NOT_FOUND),
        (errors.Exists("taken"), Exit.CONFLICT),
        (errors.Conflict("changed"), Exit.CONFLICT),
        (errors.LeaseHeld("busy"), Exit.CONFLICT),
        (errors.Unreachable("refused"), Exit.UNREACHABLE),
        (failures.ServiceFailed("exited"), Exit.SERVICE_FAILED),
        (failures.Refused("wrong scope"), Exit.DENIED),
        (failures.UnknownKey("wrong key"), Exit.DENIED),
        (failures.NotTrusted("no trust"), Exit.DENIED),
        (NoAccess("no credentials"), Exit.DENIED),
        (errors.Fenced("lost"), Exit.FAILURE),
        (errors.QuotaExceeded("no more"), Exit.FAILURE),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
        (click.Abort(), Exit.INTERRUPTED),
    ],
)
def test_each_error_has_its_exit_code_and_a_message_on_stderr_only(error: BaseException, code: Exit) -> None:
    """Every kind of failure ends with its documented code, its message on stderr, an empty stdout and no traceback."""
    exit_code, stdout, stderr = fail_with(error)
    assert (exit_code, stdout) == (code, "")
    assert str(error) in stderr
    assert "Traceback" not in stderr


def test_no_error_of_the_tree_is_without_an_ending() -> None:
    """A class added to the error tree later still ends in a code and a message."""
    for kind in errors.SailplaneError.__subclasses__():
        assert failures.exit_code(kind.__new__(kind)) in Exit


def test_spec_error_names_file_line_path_and_hint(tmp_path: Path) -> None:
    """A refused file is reported as file:line: path: reason (hint), every problem on its own line."""

    @click.command()
    @inputs.service_file
    @output.options
    def command(out: output.Output, text: str, envs: dict[str, str]) -> None:
        del out, text, envs
        raise errors.SpecError(
            (errors.Problem("service.replcas", "unknown key", "replicas?", 3), errors.Problem("run", "is missing"))
        )

    source = tmp_path / "hello.yaml"
    source.touch()
    group = type(cli)("sailplane", commands={"fail": command}, params=cli.params, callback=cli.callback)
    result = CliRunner().invoke(group, ["fail", str(source)])
    assert result.exit_code == Exit.INVALID
    assert f"{source} has 2 problems; nothing was changed.\n" in result.stderr
    assert f"  {source}:3: service.replcas: unknown key (replicas?)\n  run: is missing\n" in result.stderr


def test_json_errors_are_one_object_on_stderr() -> None:
    """With --json a failure is machine-readable too."""
    error = errors.SpecError((errors.Problem("service", "is missing", "add it", 1),))
    code, stdout, stderr = fail_with(error, "--json")
    assert (code, stdout) == (Exit.INVALID, "")
    assert json.loads(stderr)["problems"] == [{"path": "service", "reason": "is missing", "hint": "add it", "line": 1}]


def test_debug_shows_the_traceback_and_keeps_the_exit_code() -> None:
    """--debug adds the traceback; nothing else changes."""
    code, _, stderr = fail_with(errors.NotFound("no such service"), "--debug")
    assert code == Exit.NOT_FOUND
    assert "Traceback" in stderr


def test_a_defect_prints_no_traceback_without_debug() -> None:
    """An exception that is no SailplaneError is called a defect of ours, in two lines, and exits with 1."""
    code = (
        "import sys, click, sailplane.cli as frame\n"
        "frame.cli.commands['plan'] = click.Command('plan', callback=lambda: 1 // 0)\n"
        "sys.argv = ['sailplane', *sys.argv[1:], 'plan']; frame.main()"
    )
    plain, debug = python(code), python(code, "--debug")
    assert (plain.returncode, debug.returncode) == (1, 1)
    assert "ZeroDivisionError" in plain.stderr
    assert "--debug" in plain.stderr
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr


@pytest.mark.parametrize(
    ("status", "document", "kind"),
    [
        (422, {"type": SPEC, "problems": [{"path": "run", "reason": "missing", "line": 2}]}, errors.SpecError),
        (422, {"detail": "name: bad", "problems": [{"path": "name", "reason": "bad"}]}, errors.Invalid),
        (422, {"detail": "none", "suggestions": ["L4:1"]}, errors.NoFeasibleOffer),
        (422, {"detail": "bad"}, errors.Invalid),
        (401, {"title": "Unauthorized"}, failures.UnknownKey),
        (404, {"detail": "no such service"}, errors.NotFound),
        (409, {"detail": "taken"}, errors.Exists),
        (503, {}, errors.Unreachable),
        (500, {}, errors.SailplaneError),
    ],
)
def test_a_problem_document_becomes_the_error_it_was(status: int, document: dict[str, object], kind: type) -> None:
    """The API's problem+json turns back into the same tree, so that exit codes are decided in one place."""
    error = failures.from_problem(status, document)
    assert type(error) is kind
    assert str(document.get("title", "")) in str(error)


@pytest.mark.parametrize("args", [["--json", "show"], ["show", "--json"]])
def test_json_is_accepted_before_and_after_the_command(args: list[str]) -> None:
    """`--json` may stand on either side of the command's name; then stdout is the document alone."""

    @click.command()
    @output.options
    def show(out: output.Output) -> None:
        """Show."""
        out.message("a message")
        out.table(["A"], [["1"]])
        out.document({"a": 1})

    group = type(cli)("sailplane", commands={"show": show}, params=cli.params, callback=cli.callback)
    result = CliRunner().invoke(group, args)
    assert json.loads(result.stdout) == {"a": 1}
    assert result.stderr == "a message\n"


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "yes"}, False), ({"NO_COLOR": ""}, True)])
def test_colour_obeys_no_color(environ: dict[str, str], coloured: bool) -> None:
    """Any non-empty NO_COLOR turns colour off on a terminal (no-color.org)."""

    @click.command()
    @output.options
    def show(out: output.Output) -> None:
        out.data(repr(click.get_current_context().color))

    group = type(cli)("sailplane", commands={"show": show}, params=cli.params, callback=cli.callback)
    result = CliRunner().invoke(group, ["show"], env=environ)
    assert result.stdout == ("None\n" if coloured else "False\n")


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_errors_obey_no_color(environ: dict[str, str], coloured: bool) -> None:
    """What colours the word `Error:` on a terminal is left out like every other colour."""
    result = CliRunner().invoke(cli, ["plan", "-"], input="", env=environ, color=True)
    assert ("\x1b[31mError:" in result.stderr) == coloured


@pytest.mark.parametrize(("option", "shown"), [("--version", ""), ("--debug", "15 lines\n")])
def test_what_libraries_log_is_for_those_who_debug(option: str, shown: str) -> None:
    """azure-identity logs every credential that it has tried, beside the error that it raises and that is told."""
    code = (
        "import logging, sys; from sailplane.cli import main; sys.argv = ['sailplane', *sys.argv[1:]]\ntry: main()\n"
        "except SystemExit: logging.getLogger('azure.identity').warning('15 lines')"
    )
    assert python(code, *filter(None, dict.fromkeys((option, "--version")))).stderr == shown


def test_tables_are_aligned_and_never_truncated() -> None:
    """Columns line up, numbers flush right, long cells stay whole, no trailing blanks."""
    rows = [["NAME", "COST"], ["x" * 300, "1.00"], ["y", "10.00"]]
    lines = output.aligned(rows, [False, True])
    assert lines[1] == "x" * 300 + "   1.00"
    assert lines[2] == "y" + " " * 301 + "10.00"
    assert output.aligned([["a", "b"], ["c", ""]], [False, False])[1] == "c"


def test_on_a_terminal_the_last_column_goes_on_below_itself() -> None:
    """Nothing is left out, and what fits is left alone."""
    rows = [["WHAT", "WHY"], ["a", "one two three four five six"], ["b", "short"]]
    lines = output.aligned(rows, [False, False], 26)
    assert lines == ["WHAT  WHY", "a     one two three four", "      five six", "b     short"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;32mINFO\x1b[0m up", "INFO up"),
        ("10%\r20%\r\n", "10%\n20%\n"),
        ("\x1b]8;;http://evil\x07link", "\ufffd]8;;http://evil\ufffdlink"),
        ("a\tb\nc\u202ed", "a\tb\nc\ufffdd"),
    ],
)
def test_what_others_wrote_is_shown_plainly(text: str, shown: str) -> None:
    """Logs, events and errors are an engine's or a cloud's words: none of them moves the cursor or sets a title."""
    assert output.plain(text) == shown
    assert fail_with(errors.NotFound(text))[2].startswith(f"Error: {shown}")


def test_piped_progress_prints_each_change_once() -> None:
    """Without a terminal, progress is a log: one line for each new line, none repeated."""

    @click.command()
    @output.options
    def wait(out: output.Output) -> None:
        with out.progress("starting") as change:
            change("starting\nreplica 1 READY")
            change("starting\nreplica 1 READY\nreplica 2 READY")

    result = CliRunner().invoke(wait, [])
    assert result.stderr == "starting\nreplica 1 READY\nreplica 2 READY\n"


def test_every_lazy_command_stands_for_the_module_of_its_name() -> None:
    """The table of contents and the lazily loaded commands are the same list."""
    assert list(cli.commands) == list(COMMANDS)
    assert all(isinstance(command, LazyCommand) for command in cli.commands.values())
