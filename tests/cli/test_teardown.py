"""`sailplane teardown`: what it sees to before anything is removed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import click
import pytest

from chalicelib import deploying, schedule
from chalicelib.errors import Invalid, LeaseHeld, Unreachable
from chalicelib.model import Leftover, LeftoverKind
from sailplane.cli import teardown
from sailplane.cli.client import Client
from sailplane.cli.failures import from_problem
from sailplane.cli.output import Output
from sailplane.deploy.machines import Clouds
from tests.api.conftest import YAML, Api
from tests.fakes import FakeSchedule, World

QUIET = Output(as_json=True)


class Pushed(Client):
    """The control plane without a network between, and at one request a push of a new service, just before and just after it.

    Minutes pass between two requests.
    """

    def __init__(self, world: World, at: int = 0) -> None:
        self.api = Api(world)
        self.requests: list[str] = []
        self.refused = 0
        self._at = at

    def _ask(self, answer: Any, method: str, path: str, *args: Any, query: Any = None, **_: Any) -> Any:
        path += f"?{urlencode(query)}" if query else ""
        self.api.world.tick(times=20, every_s=20.0)
        self.requests.append(f"{method} {path}")
        if len(self.requests) == self._at:
            self.push("before")
        response = self.api.call(method, path, *args)
        if len(self.requests) == self._at:
            self.push("after")
        if response.status_code >= 400:
            raise from_problem(response.status_code, response.json_body)
        return answer.model_validate_json(response.body)

    def push(self, name: str) -> None:
        runtime = self.api.world.runtime
        try:
            deploying.create(runtime, name, YAML, deploying.understood(runtime, name, YAML, {}))
        except LeaseHeld:
            self.refused += 1


def deployed() -> World:
    """One service in a control plane that a schedule wakes, as in an account."""
    world = World()
    world.runtime = replace(world.runtime, schedule=FakeSchedule(is_on=True))
    world.create()
    world.tick()
    assert world.cloud.machines
    return world


def test_a_push_at_any_step_leaves_no_machine() -> None:
    """Before and after each of teardown's requests in turn: it is refused, or what it made is ended with the rest."""
    last, refused = 0, 0
    for at in range(1, 40):
        world = deployed()
        client = Pushed(world, at)
        teardown.empty(QUIET, client, is_wanted=True)
        client.push("late")
        world.tick(times=20, every_s=20.0)
        assert (world.store.service_names(), world.cloud.machines) == ((), {}), f"a push at {client.requests[at - 1]}"
        refused += client.refused
        if len(client.requests) < at:
            break
        last = at
    assert last > 5
    assert refused > 2 * last


def test_one_that_is_given_up_makes_services_again() -> None:
    """There is one, and it was not said that it may be ended."""
    world = deployed()
    client = Pushed(world)
    with pytest.raises(Invalid, match="1 service would be left"):
        teardown.empty(QUIET, client, is_wanted=False)
    client.push("new")
    assert world.store.service_names() == ("new", "svc")


def test_one_that_was_broken_off_makes_services_again_after_an_hour() -> None:
    """Nobody has to know of the mark."""
    world = deployed()
    schedule.close(world.runtime)
    client = Pushed(world)
    world.clock.advance(schedule.CLOSED_S - 1.0)
    client.push("new")
    assert client.refused == 1
    world.clock.advance(2.0)
    client.push("new")
    assert world.store.service_names() == ("new", "svc")


def test_two_that_are_given_up_open_their_own_only() -> None:
    """The other one goes on, and what is pushed meanwhile nobody would end; whichever of them was first."""
    world = deployed()
    client = Pushed(world)
    for others in (("DELETE", "/v1/intake?by=other"), ("PUT", "/v1/intake?by=other")):
        client.api.call(*others)
        with pytest.raises(Invalid, match="1 service would be left"):
            teardown.empty(QUIET, client, is_wanted=False)
        client.push("new")
    assert (client.refused, world.store.service_names()) == (1, ("new", "svc"))
    client.close_intake("mine")
    client.api.call("DELETE", "/v1/intake?by=other")
    client.open_intake("mine")
    client.push("newer")
    assert client.refused == 2
    client.api.call("PUT", "/v1/intake")
    client.push("newer")
    assert world.store.service_names() == ("new", "newer", "svc")


class Older(Pushed):
    """A control plane of before one could be closed."""

    def _ask(self, answer: Any, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        if path.startswith("/v1/intake"):
            raise from_problem(404, {"detail": "There is nothing at this path; see /openapi.json."})
        return super()._ask(answer, method, path, *args, **kwargs)


def test_a_control_plane_that_cannot_be_closed_yet_is_upgraded_first() -> None:
    """It is older than the command; nothing is shut down before."""
    world = deployed()
    with pytest.raises(Invalid, match=r"older than this command.*sailplane upgrade.*Nothing was removed"):
        teardown.empty(QUIET, Older(world), is_wanted=True)
    assert world.store.service_names() == ("svc",)


class Janitor:
    """A cloud with a machine of a deployment that nobody knows any more."""

    def __init__(self) -> None:
        self.machines = [Leftover("aws", LeftoverKind.MACHINE, "i-1", "us-west-2", "g5.xlarge, running")]

    def leftovers(self, live: frozenset[str]) -> tuple[Leftover, ...]:
        assert not live
        return tuple(self.machines)

    def remove(self, leftover: Leftover) -> None:
        self.machines.remove(leftover)


class Silent(Janitor):
    """A cloud that does not let itself be looked at."""

    def leftovers(self, live: frozenset[str]) -> tuple[Leftover, ...]:
        del live
        raise Unreachable("the credentials have expired")


def test_machines_without_a_control_plane_are_shown_and_ended(capsys: pytest.CaptureFixture[str]) -> None:
    """With what they are and where; a cloud that could not be looked at is said, and is no success."""
    aws = Janitor()
    left = teardown.end_machines(Output(), Clouds({"aws": lambda: aws, "gcp": Silent}), yes=True)
    assert aws.machines == []
    assert (left.leftovers, left.unreachable) == ((), {"gcp": "the credentials have expired"})
    told = capsys.readouterr()
    assert "us-west-2" in told.out
    assert "g5.xlarge, running" in told.out
    assert "gcp could not be asked: the credentials have expired" in told.err


def test_machines_are_not_ended_unasked() -> None:
    """Where nobody can say yes, --yes is wanted."""
    aws = Janitor()
    with pytest.raises(click.UsageError, match="Add --yes"):
        teardown.end_machines(Output(), Clouds({"aws": lambda: aws}), yes=False)
    assert aws.machines
