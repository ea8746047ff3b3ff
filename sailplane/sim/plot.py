"""A run as a picture: prices, replicas and availability over time, policy under policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chalicelib.errors import Invalid
from sailplane.sim import extra, report
from sailplane.sim.history import Step
from sailplane.sim.market import Market

if TYPE_CHECKING:  # the extra `sim` may not be installed
    from matplotlib.axes import Axes

_DAY_S = 86400.0


def check(path: Path) -> None:
    """Before a long run: raise `Invalid` where `save` could not draw into `path`, `MissingExtra` without matplotlib."""
    with extra.wanted_for("A plot"):
        from matplotlib.backend_bases import FigureCanvasBase  # noqa: PLC0415 - belongs to the extra
    if path.suffix.removeprefix(".").lower() not in FigureCanvasBase.get_supported_filetypes():
        raise Invalid(f"{path}: no format of pictures. Name a file that ends in .png, .svg or .pdf.")
    if path.is_dir():
        raise Invalid(f"{path}: is a directory. Name a file in it.")
    if not path.parent.is_dir():
        raise Invalid(f"{path}: there is no directory {path.parent}. Make it, or name a file in another.")


def save(path: Path, market: Market, runs: Mapping[str, Sequence[Step]], until_s: float) -> None:
    """Draw the runs of policies into `path`, of which the ending chooses the format.

    Raises `MissingExtra`, and `Invalid` when it cannot be written.
    """
    with extra.wanted_for("A plot"):
        from matplotlib.figure import Figure  # noqa: PLC0415 - belongs to the extra

    figure = Figure(figsize=(11, 2.2 * (len(runs) + 2)), layout="constrained")
    prices, *replicas, availability = figure.subplots(len(runs) + 2, 1, sharex=True)
    _draw_prices(prices, market, until_s)
    for axes, (policy, steps) in zip(replicas, runs.items(), strict=True):
        _draw_replicas(axes, policy, steps, until_s)
    for policy, steps in runs.items():
        _draw_availability(availability, policy, steps, until_s)
    availability.set(ylabel="available, %\nof each window", xlabel=f"days on {market.name}")
    _legend(availability)
    try:
        figure.savefig(path)
    except OSError as error:
        raise Invalid(f"{path}: cannot be written ({error.strerror}). Name another file.") from error


def _legend(axes: Axes) -> None:
    """Above the axes, where it hides nothing."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), fontsize="small", ncols=8, frameon=False)


def _draw_prices(axes: Axes, market: Market, until_s: float) -> None:
    """Of each zone while it has machines: a line that ends is a zone that gives none."""
    for zone in market.zones:
        times_s = [index * zone.step_s for index in range(int(until_s // zone.step_s) + 1)]
        usd = [zone.spot_usd_per_hour_at(t) if zone.capacity_at(t) else float("nan") for t in times_s]
        axes.step([t / _DAY_S for t in times_s], usd, where="post", linewidth=0.8, label=zone.location.zone)
    axes.axhline(market.on_demand_usd_per_hour, color="black", linestyle=":", linewidth=0.8, label="on demand")
    axes.set(ylabel="$ an hour", ylim=(0, None))
    _legend(axes)


def _draw_replicas(axes: Axes, policy: str, steps: Sequence[Step], until_s: float) -> None:
    def line(figure: Callable[[Step], int]) -> tuple[list[float], list[int]]:
        days = [*(step.t / _DAY_S for step in steps), until_s / _DAY_S]
        return days, [*(figure(step) for step in steps), figure(steps[-1])]

    days, spot = line(lambda step: step.spot_ready)
    _, ready = line(lambda step: step.ready)
    _, target = line(lambda step: step.target)
    axes.fill_between(days, spot, step="post", linewidth=0, color="tab:green", alpha=0.7, label="spot")
    axes.fill_between(days, spot, ready, step="post", linewidth=0, color="tab:blue", alpha=0.7, label="on demand")
    axes.step(days, target, where="post", color="black", linestyle=":", linewidth=0.8, label="target")
    axes.set(ylabel=f"{policy}\nready", ylim=(0, None))
    _legend(axes)


def _draw_availability(axes: Axes, policy: str, steps: Sequence[Step], until_s: float) -> None:
    spans = report.windows(until_s)
    edges = [begin / _DAY_S for begin, _ in spans] + [spans[-1][1] / _DAY_S]
    shares = [100 * report.availability(steps, *span) for span in spans]
    axes.stairs(shares, edges, baseline=None, label=policy)
