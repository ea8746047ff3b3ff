"""Services follow their branches: whatever is delivered, lost, late or repeated, the head is what is deployed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from chalicelib import passes, schedule
from chalicelib.errors import Conflict, Exists, Unreachable
from chalicelib.hooks import following
from chalicelib.hooks.following import LOOK_AGAIN_S, POLL_EVERY_S
from chalicelib.model import CommitStatus, Event, Hook, HookKind, OidcIssuer, Push, SecretBinding, Trust
from chalicelib.ports import Commit, Repository, Store
from tests.fakes import FakeMarket, FakeSchedule, Interposed, World, spec
from tests.hooks.forge import TOKEN, FakeForge, Repositories

REPOSITORY, BRANCH, PATH = "acme/app", "main", "service.yaml"
CHANGED = replace(spec(), drain_timeout_s=7)
BROKEN = "service:\n  replicas: -1\n"


def yaml(replicas: int = 1) -> str:
    return f"service:\n  readiness_probe: /health\n  replicas: {replicas}\n  ports: 8080\nrun: serve\n"


WITH_SECRET = yaml() + "secrets: {TOKEN: }\n"


@dataclass
class Ci:
    """A world with a forge, and a hook by which `svc` follows its branch."""

    world: World = field(default_factory=World)
    forge: FakeForge = field(default_factory=lambda: FakeForge(Repositories()))
    poked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world.runtime = replace(self.world.runtime, forges={HookKind.GITHUB: self.forge}, poke=self.poked.append)
        self.world.runtime.secrets.write("forge-token", TOKEN)
        self.hook_id = self.store.create_hook(
            Hook(
                "0123456789",
                HookKind.GITHUB,
                "svc",
                self.world.clock.now(),
                repository=REPOSITORY,
                branch=BRANCH,
                path=PATH,
                token_secret="forge-token",
                look_at=self.world.clock.now(),
            )
        ).id

    @property
    def store(self) -> Store:
        return self.world.runtime.store

    @property
    def hook(self) -> Hook:
        hook = self.store.hook(self.hook_id)
        assert hook
        return hook

    def push(self, text: str) -> str:
        return self.forge.repositories.push(REPOSITORY, BRANCH, {PATH: text})

    def deliver(self, commit: str) -> None:
        """What the API writes down of a delivery."""
        now = self.world.clock.now()
        pushed = following.pushed(self.hook, Push(commit, now), now)
        assert pushed
        self.store.record_push(pushed, [f"d{self.hook.version}"], now + 1000)

    def work(self, times: int = 1, every_s: float = 0.0) -> tuple[passes.Report, ...]:
        reports: tuple[passes.Report, ...] = ()
        for _ in range(times):
            self.world.clock.advance(every_s)
            reports = passes.deploy_pushes(self.world.runtime)
            assert not [failure for report in reports for failure in report.failures]
        return reports

    def set_secret(self) -> None:
        """What `WITH_SECRET` names, for all services."""
        self.world.runtime.secrets.write("TOKEN", "text")
        self.store.bind_secret(SecretBinding("TOKEN", ("*",)))

    def replicas_wanted(self) -> int:
        return self.world.state().service.spec.scaling.min_replicas

    def versions(self) -> list[str]:
        return [version.source for version in self.store.specs("svc")]

    def statuses(self, commit: str) -> list[str]:
        return [status for _, known, status, _ in self.forge.repositories.statuses if known == commit]

    def events(self, kind: str = "") -> list[Event]:
        return list(self.store.events("svc", kind=kind))


def test_the_head_is_deployed_at_once() -> None:
    """A hook that was just made needs no push: the service is created from what is there, and its passes are asked for."""
    ci = Ci()
    commit = ci.push(yaml())
    ci.work()
    assert ci.versions() == [yaml()]
    assert ci.poked == ["svc"]
    (created,) = ci.events("service")
    assert created.message == f"created from {REPOSITORY}@{commit[:10]}, webhook 0123456789"
    assert ci.forge.repositories.statuses == [(REPOSITORY, commit, "pending", "version 1 of svc is being rolled out")]
    assert ci.hook.outcome
    assert (ci.hook.outcome.commit, ci.hook.outcome.version, ci.hook.outcome.is_told) == (commit, 1, True)
    assert not schedule.pushes_wait(ci.world.runtime)


def test_a_push_is_the_next_version() -> None:
    """The same way as its owner's update; its event says where it comes from."""
    ci = Ci()
    ci.push(yaml(1))
    ci.work()
    commit = ci.push(yaml(2))
    ci.deliver(commit)
    assert schedule.pushes_wait(ci.world.runtime)
    ci.work()
    assert (ci.versions(), ci.replicas_wanted()) == ([yaml(1), yaml(2)], 2)
    assert f"updated to version 2 from {REPOSITORY}@{commit[:10]}" in ci.events("service")[-1].message
    assert not schedule.pushes_wait(ci.world.runtime)


