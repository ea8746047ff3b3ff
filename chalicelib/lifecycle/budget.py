"""What does a service cost, what has it cost this month, and what may therefore not be launched or stay? Pure.

A machine counts from the intent to launch it until it is seen gone, at the price it was booked at: rather too much than too
little. Disks, addresses and traffic are not counted. A month is a calendar month in UTC, as on the clouds' bills.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from chalicelib.actions import Launch, SaveService
from chalicelib.model import BudgetSpec, Offer, Reason, Replica, ReplicaStatus, Service, Spend, State

# A launch has to be affordable for this long, beside all that runs: a machine takes minutes to serve. It also keeps a service
# that was shut down from coming back on what was left over.
_WORTH_S = 3600.0
# From a decision to remove a machine to its end, the drain aside: one tick of EventBridge, and the cloud's time.
_REMOVAL_S = 120.0
_DAY_S = 86_400.0
# How a decision begins to say so, and what it says once a launch is held back no more.
HELD, HAS_ROOM = "held by the budget", "the budget has room again"
# What is gone when it is written down, or never came: the cloud does not bill it.
_NOT_BILLED = (Reason.PREEMPTED, Reason.LOST)
_NEVER_CAME = (Reason.NO_CAPACITY, Reason.QUOTA, Reason.LAUNCH_REFUSED)


def usd_per_hour(replicas: Iterable[Replica]) -> float:
    """What the machines of live replicas cost now. One that its cloud has taken without notice is not billed any more."""
    billed = (one for one in replicas if not (one.reason in _NOT_BILLED and one.instance_id))
    return sum(replica.offer.price_usd_per_hour for replica in billed)


def usd_this_month(service: Service, replicas: Iterable[Replica], now: float) -> float:
    """What machines gone and alive (`replicas`) have cost since the month began in which `now` lies."""
    return _spend(service, now).usd + sum(_cost(replica, now) for replica in replicas)


def usd_ever(service: Service, replicas: Iterable[Replica], now: float) -> float:
    """What machines gone and alive (`replicas`) have cost since the service was created."""
    return service.spend.usd_ever + sum(usd_of_life(replica, now) for replica in replicas)


def usd_forecast(service: Service, replicas: Sequence[Replica], now: float) -> float:
    """What the whole month will have cost if what runs now runs on until its end."""
    return usd_this_month(service, replicas, now) + usd_per_hour(replicas) * _left_of_month_s(now) / 3600


def usd_of_life(replica: Replica, now: float) -> float:
    """What one replica's machine has cost up to `now`."""
    return replica.offer.price_usd_per_hour * max(0.0, now - replica.created_at) / 3600


def settled(state: State, written: Service | None, replicas: Iterable[Replica], now: float) -> Service | None:
    """The service to write in a transaction that writes `replicas`, the ended ones and their cost added; None when there is none.

    `written` is the service that was to be written anyhow: decided before, perhaps, another replica of the same pass ended.
    """
    ended = [one for one in replicas if one.status is ReplicaStatus.TERMINATED and one.reason not in _NEVER_CAME]
    if not ended:
        return None if written is None else replace(written, spend=state.service.spend, ended=state.service.ended)
    spend = _spend(state.service, now)
    spend = replace(
        spend,
        usd=spend.usd + sum(_cost(replica, now) for replica in ended),
        usd_ever=spend.usd_ever + sum(usd_of_life(replica, now) for replica in ended),
    )
    counts = Counter(dict(state.service.ended)) + Counter(one.reason for one in ended if one.reason)
    return replace(written or state.service, spend=spend, ended=tuple(sorted(counts.items())))


def affordable(state: State, launches: Sequence[Launch], now: float) -> tuple[list[Launch | SaveService], str]:
    """The launches that the budget has room for, and why not all of them.

    Those asked again stay: their machines may be there, and are counted. That a launch is held back, or is not any more, is
    written on the service once, so that there is an event of it.
    """
    service, kept, why = state.service, [each for each in launches if each.replica.version], ""
    counted = list(state.replicas)
    new = [each for each in launches if not each.replica.version]
    for launch in new:
        refused = _refused(service, counted, launch.replica.offer, now)
        if refused:
            why = why or f"{HELD}: {refused}"
        else:
            kept.append(launch)
            counted.append(launch.replica)
    if new and bool(why) != service.held_by_budget:
        told = why or HAS_ROOM
        return [SaveService(replace(service, held_by_budget=bool(why)), told), *kept], why
    return [*kept], why


