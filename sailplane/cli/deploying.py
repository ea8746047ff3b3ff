"""What `bootstrap` and `upgrade` share: the settings that they take, the plan that they show, the way they go."""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx

from chalicelib.cost import IDLE_USD
from chalicelib.errors import Invalid, Unreachable
from sailplane.cli.output import Output
from sailplane.cli.target import Target
from sailplane.deploy import credentials, health, package, stacks
from sailplane.deploy.account import Change, Stack
from sailplane.deploy.bootstrap import Bootstrap, Plan
from sailplane.deploy.package import Package

CLOUDS = ("aws", "gcp", "azure")
# What a cloud needs to be told besides its name: the template's parameter and the option that sets it.
_NEEDS = {
    "aws": {},
    "gcp": {"GcpProject": "--gcp-project"},
    "azure": {"AzureSubscription": "--azure-subscription", "AzureResourceGroup": "--azure-resource-group"},
}

_OPTIONS = {
    "Providers": "--providers",
    "AwsRegions": "--regions",
    "GcpProject": "--gcp-project",
    "AzureSubscription": "--azure-subscription",
    "AzureResourceGroup": "--azure-resource-group",
    "ReserveConcurrency": "--reserve-concurrency",
}

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the user wants to be different: parameters of the template, and credentials for other clouds by their variables."""

    parameters: Mapping[str, str]
    credentials: Mapping[str, str] = field(repr=False)


def _names(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    names = dict.fromkeys(part for each in value.split(",") if (part := each.strip()))
    if unknown := [name for name in names if name not in CLOUDS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(CLOUDS)}")
    return ",".join(names)


def settings(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command the arguments `settings` (what was chosen), `directory` and `yes`."""

    @click.option("--providers", metavar="CLOUDS", callback=_names, help="Where machines are made: of aws, gcp, azure.")
    @click.option("--regions", metavar="REGIONS", help="Only these AWS regions, comma-separated.")
    @click.option("--gcp-project", metavar="ID", help="The Google Cloud project for machines.")
    @click.option("--azure-subscription", metavar="ID", help="The Azure subscription for machines.")
    @click.option("--azure-resource-group", metavar="NAME", help="The Azure resource group for machines.")
    @click.option(
        "--gcp-credentials", type=_FILE, help="A file for functions to show to Google; docs/deploy.md makes one."
    )
    @click.option(
        "--azure-credentials", type=_FILE, help="A file for functions to show to Azure; docs/deploy.md makes one."
    )
    @click.option(
        "--reserve-concurrency/--no-reserve-concurrency",
        default=None,
        help="Keep a storm of calls to one function from starving the others; takes an account with room for 1,000.",
    )
    @click.option(
        "--package",
        "directory",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="What `python -m infra.package --out DIR` made. [default: made now]",
    )
    @click.option("--yes", "-y", is_flag=True, help="Do not ask.")
    @functools.wraps(command)
    def with_settings(
        *args: Any,
        providers: str | None,
        regions: str | None,
        gcp_project: str | None,
        azure_subscription: str | None,
        azure_resource_group: str | None,
        gcp_credentials: Path | None,
        azure_credentials: Path | None,
        reserve_concurrency: bool | None,
        **others: Any,
    ) -> _R:
        chosen = {
            "Providers": providers,
            "AwsRegions": regions,
            "GcpProject": gcp_project,
            "AzureSubscription": azure_subscription,
            "AzureResourceGroup": azure_resource_group,
            "ReserveConcurrency": {None: None, True: "yes", False: "no"}[reserve_concurrency],
        }
        given = {name: value for name, value in chosen.items() if value is not None}
        files = {cloud: path for cloud, path in (("gcp", gcp_credentials), ("azure", azure_credentials)) if path}
        return command(*args, settings=Chosen(given, credentials.read(files)), **others)

    return with_settings


def deploy(
    out: Output, target: Target, stack: Stack | None, chosen: Chosen, directory: Path | None, *, yes: bool
) -> Stack:
    """Show the plan, ask, do it; the stack then. The user's no ends the command.

    Raises `Invalid` when a cloud lacks what it needs to be told, and what `Bootstrap` raises.
    """
    known = {**(stack.parameters if stack else {}), **chosen.parameters}
    clouds = known.get("Providers", "aws").split(",")
    _require_told(clouds, known)
    # What a dead stack has left is removed with it.
    kept = {} if stack and stack.is_dead else target.account.keys(target.deployment)
    credentials.require(clouds, chosen.credentials, kept, known)
    with _packed(out, directory, clouds) as packed:
        run = Bootstrap(target.account, target.deployment, packed, chosen.parameters, stacks.pause, chosen.credentials)
        with out.progress(f"Looking at {target}") as show:
            plan = run.plan(show)
        _show(out, target, plan)
        if plan.changes:
            _show_settings(out, settings_that_change(stack, chosen.parameters, packed.version))
        if chosen.credentials and plan.changes:
            names = ", ".join(f"{target.deployment.parameters}/{name}" for name in chosen.credentials)
            out.message(f"Credentials are kept as SecureString: {names}")
        if plan.changes and not yes and not _is_wanted(out, target, run, plan):
            out.declined()
        with out.progress(_doing(target, plan)) as show:
            return run.carry_out(plan, show)