def test_a_commit_waits_until_its_version_serves() -> None:
    """Green when it does, and not when it was accepted; nobody is asked meanwhile, and nothing written."""
    ci = Ci()
    commit = ci.push(yaml())
    ci.work()
    hook, asked = ci.hook, ci.forge.asked
    assert not ci.work(every_s=20)[0].acted
    assert (ci.hook, ci.forge.asked) == (hook, asked)
    ci.world.tick(5)
    ci.work(every_s=20)
    assert ci.statuses(commit) == ["pending", "success"]
    assert ci.forge.repositories.statuses[-1][3] == "version 1 of svc serves"
    assert ci.work(every_s=20) == ()
    commit = ci.push(yaml().replace("run: serve", "run: serve --fast"))
    ci.deliver(commit)
    ci.work()
    ci.work(every_s=20)
    assert ci.statuses(commit) == ["pending"], "replicas of the version before are ready, and none of this one"
    ci.world.tick(40, every_s=5)
    ci.work(every_s=20)
    assert ci.statuses(commit) == ["pending", "success"]


def test_a_commit_whose_version_fails_is_told_so() -> None:
    """Red, without its engine's words, which the public might see."""
    ci = Ci()
    commit = ci.push(yaml())
    ci.work()
    ci.world.tick(2)
    for machine in ci.world.cloud.machines.values():
        machine.ready, machine.exit_code = False, 3
    ci.world.tick(3)
    ci.work(every_s=20)
    assert ci.statuses(commit) == ["pending", "failure"]
    assert ci.forge.repositories.statuses[-1][3] == "version 1 of svc failed: see sailplane status svc"


def test_a_commit_that_is_overtaken_does_not_wait_for_ever() -> None:
    """By the next push, by its owner's update, or because the service is shut down."""
    ci = Ci()
    first = ci.push(yaml(1))
    ci.work()
    second = ci.push(yaml(2))
    ci.deliver(second)
    ci.work()
    assert ci.statuses(first) == ["pending", "failure"]
    ci.world.update(replace(ci.world.state().service.spec, drain_timeout_s=7))
    ci.work(every_s=20)
    assert ci.statuses(second) == ["pending", "failure"]
    third = ci.push(yaml(3))
    ci.deliver(third)
    ci.work()
    ci.world.delete()
    ci.world.tick(5)
    ci.work(every_s=20)
    assert ci.statuses(third) == ["pending", "failure"]
    assert "was overtaken before it served" in ci.forge.repositories.statuses[-1][3]


def test_nothing_is_asked_or_written_while_nothing_is_due() -> None:
    """A tick costs one read of the hooks, until five minutes have passed."""
    ci = Ci()
    ci.push(yaml())
    ci.work()
    asked, hook = ci.forge.asked, ci.hook
    ci.work(times=4, every_s=60)
    assert (ci.forge.asked, ci.hook) == (asked, hook)