def within(state: State, now: float) -> Service:
    """The service as its budget lets it be wanted: none of it once the month's money is spent and it is to be shut down then.

    As early as that what the machines cost while they are drained and removed is still within the budget.
    """
    service, limit = state.service, state.service.spec.budget
    leaves_s = _REMOVAL_S + service.spec.drain_timeout_s
    left = _left(service, state.replicas, now, leaves_s)
    if not limit.shut_down or left is None or left >= 0:
        return service
    return replace(service, scaler=replace(service.scaler, target=0))


def too_dear(budget: BudgetSpec, offer: Offer) -> str:
    """Why not even one machine fits the budget, or empty."""
    limit = budget.max_usd_per_hour
    if limit is None or offer.price_usd_per_hour <= limit:
        return ""
    return (
        f"service.budget.max_usd_per_hour is ${limit:g}, and the first choice costs ${offer.price_usd_per_hour:.4g} an hour: "
        f"nothing could ever be launched. Raise the budget, or leave such machines out with resources.max_hourly_cost"
    )


def described(state: State, now: float) -> str:
    """What is spent of what, for a service's message; empty without a budget."""
    budget, parts = state.service.spec.budget, []
    if budget.max_usd_per_hour is not None:
        parts.append(f"${usd_per_hour(state.replicas):.2f} of ${budget.max_usd_per_hour:.2f} an hour")
    if budget.max_usd_per_month is not None:
        spent = usd_this_month(state.service, state.replicas, now)
        parts.append(f"${spent:.2f} of ${budget.max_usd_per_month:.2f} this month")
    held = ", which held the last launch back" if state.service.held_by_budget else ""
    return f"budget: {' and '.join(parts)}{held}" if parts else ""


def _refused(service: Service, replicas: Sequence[Replica], offer: Offer, now: float) -> str:
    limit, hourly = service.spec.budget, usd_per_hour(replicas) + offer.price_usd_per_hour
    if limit.max_usd_per_hour is not None and hourly > limit.max_usd_per_hour:
        return f"one more at ${offer.price_usd_per_hour:.4g} would make it ${hourly:.4g} of ${limit.max_usd_per_hour:g} an hour"
    left = _left(service, replicas, now, _WORTH_S)
    if left is not None and offer.price_usd_per_hour * _until(now, _WORTH_S) / 3600 > left:
        spent = usd_this_month(service, replicas, now)
        return f"${spent:.2f} of ${limit.max_usd_per_month:.2f} are spent this month, which leaves less than an hour of one more"
    return ""


def _left(service: Service, replicas: Sequence[Replica], now: float, ahead_s: float) -> float | None:
    """USD of the month's budget beyond what `replicas` will have cost in `ahead_s`; None without such a budget."""
    limit = service.spec.budget.max_usd_per_month
    if limit is None:
        return None
    committed = usd_per_hour(replicas) * _until(now, ahead_s) / 3600
    return limit - usd_this_month(service, replicas, now) - committed


def _until(now: float, ahead_s: float) -> float:
    """Seconds of `ahead_s` that still belong to the month."""
    return min(ahead_s, _left_of_month_s(now))


def _left_of_month_s(now: float) -> float:
    return month_at(month_at(now) + 32 * _DAY_S) - now


def _spend(service: Service, now: float) -> Spend:
    began = month_at(now)
    spend = service.spend
    return spend if spend.month_at == began else Spend(began, usd_ever=spend.usd_ever)


def _cost(replica: Replica, now: float) -> float:
    """USD of one replica's life within the month of `now`."""
    return replica.offer.price_usd_per_hour * max(0.0, now - max(replica.created_at, month_at(now))) / 3600


def month_at(now: float) -> float:
    """When the month of `now` began, UTC, in epoch seconds.

    The day of the month is counted in years that begin in March, so that the leap day is their last
    (https://howardhinnant.github.io/date_algorithms.html#civil_from_days).
    """
    day = math.floor(now / _DAY_S)
    of_era = (day + 719_468) % 146_097  # eras of 400 years, the first of which began on 0000-03-01
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    return (day - (of_year - (153 * month + 2) // 5)) * _DAY_S
