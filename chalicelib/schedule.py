"""The schedule is on while there is anything to wake for, and off when there is not, or the bill is not zero.

It is turned on before a service is written and off when none is there, and never both at once: who does either holds the
schedule's lease. So whoever dies, between any two lines, leaves at worst a schedule that is on for nothing, which the next
tick turns off. The other way round, on after the write, a creator that dies in between leaves a service that nobody wakes
for, and one that is overtaken by a tick that had read "no service" just before leaves the same
(docs/adr/0022-zero-idle-and-cadence.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from chalicelib.errors import LeaseHeld, Unreachable
from chalicelib.hooks import following
from chalicelib.model import Event, InstanceStatus, Lease, Observed
from chalicelib.ports import Commit, Runtime

# No service can have this name: its lease and its events are the schedule's.
NAME = "*schedule*"
# A function lives 60 s at most, so nobody who took the lease acts after this. The rest is for clocks that differ.
_HELD_S = 90.0
_HEARD_S = 60.0  # the same, of a tick's own lists
# Longer than a cloud is away, and what waiting for it costs, with nothing deployed: a cent (1,440 ticks and a queue that is
# asked). Credentials that have expired would keep the schedule on for ever, at $0.40 a month.
_SILENCE_S = 86_400.0
# Somebody else's service is being written, which takes half a second.
_TURNS = 20
_PAUSE_S = 0.25

_ON, _IDLE, _OFF = "schedule.on", "schedule.idle", "schedule.off"
_BUSY = "schedule.busy"  # its data: the clouds that have machines of ours, as far as they said last
_INTAKE = "schedule.intake."
_CLOSED, _OPENED = f"{_INTAKE}closed", f"{_INTAKE}opened"
# The mark ends by itself, so that a laptop that dies at it leaves nothing to mend. Whoever takes a control plane out renews it
# before the stack goes, which takes minutes.
CLOSED_S = 3600.0


@contextmanager
def kept_on(runtime: Runtime, why: str, pause: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """The schedule is on before the body writes what is to be woken for, and nobody turns it off meanwhile.

    Raises:
        LeaseHeld: others wrote all the while, or one died at it less than 90 s ago, or it is closed. Nothing was done.
        Unreachable: the schedule could not be turned on. The body was not run.
    """
    if runtime.schedule is None:
        yield
        return
    lease = _patiently(runtime, pause)
    try:
        _require_open(runtime)
        runtime.schedule.on()
        _note(runtime, _ON, why)
        yield
    finally:
        _released(runtime, lease)


@contextmanager
def kept_on_for_a_push(runtime: Runtime, pause: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """The same for a push, which no forge sends again: it is written down in any case, and acted on once that is possible.

    Closed or not is asked of the service that it makes. Who holds the lease all the while is at turning the schedule on, or has
    died. Where there is a service the schedule is on, and a delivery has to be answered soon; one that has just gone is no
    matter: the schedule stays on for a minute after the last, see `rest`.

    Raises `Unreachable` when the schedule could not be turned on. The body was not run.
    """
    if runtime.schedule is None or runtime.store.service_names():
        yield
        return
    try:
        lease = _patiently(runtime, pause)
    except LeaseHeld:
        lease = None
    try:
        runtime.schedule.on()
        _note(runtime, _ON, "a push was delivered")
        yield
    finally:
        if lease:
            _released(runtime, lease)


def close(runtime: Runtime, by: str = "", pause: Callable[[float], None] = time.sleep) -> float:
    """Have no service made from now on, by whomever: the control plane is to go. Until when, if nobody says so again.

    What was being written has been written when this returns: a list of services that is read then lacks none. `by` tells
    those apart who close it at one time, as two laptops may.
    """
    _mark(runtime, _CLOSED, "the control plane is to be taken out of its account", by, pause)
    return runtime.clock.now() + CLOSED_S


def reopen(runtime: Runtime, by: str = "", pause: Callable[[float], None] = time.sleep) -> None:
    """Have services made again, as far as `by` is concerned; by nobody in particular: whoever closed it."""
    _mark(runtime, _OPENED, "the control plane stays", by, pause)


def _mark(runtime: Runtime, kind: str, why: str, by: str, pause: Callable[[float], None]) -> None:
    lease = _patiently(runtime, pause)
    try:
        _note(runtime, kind, why, {"by": by})
    finally:
        _released(runtime, lease)


def _require_open(runtime: Runtime) -> None:
    closed: dict[str, float] = {}
    for mark in runtime.store.events(NAME, after=runtime.clock.now() - CLOSED_S, kind=_INTAKE):
        by = mark.data.get("by", "")
        if mark.kind == _CLOSED:
            closed[by] = mark.at
        else:
            closed = {other: at for other, at in closed.items() if by not in ("", other)}
    if closed:
        until = datetime.fromtimestamp(max(closed.values()) + CLOSED_S, UTC)
        raise LeaseHeld(
            "This control plane is being taken out of its account (`sailplane teardown`) and makes no service any more. If it "
            f"stays after all, it does again at {until:%H:%M} UTC."
        )


def rest(runtime: Runtime, names: Collection[str], observed: Observed) -> str:
    """Turn the schedule off if a tick found nothing to wake for, again and again; what went wrong, in words, or empty.

    Not before every cloud has said for a while that it has no machine of ours: one that was asked for may show late, and
    without a tick nobody would ever remove it. A cloud that says nothing for a day is not waited for any longer: a service
    goes only when its machines have been seen to be gone, so there is hardly one left, and the last note says where to look.
    Only if the last that it said is that there is one, it is waited for however long.
    """
    if runtime.schedule is None or names:
        return ""
    try:
        lease = _acquired(runtime)
    except LeaseHeld:
        return ""  # a service is being written
    try:
        if not (runtime.store.service_names() or pushes_wait(runtime)):
            _rest_awhile(runtime, observed)
    except Unreachable as error:
        return f"the schedule stays on: {error}"
    finally:
        _released(runtime, lease)
    return ""


def pushes_wait(runtime: Runtime) -> bool:
    """Whether some push is still to be acted on, or its outcome to be told. Raises `Unreachable`."""
    return any(map(following.is_waiting, runtime.store.hooks()))


def _rest_awhile(runtime: Runtime, observed: Observed) -> None:
    heard = _heard(runtime, observed)
    silent = sorted(set(runtime.providers) - heard)
    before = _noted_busy(runtime)
    busy = _with_machines(heard, observed) | {name for name in silent if before and name in before.data}
    if busy:
        _note_busy(runtime, busy, silent, before)
        return
    latest = runtime.store.events(NAME, limit=1)
    now = runtime.clock.now()
    if not latest or latest[0].kind not in (_IDLE, _OFF):
        unsure = f"; {' and '.join(silent)} cannot be asked for machines" if silent else ""
        _note(runtime, _IDLE, f"no service and no machine is left{unsure}")
        return
    quiet_s = max(observed.listing_lag_s.values(), default=0.0) + runtime.settings.limits.orphan_grace_s
    if silent:
        quiet_s = max(quiet_s, _SILENCE_S)
    if runtime.schedule and (now - latest[0].at >= quiet_s or latest[0].kind == _OFF):
        runtime.schedule.off()
        unproven = (
            f"; {' and '.join(silent)} could not be asked for machines all the while: mend the credentials, then look with "
            "`sailplane doctor`"
        )
        _note(runtime, _OFF, f"nothing to wake for since {now - latest[0].at:.0f} s{unproven if silent else ''}")


def _noted_busy(runtime: Runtime) -> Event | None:
    """The last note that clouds have machines, unless all of them have said since that they have none."""
    busy = runtime.store.events(NAME, limit=1, kind=_BUSY)
    idle = runtime.store.events(NAME, limit=1, kind=_IDLE)
    return busy[0] if busy and not (idle and idle[0].at > busy[0].at) else None


def _note_busy(runtime: Runtime, busy: Collection[str], silent: Collection[str], before: Event | None) -> None:
    """Once a day, and when it is others. Events are kept for seven."""
    if before and before.data.keys() == busy and runtime.clock.now() - before.at < _SILENCE_S:
        return
    has = {name: "the last that {} said is that it has" if name in silent else "{} has" for name in sorted(busy)}
    why = " and ".join(words.format(name) for name, words in has.items())
    advice = "; mend the credentials, then look with `sailplane doctor`" if set(silent) & set(busy) else ""
    _note(runtime, _BUSY, f"no service is left, but {why} machines of ours{advice}", dict.fromkeys(has, "machines"))


def _with_machines(heard: Collection[str], observed: Observed) -> set[str]:
    """The clouds that have machines of ours."""
    return {name for name in heard if any(one.status is not InstanceStatus.GONE for one in observed.instances[name])}


def _heard(runtime: Runtime, observed: Observed) -> set[str]:
    """The clouds that were heard in this tick. A function that was frozen for an hour takes a list along that is as old."""
    now = runtime.clock.now()
    return {name for name, at in observed.listed_at.items() if now - at <= _HEARD_S}


def _patiently(runtime: Runtime, pause: Callable[[float], None]) -> Lease:
    for _ in range(_TURNS - 1):
        try:
            return _acquired(runtime)
        except LeaseHeld:
            pause(_PAUSE_S)
    try:
        return _acquired(runtime)
    except LeaseHeld as held:
        raise LeaseHeld(
            f"Another service is being created, or was when its function died. Try again; after {_HELD_S:g} s that is forgotten."
        ) from held


def _acquired(runtime: Runtime) -> Lease:
    owner = f"{runtime.settings.deployment}-{runtime.ids.token(4)}"
    return runtime.store.acquire_lease(NAME, owner, _HELD_S, runtime.clock.now())


def _released(runtime: Runtime, lease: Lease) -> None:
    with suppress(Unreachable):  # it expires by itself
        runtime.store.release_lease(lease)


def _note(runtime: Runtime, kind: str, why: str, data: Mapping[str, str] | None = None) -> None:
    runtime.store.commit(NAME, None, Commit(events=(Event(runtime.clock.now(), kind, why, data=data or {}),)))