def test_a_lost_delivery_is_made_good() -> None:
    """Within five minutes and a tick, by asking the forge."""
    ci = Ci()
    ci.push(yaml(1))
    ci.work()
    ci.push(yaml(2))
    ci.work(times=4, every_s=60)
    assert ci.replicas_wanted() == 1
    ci.work(every_s=60)
    assert ci.replicas_wanted() == 2


def test_a_push_that_means_the_same_makes_no_version() -> None:
    """A comment, another file: the commit is told so, and no replica is touched."""
    ci = Ci()
    first = ci.push(yaml())
    ci.work()
    commit = ci.push(yaml() + "# a comment\n")
    ci.deliver(commit)
    ci.work()
    assert ci.versions() == [yaml()]
    status = (REPOSITORY, commit, "pending", "svc stays at version 1: it means the same")
    assert ci.forge.repositories.statuses[-1] == status
    ci.world.tick(5)
    ci.work(every_s=20)
    assert [ci.statuses(one) for one in (first, commit)] == [["pending", "success"]] * 2


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({PATH: BROKEN}, "service.replicas"),
        ({PATH: yaml().replace("run:", "resources: {accelerators: 'H100:8'}\nrun:")}, "H100"),
        ({PATH: "not: [yaml"}, "line"),
        ({"elsewhere.yaml": yaml()}, "There is no file service.yaml"),
    ],
    ids=["spec", "no-offer", "syntax", "no-file"],
)
def test_a_bad_push_leaves_the_running_version(files: dict[str, str], why: str) -> None:
    """It is refused once, in the service's events and at the commit; a good one after it is deployed."""
    ci = Ci()
    ci.push(yaml(1))
    ci.work()
    before = ci.world.state()
    commit = ci.forge.repositories.push(REPOSITORY, BRANCH, files)
    ci.deliver(commit)
    ci.work(times=20, every_s=60)
    assert ci.world.state() == before
    assert ci.versions() == [yaml(1)]
    (refused,) = ci.events("hook.refused")
    assert refused.message.startswith(f"from {REPOSITORY}@{commit[:10]}")
    assert why in refused.message
    told = [status for status in ci.forge.repositories.statuses if status[1] == commit]
    assert [(status, why in message) for _, _, status, message in told] == [("failure", True)]
    ci.deliver(ci.push(yaml(2)))
    ci.work()
    assert ci.replicas_wanted() == 2


def test_a_bad_first_push_creates_nothing() -> None:
    """Its events are there for who asks, though the service is not."""
    ci = Ci()
    ci.push(BROKEN)
    ci.work()
    assert ci.store.service_names() == ()
    assert len(ci.events("hook.refused")) == 1


def test_a_service_that_is_shut_down_stays_so() -> None:
    """Until something new is pushed: polling alone brings nothing back that its owner has taken down."""
    ci = Ci()
    ci.push(yaml(1))
    ci.work()
    ci.world.delete()
    ci.world.tick(5)
    ci.work(times=3, every_s=POLL_EVERY_S)
    assert ci.store.service_names() == ()
    ci.push(yaml(2))
    ci.work(every_s=POLL_EVERY_S)
    assert ci.versions() == [yaml(2)]


def test_a_push_to_a_service_that_is_being_shut_down_brings_it_back() -> None:
    """Once it is gone; until then the commit is red, and whatever wakes for pushes stays awake."""
    ci = Ci()
    ci.push(yaml(1))
    ci.work()
    ci.world.delete()
    commit = ci.push(yaml(2))
    ci.deliver(commit)
    ci.work()
    assert "is being shut down" in ci.events("hook.refused")[0].message
    ci.world.tick(5)
    assert ci.store.service_names() == ()
    assert schedule.pushes_wait(ci.world.runtime)
    ci.work(every_s=POLL_EVERY_S)
    assert ci.versions() == [yaml(2)]
    assert ci.statuses(commit) == ["failure", "pending"]


