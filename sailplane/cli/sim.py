"""`sailplane sim`: the shipped decisions on recorded or generated markets and traffic, in virtual time. Needs no server."""

from __future__ import annotations

import functools
import math
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar

import click
from pydantic import AwareDatetime, BaseModel, ValidationError

from chalicelib import spec
from chalicelib.errors import Invalid
from chalicelib.lifecycle import budget
from chalicelib.model import Event, Offer, ServiceSpec
from sailplane.cli import inputs, output, prices
from sailplane.cli.exits import Exit
from sailplane.cli.output import Output
from sailplane.cli.services import local_time
from sailplane.sim import (
    bound,
    compare,
    extra,
    generated,
    market_files,
    plot,
    policies,
    recorded,
    report,
    tables,
    traffic_files,
)
from sailplane.sim.bound import Bound
from sailplane.sim.compare import Outcome
from sailplane.sim.market_files import Loaded, Missing
from sailplane.sim.scenario import START, ColdStart, Scenario
from sailplane.sim.traffic import Traffic

_R = TypeVar("_R")
_GENERATED = "generated"
_DAYS = 7.0
_BAR = 20  # characters of a progress bar, each of them a twentieth
_SETUP_S = click.FloatRange(0, generated.DAY_S)
_ABOVE_0 = click.FloatRange(0, min_open=True)
# Ten years: a generated market is held in memory, 4 million steps then, which take 3 s to draw.
_LONGEST_DAYS = 3653
_WORTH_COMPARING = ("spothedge", "round_robin_fallback")
_POLICIES = "\n".join(f"  {name.ljust(20)}  {what}" for name, (what, _) in policies.POLICIES.items())


@click.group("sim")
def command() -> None:
    """Simulate a service: what Sailplane would decide, what that would cost, and what its requests would meet."""


def _not_nan(_ctx: click.Context, _parameter: click.Parameter, days: float | None) -> float | None:
    """Every comparison with it is False, so it lies within any range."""
    if days is not None and math.isnan(days):
        raise click.BadParameter("nan is no number of days")
    return days