def tell(out: Output, target: Target, stack: Stack, *, is_changed: bool) -> None:
    """What is there now, and what to do with it. Raises `Unreachable` when it does not work."""
    found = stack.outputs
    _require_answers(out, target, {"api": found["ApiUrl"], "machines": found["ControlUrl"]})
    named = {"api_url": "ApiUrl", "edge_url": "EdgeUrl", "control_url": "ControlUrl", "version": "Version"}
    out.data(
        f"{target.deployment.name} {found.get('Version', '')} serves.\n  API   {found['ApiUrl']}\n  edge  {found['EdgeUrl']}"
    )
    out.document(
        {"deployment": target.deployment.name, "region": target.account.region, "changed": is_changed}
        | {name: found.get(output) for name, output in named.items()}
    )
    name, region = target.deployment.name, target.account.region
    out.next(f"sailplane connect aws --deployment {name} --region {region}", "sailplane up FILE -n NAME")


def _doing(target: Target, plan: Plan) -> str:
    if not plan.changes:
        return f"Tidying up {target}"
    return f"Making {target}" if plan.is_new else f"Changing {target}"


def _require_answers(out: Output, target: Target, urls: Mapping[str, str]) -> None:
    with out.progress("Asking it whether it works"), httpx.Client(timeout=30) as http:
        for function, url in urls.items():
            if said := health.complaint(http, url, stacks.pause):
                log = f"/aws/lambda/{target.deployment.stack}-{function}"
                raise Unreachable(
                    f"{target} is in place and does not work. {url}/healthz: {said}\nIts function's log says why:"
                    f" aws logs tail {log} --region {target.account.region}\nThen run this again; or"
                    f" `sailplane teardown --force -d {target.deployment.name}` takes it out."
                )


def _require_told(clouds: list[str], known: Mapping[str, str]) -> None:
    for cloud in clouds:
        missing = [option for parameter, option in _NEEDS[cloud].items() if not known.get(parameter)]
        if missing:
            raise Invalid(f"To make machines on {cloud}, it needs {' and '.join(missing)}. Nothing was changed.")


@contextmanager
def _packed(out: Output, directory: Path | None, clouds: list[str]) -> Iterator[Package]:
    if directory is not None:
        yield Package(directory)
        return
    with tempfile.TemporaryDirectory(prefix="sailplane-") as made:
        with out.progress(f"Building the package for {', '.join(clouds)}"):
            found = package.build(Path(made), clouds)
        yield found


def _show(out: Output, target: Target, plan: Plan) -> None:
    if not plan.changes:
        out.message(f"{target}: nothing to do.")
        return
    if plan.is_new:
        out.message(f"{target} will be made of:")
        _show_new(out, plan.changes)
        return
    out.message(f"{target} will be changed:")
    rows = [
        (one.action.lower(), one.resource, one.kind, "made anew" if one.is_replaced else "") for one in plan.changes
    ]
    out.table(("ACTION", "WHAT", "KIND", ""), rows)


def _show_new(out: Output, changes: tuple[Change, ...]) -> None:
    counted = sorted(Counter(change.kind for change in changes).items())
    prices = {kind: IDLE_USD.get(kind) for kind, _ in counted}
    rows = [
        (
            str(count),
            kind.removeprefix("AWS::").replace("::", " "),
            "?" if prices[kind] is None else f"{prices[kind]:.2f}",
        )
        for kind, count in counted
    ]
    out.table(("COUNT", "WHAT", "USD/MONTH IDLE"), rows, right=("COUNT", "USD/MONTH IDLE"))
    total = sum(price or 0.0 for price in prices.values())
    out.message(f"While no service is deployed: ${total:.2f} a month. docs/cost.md says what services cost.")


def settings_that_change(stack: Stack | None, wanted: Mapping[str, str], version: str) -> list[tuple[str, str, str]]:
    """What is set otherwise than before: by which option, how it is now, how it will be."""
    before = stack.parameters if stack else {}
    found = [("version", stack.outputs.get("Version", "") if stack else "", version)]
    found += [(_OPTIONS[name], before.get(name, ""), value) for name, value in wanted.items()]
    return [(option, now or "-", then or "-") for option, now, then in found if now != then]


def _show_settings(out: Output, rows: list[tuple[str, str, str]]) -> None:
    if rows:
        out.table(("SETTING", "NOW", "THEN"), rows)


def _is_wanted(out: Output, target: Target, run: Bootstrap, plan: Plan) -> bool:
    """Ask. A change set that is not wanted is withdrawn, also when nobody can be asked; of a new stack nothing is there yet."""
    wanted = False
    try:
        wanted = out.confirm(f"Make {target}?" if plan.is_new else f"Change {target}?")
    finally:
        if not wanted and not plan.is_new:
            run.withdraw()
    return wanted