@pytest.mark.parametrize("is_delivered", [False, True], ids=["at the next look", "at the next delivery"])
def test_a_push_that_lacked_a_secret_is_deployed_when_it_is_there(*, is_delivered: bool) -> None:
    """Without a new commit. Until then it is looked at as often as the branch is, and said once."""
    ci = Ci()
    commit = ci.push(WITH_SECRET)
    ci.work()
    assert "sailplane secrets set TOKEN" in ci.events("hook.refused")[0].message
    assert schedule.pushes_wait(ci.world.runtime)
    asked = ci.forge.asked
    ci.work(times=30, every_s=60)
    assert ci.forge.asked - asked == 3 * 6  # head, number and file, every five minutes
    ci.work(times=30, every_s=POLL_EVERY_S)
    assert not schedule.pushes_wait(ci.world.runtime), "nothing stays awake for it for longer than two hours"
    assert (len(ci.events("hook")), ci.statuses(commit)) == (1, ["failure"])
    ci.set_secret()
    if is_delivered:
        ci.deliver(commit)
    ci.work(every_s=0 if is_delivered else POLL_EVERY_S)
    assert ci.versions() == [WITH_SECRET]
    assert ci.statuses(commit) == ["failure", "pending"]


def test_a_push_that_found_no_machine_is_deployed_when_there_is_one() -> None:
    """What is on offer changes by itself; what it is refused for meanwhile is said when the words change."""
    ci = Ci()
    runtime, nothing = ci.world.runtime, FakeMarket(())
    ci.world.runtime = replace(runtime, market=nothing)
    commit = ci.push(yaml())
    ci.work(times=3, every_s=POLL_EVERY_S)
    assert (ci.versions(), len(ci.events("hook.refused"))) == ([], 1)
    ci.world.runtime = runtime
    ci.work(every_s=POLL_EVERY_S)
    assert (ci.versions(), ci.statuses(commit)) == ([yaml()], ["failure", "pending"])


@pytest.mark.parametrize(
    "act", [lambda ci: ci.world.delete(), lambda ci: ci.world.update(CHANGED)], ids=["down", "update"]
)
def test_what_the_owner_does_after_a_refused_push_counts(act: Callable[[Ci], object]) -> None:
    """It is the later word: what was refused before is not deployed over it, though it could be now."""
    ci = Ci()
    ci.push(yaml())
    ci.work()
    ci.push(WITH_SECRET)
    ci.work(times=2, every_s=POLL_EVERY_S)
    act(ci)
    ci.set_secret()
    ci.work(times=2, every_s=POLL_EVERY_S)
    ci.world.tick(5)
    ci.work(times=2, every_s=POLL_EVERY_S)
    assert WITH_SECRET not in ci.versions()
    assert not schedule.pushes_wait(ci.world.runtime)


def test_a_push_while_the_control_plane_is_closed_is_acted_on_when_it_is_open() -> None:
    """It is written down, looked at ever more seldom, and deployed when `sailplane teardown` was given up, said or not."""
    for is_opened in (True, False):
        ci = Ci()
        awake = FakeSchedule()
        ci.world.runtime = replace(ci.world.runtime, schedule=awake)
        schedule.close(ci.world.runtime)
        commit = ci.push(yaml())
        with schedule.kept_on_for_a_push(ci.world.runtime):
            ci.deliver(commit)
        assert awake.is_on
        asked = ci.forge.asked
        ci.work(times=50, every_s=60)
        assert ci.versions() == []
        assert ci.forge.asked - asked <= 3 * 15
        assert "being taken out of its account" in ci.hook.trouble
        assert schedule.pushes_wait(ci.world.runtime)
        assert ci.events("hook") == []
        if is_opened:
            schedule.reopen(ci.world.runtime)
        ci.work(times=5 if is_opened else 15, every_s=60)
        assert ci.versions() == [yaml()]