def _each_once(_ctx: click.Context, _parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in (name for name in names if names.count(name) > 1):
        raise click.BadParameter(f"{name} is named twice; a policy is compared with others")
    return names


def _in_order(_ctx: click.Context, _parameter: click.Parameter, bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] <= bounds[1]:  # nor is nan
        raise click.BadParameter("the first may not be above the second")
    return bounds


def _market_options(wrapped: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command the arguments `market`, `days` and `seed`."""

    @click.option("--market", metavar=f"DIR|{_GENERATED}", default=_GENERATED, show_default=True, help="Spot traces.")
    @click.option("--machine", metavar="CLOUD/ZONE/TYPE", help="What the traces are of, where they do not say it.")
    @click.option("--on-demand-usd", type=_ABOVE_0, help="Price per hour, where the traces hold none.")
    @click.option("--spot-usd", type=_ABOVE_0, help="Price per hour, where the traces hold none.")
    @click.option(
        "--days",
        type=click.FloatRange(0, _LONGEST_DAYS, min_open=True),
        callback=_not_nan,
        help=f"How long. [default: the traces' length, {_DAYS:g} if generated]",
    )
    @click.option("--seed", type=int, default=0, show_default=True, help="The same seed has the same history.")
    @prices.needed
    @functools.wraps(wrapped)
    def with_market(
        *args: Any,
        market: str,
        machine: str | None,
        on_demand_usd: float | None,
        spot_usd: float | None,
        days: float | None,
        seed: int,
        **others: Any,
    ) -> _R:
        missing = _missing(machine, on_demand_usd, spot_usd)
        if market == _GENERATED:
            _refuse_unread(machine, on_demand_usd, spot_usd)
            loaded = Loaded(generated.market(seed, days or _DAYS), ())
        else:
            loaded = market_files.load(Path(market), _price_list(), missing)
        longest = loaded.market.duration_s / generated.DAY_S
        if days and days > longest + 1e-6:
            raise click.BadParameter(f"{loaded.market.name} lasts {longest:.2f} days", param_hint="--days")
        return wrapped(*args, loaded=loaded, until_s=(days or longest) * generated.DAY_S, seed=seed, **others)

    return with_market


@command.command(
    short_help="Run a service on a market, once with each policy.",
    epilog=f"\b\nPolicies:\n{_POLICIES}\n\n"
    "\b\nExample, three days on a market of our own making:\n"
    "  sailplane sim run service.yaml --days 3 --policy spothedge --policy round_robin_fallback --bound",
)
@inputs.service_file
@_market_options
@click.option("--traffic", metavar=f"FILE|{_GENERATED}", help="Requests, or their rates. [default: none]")
@click.option("--traffic-scale", type=_ABOVE_0, help="Multiplies the rate of --traffic. [default: 1]")
@click.option(
    "--policy",
    "names",
    metavar="NAME",
    multiple=True,
    type=click.Choice(list(policies.POLICIES)),
    callback=_each_once,
    default=("as_written",),
    show_default=True,
    help="How machines are bought; may be repeated. Others are compared with the first.",
)
@click.option(
    "--setup-seconds",
    "setup_s",
    type=(_SETUP_S, _SETUP_S),
    metavar="MIN MAX",
    callback=_in_order,
    default=ColdStart().setup_s,
    show_default=True,
    help="How long an engine takes to be ready on a machine that has booted.",
)
@click.option("--bound", "with_bound", is_flag=True, help="Tell the least that anybody could have paid in hindsight.")
@click.option("--plot", "picture", metavar="OUT.png", type=click.Path(path_type=Path), help="Draw the runs.")
@output.options
def run(
    out: Output,
    *,
    text: str,
    envs: dict[str, str],
    loaded: Loaded,
    until_s: float,
    seed: int,
    traffic: str | None,
    traffic_scale: float | None,
    names: tuple[str, ...],
    setup_s: tuple[float, float],
    with_bound: bool,
    picture: Path | None,
) -> None:
    """Run the service in FILE on a market, once with each policy, and compare them.

    The market's machines stand for whatever FILE asks for; everything else is as FILE says. Nothing is started anywhere.
    Traces of markets and traffic in several public formats are read as they are, see docs/simulator.md.
    """
    if traffic_scale and not traffic:
        raise click.UsageError(
            "--traffic-scale is of traffic, and there is none. Add --traffic FILE or --traffic generated."
        )
    if len(names) > 1:
        extra.check("scipy", "A comparison")
    if picture:
        extra.check("matplotlib", "A plot")
        plot.check(picture)
    market = loaded.market
    written = policies.on(market, spec.parse(text, env_overrides=envs, known_accelerators=_accelerators()).spec)
    wanted = {name: policies.POLICIES[name][1](written) for name in names}
    requests = _traffic(traffic, seed, traffic_scale or 1.0, until_s)
    is_hasty = _tell_haste(out, written, setup_s)
    scenario = Scenario(written, market, requests, seed, cold_start=ColdStart(setup_s=setup_s))
    least = _bound(scenario, until_s) if with_bound else None
    outcomes = _simulated(out, scenario, wanted, until_s)
    reports = [
        report.report(policy, outcome.history, market.on_demand_usd_per_hour, outcome.fates)
        for policy, outcome in outcomes.items()
    ]
    differences = tables.differences(reports)
    title = (
        f"{market.name}: {until_s / generated.DAY_S:.3g} days, {len(market.zones)} zones, seed {seed}, "
        f"{market.instance_type} at ${market.on_demand_usd_per_hour:g}/h on demand"
    )
    out.data("\n".join([title, *(f"  {note}" for note in loaded.notes), ""]))
    out.table(tables.HEADING, [tables.row(one) for one in reports], tables.FLUSH_RIGHT)
    if requests:
        out.data("")
        out.table(tables.HEADING_OF_REQUESTS, [tables.row_of_requests(one) for one in reports], tables.FLUSH_RIGHT)
    out.data("\n".join(["", *map(tables.sentence, differences)]))
    _tell_held(out, outcomes, until_s)
    if least:
        out.data(f"In hindsight nobody could have paid less than ${least.usd:,.2f} and met the target all the time.")
    if picture:
        plot.save(picture, market, {policy: outcome.history.steps for policy, outcome in outcomes.items()}, until_s)
        out.message(f"Drawn into {picture}.")
    out.document(
        {
            "market": market.name,
            "notes": loaded.notes,
            "traffic": requests.name if requests else None,
            "seed": seed,
            "days": until_s / generated.DAY_S,
            "policies": [asdict(one) for one in reports],
            "violations": {policy: outcome.history.violations for policy, outcome in outcomes.items()},
            "differences": [asdict(one) for one in differences],
            "bound": asdict(least) if least else None,
        }
    )
    _tell_violations(out, outcomes, is_hasty=is_hasty)
    others = " ".join(f"--policy {name}" for name in dict.fromkeys((*names, *_WORTH_COMPARING)))
    out.next(shlex.join(["sailplane", "plan", out.source]) if len(names) > 1 else f"the same with {others}")


def _simulated(
    out: Output, scenario: Scenario, wanted: Mapping[str, ServiceSpec], until_s: float
) -> dict[str, Outcome]:
    """On all cores, with a bar for each policy."""
    told = dict.fromkeys(wanted, 0.0)
    with out.progress(_bars(told)) as show:

        def progress(policy: str, t: float) -> None:
            told[policy] = t / until_s
            show(_bars(told))

        return compare.run_all(scenario, wanted, until_s, processes=os.cpu_count() or 1, progress=progress)


@command.command(short_help="Make a service's recorded decisions again.")
@click.argument("events_file", metavar="EVENTS", type=click.File(encoding="utf-8"))
@inputs.service_file
@click.option("--on-demand-usd", type=_ABOVE_0, help="Price per hour, where no machine was bought on demand.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed has the same history.")
@prices.needed
@output.options
def replay(
    out: Output,
    *,
    events_file: IO[str],
    text: str,
    envs: dict[str, str],
    on_demand_usd: float | None,
    seed: int,
) -> None:
    """Make the decisions of a service again: on the market that EVENTS tell of, with the service file FILE.

    EVENTS is what `sailplane events NAME --json --limit 1000` printed. Change FILE to see what other settings would have led
    to. Zones that were never asked are not known, so none of them is used.
    """
    events = _events(events_file)
    recording = recorded.read(events, on_demand_usd)
    written = policies.on(
        recording.market, spec.parse(text, env_overrides=envs, known_accelerators=_accelerators()).spec
    )
    scenario = Scenario(written, recording.market, None, seed, cold_start=recording.cold_start)
    history = compare.run(scenario, recording.until_s).history
    again = [replace(event, at=event.at - START + recording.start) for event in history.events]
    out.data("\n".join(f"{local_time(_instant(event))}  {event.kind:<22}  {event.message}" for event in again))
    kinds = sorted({event.kind for event in (*events, *again)})
    counts = {kind: [sum(event.kind == kind for event in found) for found in (events, again)] for kind in kinds}
    out.data("")
    out.table(
        ("KIND", "RECORDED", "REPLAYED"),
        [(kind, *map(str, pair)) for kind, pair in counts.items()],
        ("RECORDED", "REPLAYED"),
    )
    shown = report.report("replayed", history, recording.market.on_demand_usd_per_hour, None)
    out.data("")
    out.table(tables.HEADING, [tables.row(shown)], tables.FLUSH_RIGHT)
    out.document(
        {
            "events": [{**asdict(event), "at": _instant(event).isoformat()} for event in again],
            "counts": {kind: {"recorded": pair[0], "replayed": pair[1]} for kind, pair in counts.items()},
            "report": asdict(shown),
        }
    )
    out.next(f"change {out.source} and replay again", shlex.join(["sailplane", "plan", out.source]))


def _tell_held(out: Output, outcomes: Mapping[str, Outcome], until_s: float) -> None:
    """For how long a budget kept launches back, and which part of it did first: a table cannot tell that from a full market."""
    for policy, outcome in outcomes.items():
        turns = [event for event in outcome.history.events if event.message.startswith((budget.HELD, budget.HAS_ROOM))]
        ends = [*(event.at for event in turns[1:]), START + until_s]
        held = [(end - turn.at, turn) for turn, end in zip(turns, ends, strict=False) if budget.HELD in turn.message]
        if held:
            hours = sum(length_s for length_s, _ in held) / 3600
            out.data(f"{policy} lacked replicas for {hours:.1f} of {until_s / 3600:.1f} h, {held[0][1].message}.")


def _tell_haste(out: Output, written: ServiceSpec, setup_s: tuple[float, float]) -> bool:
    """Whether the file waits for no engine that takes its time; said before a run that is mostly about that."""
    delay_s = written.probe.initial_delay_s
    is_hasty = delay_s < setup_s[1]
    if is_hasty:
        out.message(
            f"initial_delay_seconds is {delay_s:g}, and engines are simulated to take {setup_s[0]:g}-{setup_s[1]:g} s: those "
            "that take longer are replaced again and again. Raise it, or say what yours take with --setup-seconds MIN MAX."
        )
    return is_hasty


def _tell_violations(out: Output, outcomes: Mapping[str, Outcome], *, is_hasty: bool) -> None:
    """What the judges saw, of each kind the first. Ends the command as failed if they saw anything."""
    found = [line for policy, outcome in outcomes.items() for line in _firsts(policy, outcome.history.violations)]
    if found:
        cause = "comes of the short initial_delay_seconds or " if is_hasty else ""
        out.message("\n".join([f"These break a rule of Sailplane's own, which {cause}is a defect of it:", *found]))
        raise click.exceptions.Exit(Exit.FAILURE)


def _firsts(policy: str, violations: Sequence[str]) -> list[str]:
    """One line for those that differ in figures and names with figures only."""
    alike: dict[str, list[str]] = {}
    for text in violations:
        alike.setdefault(re.sub(r"\S*\d\S*", "", text), []).append(text)
    more = {first: len(others) for first, *others in alike.values()}
    return [f"{policy}: {first}{f' (and {count} more like it)' if count else ''}" for first, count in more.items()]


class _ExportedEvent(BaseModel):
    at: AwareDatetime
    kind: str
    message: str
    replica: str


class _Exported(BaseModel):
    """What of `sailplane events NAME --json` is needed here; `replay --json` prints it too."""

    events: tuple[_ExportedEvent, ...]


def _events(file: IO[str]) -> list[Event]:
    try:
        exported = _Exported.model_validate_json(file.read())
    except UnicodeDecodeError as error:  # of which the repr holds the whole file
        raise Invalid(f"{file.name}: not text ({error}). Export the events again.") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
        told = ": ".join(filter(None, (where.lstrip("."), first["msg"])))
        raise Invalid(
            f"{file.name}: not what `sailplane events NAME --json` prints ({told}). Export the events again."
        ) from error
    return [Event(one.at.timestamp(), one.kind, one.message, one.replica) for one in exported.events]


def _instant(event: Event) -> datetime:
    return datetime.fromtimestamp(event.at, UTC)


def _refuse_unread(machine: str | None, on_demand_usd: float | None, spot_usd: float | None) -> None:
    """A generated market has machines and prices of its own."""
    given = {"--machine": machine, "--on-demand-usd": on_demand_usd, "--spot-usd": spot_usd}
    for option in (option for option, value in given.items() if value is not None):
        raise click.BadParameter("is of recorded traces. Add --market DIR, or leave it out", param_hint=option)


def _missing(machine: str | None, on_demand_usd: float | None, spot_usd: float | None) -> Missing:
    provider, zone, instance_type = "", "", ""
    if machine:
        try:
            provider, zone, instance_type = machine.split("/")
        except ValueError as error:
            message = f"{machine!r} is not CLOUD/ZONE/TYPE, such as aws/us-east-1a/p3.2xlarge"
            raise click.BadParameter(message, param_hint="--machine") from error
    return Missing(provider, instance_type, zone, on_demand_usd, spot_usd)


def _price_list() -> Callable[[str, str], Sequence[Offer]]:
    used = prices.current()
    return lambda cloud, instance_type: [
        offer for offer in used.offers([cloud]) if offer.instance_type == instance_type
    ]


def _accelerators() -> tuple[str, ...]:
    return prices.current().accelerators()


def _traffic(source: str | None, seed: int, scale: float, until_s: float) -> Traffic | None:
    if source is None:
        return None
    if source == _GENERATED:
        return generated.traffic(seed, until_s / generated.DAY_S, generated.MEAN_QPS * scale)
    return traffic_files.load(Path(source), seed=seed, scale=scale, until_s=until_s)


def _bound(scenario: Scenario, until_s: float) -> Bound:
    scaling, cold = scenario.spec.scaling, scenario.cold_start
    if scaling.min_replicas != scaling.max_replicas:
        raise Invalid("--bound is of a fixed number of replicas; the service's file has a range.")
    shortest_s = cold.boot_s[0] + cold.setup_s[0]
    return bound.offline(scenario.market, scaling.min_replicas, until_s, shortest_s)


def _bars(done: Mapping[str, float]) -> str:
    width = max(map(len, done))
    return "\n".join(
        f"{name.ljust(width)}  {('=' * int(share * _BAR)).ljust(_BAR, '.')} {int(share * _BAR) * 100 // _BAR:3d} %"
        for name, share in done.items()
    )
