"""`sailplane doctor` against a control API over sockets."""

from __future__ import annotations

from dataclasses import replace

from chalicelib.model import Leftover, LeftoverKind
from tests.cli.conftest import Plane

DISK = Leftover("local", LeftoverKind.DISK, "d1", "here", "its machine is gone", "gone-0000-0-1", 4.0)


class Littered:
    """The plane's cloud with one disk lying about, until it is removed."""

    def __init__(self, plane: Plane) -> None:
        self._cloud = plane.cloud
        self.litter = [DISK]
        self.fails = False
        plane.world.runtime = replace(plane.world.runtime, providers={"local": self})  # type: ignore[dict-item]  # all the rest is the cloud's

    def __getattr__(self, name: str) -> object:
        return getattr(self._cloud, name)

    def leftovers(self, live: frozenset[str]) -> tuple[Leftover, ...]:
        del live
        return tuple(self.litter)

    def remove(self, leftover: Leftover) -> None:
        self.litter.remove(leftover)


def test_a_clean_cloud_is_said_to_be_clean(plane: Plane) -> None:
    """Exit code 0, so that a cron job can tell."""
    result = plane.run("doctor")
    assert (result.exit_code, result.stdout) == (0, "Nothing is left over.\n")


def test_residue_is_shown_and_left_alone(plane: Plane) -> None:
    """Exit code 1, a table with the price, and the command that removes it."""
    littered = Littered(plane)
    result = plane.run("doctor")
    assert result.exit_code == 1
    assert [line.split()[:4] for line in result.stdout.splitlines()[1:]] == [["local", "disk", "here", "4.00"]]
    assert result.stdout.splitlines()[1].split()[-1] == "d1"
    assert "Next: sailplane doctor --fix" in result.stderr
    assert littered.litter == [DISK]


def test_ids_that_are_paths_are_shown_by_their_ends(plane: Plane) -> None:
    """Azure's have 150 characters; the JSON has them whole."""
    littered = Littered(plane)
    littered.litter = [replace(DISK, id="/subscriptions/00000000/resourceGroups/models/providers/disks/d1")]
    assert plane.run("doctor").stdout.splitlines()[1].split()[-1] == "d1"
    listed = plane.run("doctor", "--json").stdout
    assert littered.litter[0].id in listed


def test_residue_is_removed_on_request_only(plane: Plane) -> None:
    """--fix without a terminal wants --yes; with it everything goes, and the exit code is 0."""
    littered = Littered(plane)
    assert plane.run("doctor", "--fix").exit_code == 2
    assert littered.litter == [DISK]
    assert plane.json("doctor", "--fix", "--yes") == {"leftovers": [], "unreachable": {}}
    assert littered.litter == []


def test_nothing_that_a_cloud_says_commands_the_terminal(plane: Plane) -> None:
    """Names of things are the cloud's, and may have been chosen by whoever else may make some there."""
    littered = Littered(plane)
    littered.litter = [replace(DISK, id="d1\x1b]0;owned\x07", why="\x1b[2J\x9b31mgone\u202e")]
    result = plane.run("doctor")
    assert "gone" in result.stdout
    assert not [each for each in result.stdout if each != "\n" and not each.isprintable()]