def test_what_the_owner_changed_stays_until_the_next_push() -> None:
    """A head that was deployed is not deployed again."""
    ci = Ci()
    ci.push(yaml(1))
    ci.work()
    ci.world.update(replace(ci.world.state().service.spec, drain_timeout_s=7))
    ci.work(times=5, every_s=POLL_EVERY_S)
    assert len(ci.versions()) == 2


def test_a_later_repository_of_the_same_name_is_not_deployed() -> None:
    """Neither pushed nor polled: the first look has pinned its number. It is said once, and deployed again when it is back."""
    ci = Ci()
    ci.push(yaml(1))
    ci.work()
    assert ci.hook.repository_id == "74"
    ci.forge.repositories.numbers[REPOSITORY] = 75
    ci.push(yaml(2))
    ci.work(times=3, every_s=POLL_EVERY_S)
    ci.deliver(ci.push(yaml(3)))
    ci.work(times=3, every_s=POLL_EVERY_S)
    assert ci.versions() == [yaml(1)]
    (event,) = ci.events("hook.trouble")
    assert "another repository by now, number 75: webhook 0123456789 is for number 74" in event.message
    assert "sailplane webhook remove 0123456789" in event.message
    ci.forge.repositories.numbers.clear()
    ci.work(every_s=POLL_EVERY_S)
    assert ci.versions() == [yaml(1), yaml(3)]


def test_a_webhook_of_before_is_pinned_when_it_is_looked_at_next() -> None:
    """An older release knew no numbers; a head that does not move asks for it once."""
    ci = Ci()
    ci.push(yaml(1))
    ci.work()
    ci.store.commit("svc", None, Commit(hook=replace(ci.hook, repository_id="")))
    ci.work(every_s=POLL_EVERY_S)
    assert ci.hook.repository_id == "74"
    asked = ci.forge.asked
    ci.work(every_s=POLL_EVERY_S)
    assert ci.forge.asked == asked + 1


def test_the_first_delivery_pins_too() -> None:
    """Where the forge could not be asked before, what it has signed says which repository is meant."""
    ci = Ci()
    now = ci.world.clock.now()
    pushed = following.pushed(ci.hook, Push(ci.push(yaml()), now, repository_id="73"), now)
    assert pushed
    ci.store.record_push(pushed, ["d"], now + 1000)
    ci.work()
    assert ci.versions() == []
    assert "number 74: webhook 0123456789 is for number 73" in ci.events("hook.trouble")[0].message


def test_what_another_of_its_name_knows_holds_for_a_webhook_too() -> None:
    """One that was made before there was a branch, and one of an older release, are not pinned to whoever has the name now."""
    ci = Ci()
    trust = Trust(
        "1111111111", OidcIssuer.GITHUB, "https://token.actions.githubusercontent.com", "Acme/App", ("svc",), 0.0
    )
    ci.store.create_trust(replace(trust, ref="refs/heads/main", repository_id="73"))
    ci.store.commit("svc", None, Commit(hook=replace(ci.hook, api_url="https://api.github.com")))
    ci.push(yaml())
    ci.work()
    assert (ci.versions(), ci.hook.repository_id) == ([], "")
    assert "trust 1111111111 is for number 73" in ci.events("hook.trouble")[0].message
    ci.store.delete_trust(trust.id)
    ci.work(every_s=POLL_EVERY_S)
    assert (ci.versions(), ci.hook.repository_id) == ([yaml()], "74")


def test_a_forge_that_is_down_is_asked_again() -> None:
    """The push waits and is deployed when the forge is back; nobody else waits for it."""
    ci = Ci()
    ci.push(yaml(1))
    ci.work()
    ci.deliver(ci.push(yaml(2)))
    ci.forge.down = True
    ci.work(times=10, every_s=30)
    assert (ci.replicas_wanted(), ci.hook.trouble) == (1, "the forge is down")
    assert schedule.pushes_wait(ci.world.runtime)
    ci.forge.down = False
    ci.work(times=2, every_s=POLL_EVERY_S)
    assert (ci.replicas_wanted(), ci.hook.trouble, ci.hook.failures) == (2, "", 0)


def test_a_forge_that_will_not_hear_does_not_hold_up_deploys() -> None:
    """A status that cannot be set is tried again, and what is pushed meanwhile is deployed."""
    ci = Ci()
    tells: list[str] = []

    class Deaf(FakeForge):
        def tell(self, repository: Repository, commit: str, status: CommitStatus, message: str) -> None:
            del repository, status, message
            tells.append(commit)
            raise Unreachable("busy")

    ci.world.runtime = replace(ci.world.runtime, forges={HookKind.GITHUB: Deaf(ci.forge.repositories)})
    first = ci.push(yaml(1))
    ci.work()
    second = ci.push(yaml(2))
    ci.deliver(second)
    ci.work()
    assert ci.replicas_wanted() == 2
    ci.work(times=3, every_s=60)
    assert tells == [first, first, *[second] * 4]  # the first one's end is said once
    ci.world.runtime = replace(ci.world.runtime, forges={HookKind.GITHUB: ci.forge})
    ci.work(times=2, every_s=POLL_EVERY_S)
    assert [commit for _, commit, _, _ in ci.forge.repositories.statuses] == [second]


def test_a_missing_token_is_said_once() -> None:
    """With the command that mends it."""
    ci = Ci()
    ci.push(yaml())
    ci.world.runtime.secrets.delete("forge-token")
    ci.work(times=9, every_s=60)
    (event,) = ci.events("hook.trouble")
    assert "sailplane secrets set forge-token" in event.message
    ci.world.runtime.secrets.write("forge-token", TOKEN)
    ci.work(every_s=POLL_EVERY_S)
    assert ci.versions() == [yaml()]


def test_a_branch_that_is_gone_is_said_once() -> None:
    """The service stays as it is."""
    ci = Ci()
    ci.push(yaml())
    ci.work()
    del ci.forge.repositories.branches[REPOSITORY, BRANCH]
    ci.work(times=9, every_s=POLL_EVERY_S)
    assert [event.message for event in ci.events("hook.trouble")] == ["main of acme/app: no branch main"]
    assert ci.versions() == [yaml()]


def test_a_forge_s_late_mirror_is_asked_twice() -> None:
    """The head that a delivery has announced may not be seen at once; soon it is, and not after five minutes."""
    ci = Ci()
    old = ci.push(yaml(1))
    ci.work()
    commit = ci.push(yaml(2))
    ci.deliver(commit)
    ci.forge.late[REPOSITORY, BRANCH] = old
    ci.work()
    assert ci.replicas_wanted() == 1
    assert schedule.pushes_wait(ci.world.runtime)
    ci.work(every_s=LOOK_AGAIN_S)
    assert ci.replicas_wanted() == 2


def test_generic_pushes_bring_their_file() -> None:
    """No forge is asked or told."""
    ci = Ci()
    now = ci.world.clock.now()
    hook = ci.store.create_hook(Hook("generic", HookKind.GENERIC, "other", now))
    for number, text in enumerate((yaml(1), yaml(2), BROKEN, yaml(3)), start=1):
        known = ci.store.hook(hook.id)
        assert known
        pushed = following.pushed(known, Push("same", now, now + number, text), now)
        assert pushed
        assert ci.store.record_push(pushed, [f"d{number}"], now + 1000)
        passes.deploy_pushes(ci.world.runtime, {"other"})
    assert [version.source for version in ci.store.specs("other")] == [yaml(1), yaml(2), yaml(3)]
    assert ci.forge.asked == 0
    assert [event.kind for event in ci.store.events("other", kind="hook")] == ["hook.refused"]


def test_a_service_that_is_taken_down_while_a_push_is_looked_at_stays_so() -> None:
    """Its owner's word came later than the push, though it is what the push is refused for."""
    ci = Ci()
    ci.push(yaml())
    ci.work()
    ci.push(yaml(2))
    runtime = ci.world.runtime
    down = _dying(ci.forge, lambda what: ci.world.delete() if what == "after file" else None)
    ci.world.runtime = replace(runtime, forges={HookKind.GITHUB: down})
    ci.work(every_s=POLL_EVERY_S)
    ci.world.runtime = runtime
    assert "is being shut down" in ci.events("hook.refused")[0].message
    ci.world.tick(5)
    ci.work(times=2, every_s=POLL_EVERY_S)
    assert ci.store.service_names() == ()


def test_a_generic_push_is_tried_again_with_the_file_that_it_brought() -> None:
    """Until it is deployed or given up; its sender need not send it again."""
    ci = Ci()
    now = ci.world.clock.now()
    hook = ci.store.create_hook(Hook("generic", HookKind.GENERIC, "other", now))
    pushed = following.pushed(hook, Push("c", now, now, WITH_SECRET), now)
    assert pushed
    ci.store.record_push(pushed, ["d"], now + 1000)
    ci.push(yaml())
    ci.work(times=3, every_s=POLL_EVERY_S)
    ci.set_secret()
    ci.work(every_s=POLL_EVERY_S)
    assert [version.source for version in ci.store.specs("other")] == [WITH_SECRET]
    assert len(ci.store.events("other", kind="hook")) == 1
    settled = ci.store.hook(hook.id)
    assert settled
    assert settled.push
    assert (settled.push.source, settled.look_at) == ("", None)


def test_only_the_services_asked_for() -> None:
    """A poke for one service does not look at another's branch."""
    ci = Ci()
    ci.push(yaml())
    assert passes.deploy_pushes(ci.world.runtime, {"other"}) == ()
    assert ci.versions() == []


@pytest.mark.parametrize("seed", range(10))
def test_of_a_thousand_pushes_in_any_order_the_head_wins(seed: int) -> None:
    """100 pushes a seed, forced ones among them, delivered in any order, late, twice or never, with passes in between."""
    ci, lots = Ci(), random.Random(seed)
    waiting: list[str] = []
    for number in range(100):
        if number and lots.random() < 0.1:  # back to where the branch has been
            commit = ci.forge.repositories.branches[REPOSITORY, BRANCH] = lots.choice(waiting or [ci.push(yaml(9))])
        else:
            commit = ci.push(BROKEN if lots.random() < 0.1 else yaml(lots.randint(1, 9)))
        waiting += [] if lots.random() < 0.1 else [commit] * lots.choice((1, 1, 2))
        while waiting and lots.random() < 0.5:
            ci.deliver(waiting.pop(lots.randrange(len(waiting))))
        if lots.random() < 0.3:
            ci.work(every_s=lots.choice((0, 1, 30)))
    last = ci.push(yaml(10 + seed))
    waiting = [last, *waiting] if lots.random() < 0.5 else waiting
    lots.shuffle(waiting)
    for commit in waiting:
        ci.deliver(commit)
        ci.work(every_s=lots.choice((0, 1)))
    ci.work(times=4, every_s=POLL_EVERY_S)
    assert ci.replicas_wanted() == 10 + seed
    assert ci.hook.outcome
    assert (ci.hook.outcome.commit, ci.hook.is_pending) == (last, False)
    assert ci.forge.repositories.statuses[-1][:3] == (REPOSITORY, last, "pending")


class Killed(BaseException):
    """The end of a process."""


def test_whoever_dies_anywhere_loses_nothing() -> None:
    """Killed before or after any call to the store or the forge: the next pass ends where an undisturbed one would."""
    deaths = 0
    while _ends_well_though_killed_at(deaths):
        deaths += 1
    assert deaths >= 14


def _ends_well_though_killed_at(deadly: int) -> bool:
    """Whether there was a call of that number at all."""
    ci = Ci()
    ci.push(yaml(1))
    ci.work()
    ci.deliver(ci.push(yaml(2)))
    calls = itertools.count()

    def die(_what: str) -> None:
        if next(calls) == deadly:
            raise Killed

    runtime, died = ci.world.runtime, False
    ci.world.runtime = replace(
        runtime, store=_dying(runtime.store, die), forges={HookKind.GITHUB: _dying(ci.forge, die)}
    )
    try:
        ci.work()
    except Killed:
        died = True
    ci.world.runtime = runtime
    ci.work(times=2, every_s=POLL_EVERY_S)
    assert ci.versions() == [yaml(1), yaml(2)]
    overtaken = "version 1 of svc was overtaken before it served"  # said once, unless who would say it is killed
    assert {message for _, _, _, message in ci.forge.repositories.statuses} - {overtaken} == {
        "version 1 of svc is being rolled out",
        "version 2 of svc is being rolled out",
    }
    return died


def _dying(port: object, die: Callable[[str], None]) -> Any:
    return Interposed(port, die)


@pytest.mark.parametrize(
    "moment", ["before head", "after head", "after file", "before add_version", "after add_version"]
)
def test_of_two_passes_the_newer_head_stays(moment: str) -> None:
    """A push that is delivered and deployed while another pass is at any point of its work is not undone by that one."""
    ci = Ci()
    ci.push(yaml(1))
    ci.work()
    ci.deliver(ci.push(yaml(2)))
    runtime = ci.world.runtime
    happened: list[str] = []

    def overtake(what: str) -> None:
        if what == moment and not happened:
            happened.append(what)
            ci.deliver(ci.push(yaml(3)))
            passes.deploy_pushes(runtime)

    ci.world.runtime = replace(
        runtime, store=_dying(runtime.store, overtake), forges={HookKind.GITHUB: _dying(ci.forge, overtake)}
    )
    passes.deploy_pushes(ci.world.runtime)
    ci.world.runtime = runtime
    assert happened
    assert ci.replicas_wanted() == 3
    ci.work(times=2, every_s=POLL_EVERY_S)
    assert ci.replicas_wanted() == 3


@pytest.mark.parametrize("error", [Conflict("moved on"), Exists("taken"), Unreachable("down")])
def test_a_store_that_refuses_is_tried_again(error: Exception) -> None:
    """What is reported says whether somebody was in the way or nobody answered; the next pass does it."""
    ci = Ci()
    ci.push(yaml())

    def refuse(what: str) -> None:
        if what in ("before create_service", "before commit"):
            raise error

    runtime = ci.world.runtime
    (report,) = passes.deploy_pushes(replace(runtime, store=_dying(runtime.store, refuse)))
    assert report.is_held_up is not isinstance(error, Unreachable)
    assert bool(report.failures) is isinstance(error, Unreachable)
    ci.work()
    assert ci.versions() == [yaml()]


def test_a_store_that_does_not_answer_at_all_is_a_failure() -> None:
    """Of the deployment as a whole."""
    ci = Ci()

    def refuse(_what: str) -> None:
        raise Unreachable("down")

    (report,) = passes.deploy_pushes(replace(ci.world.runtime, store=_dying(ci.store, refuse)))
    assert (report.service, report.failures) == ("", ("Unreachable: down",))


def test_a_hook_that_meets_a_defect_stops_no_other() -> None:
    """Its own report says what happened, as that of a service does whose pass meets one; the next hook's head is deployed."""
    ci = Ci()
    odd = replace(ci.hook, id="0000000000", service="odd", kind=HookKind.GITLAB, version=0)  # a forge there is not
    ci.store.create_hook(odd)
    ci.push(yaml())
    failed, good = passes.deploy_pushes(ci.world.runtime)
    assert (failed.service, good.service, good.failures) == ("odd", "svc", ())
    assert "KeyError" in failed.failures[0]
    assert ci.versions() == [yaml()]
