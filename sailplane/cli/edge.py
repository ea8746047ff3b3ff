"""`sailplane edge`: routers on the functions of other clouds than the control plane's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from chalicelib.errors import Invalid
from sailplane.cli import connection, output
from sailplane.cli import target as targets
from sailplane.cli.output import Output
from sailplane.deploy.deployment import ROUTER_TOKEN
from sailplane.deploy.edges.edge import Edges, Found, Wanted, archive, environment
from sailplane.local.home import Home

_R = TypeVar("_R")

# What the passes of a local stack call themselves, see sailplane/local/daemon.py.
_LOCAL = "local"
_HEADING = ("CLOUD", "LOCATION", "STATE", "NAME", "URL")
_HERE = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Clouds:
    """Where on the clouds edges are. An endpoint is a stand-in's, `http://token@host:port`."""

    gcp_project: str | None
    gcp_endpoint: str | None = field(repr=False)
    azure_subscription: str | None
    azure_resource_group: str | None
    azure_endpoint: str | None = field(repr=False)

    def known(self) -> tuple[str, ...]:
        """The clouds of which enough is said."""
        return tuple(cloud for cloud in ("gcp", "azure") if not self._missing(cloud))

    def edges(self, cloud: str, deployment: str) -> Edges:
        """The edges of a deployment on a cloud.

        Raises `click.UsageError` when the cloud needs to be told more, `Invalid` when its SDK is not installed.
        """
        if missing := self._missing(cloud):
            raise click.UsageError(f"For edges on {cloud}, say {' and '.join(missing)}.")
        try:
            return self._gcp(deployment) if cloud == "gcp" else self._azure(deployment)
        except ModuleNotFoundError as error:
            raise Invalid(
                f"Edges on {cloud} need its SDK: `make setup` or `pip install '.[{cloud}]'` where Sailplane was checked out."
            ) from error

    def _gcp(self, deployment: str) -> Edges:
        from sailplane.deploy.edges.gcp import GcpEdges  # noqa: PLC0415 half a second that others need not pay

        return GcpEdges(deployment=deployment, project=str(self.gcp_project), endpoint_url=self.gcp_endpoint)

    def _azure(self, deployment: str) -> Edges:
        from sailplane.deploy.edges.azure import AzureEdges  # noqa: PLC0415 as above

        return AzureEdges(
            deployment=deployment,
            subscription=str(self.azure_subscription),
            resource_group=str(self.azure_resource_group),
            endpoint_url=self.azure_endpoint,
        )

    def is_stand_in(self, cloud: str) -> bool:
        """Whether that cloud stands on this machine, perhaps."""
        return bool({"gcp": self.gcp_endpoint, "azure": self.azure_endpoint}[cloud])

    def _missing(self, cloud: str) -> list[str]:
        needs = {
            "gcp": {"--gcp-project": self.gcp_project},
            "azure": {
                "--azure-subscription": self.azure_subscription,
                "--azure-resource-group": self.azure_resource_group,
            },
        }
        return [option for option, value in needs[cloud].items() if not value]


def _clouds(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command the argument `clouds`."""

    @click.option("--gcp-project", metavar="ID", envvar="SAILPLANE_GCP_PROJECT", show_envvar=True)
    @click.option("--azure-subscription", metavar="ID", envvar="SAILPLANE_AZURE_SUBSCRIPTION", show_envvar=True)
    @click.option("--azure-resource-group", metavar="NAME", envvar="SAILPLANE_AZURE_RESOURCE_GROUP", show_envvar=True)
    @click.option("--gcp-endpoint", envvar="SAILPLANE_GCP_ENDPOINT", help="A stand-in for Google Cloud.")
    @click.option("--azure-endpoint", envvar="SAILPLANE_AZURE_ENDPOINT", help="A stand-in for Azure.")
    @functools.wraps(command)
    def with_clouds(
        *args: Any,
        gcp_project: str | None,
        azure_subscription: str | None,
        azure_resource_group: str | None,
        gcp_endpoint: str | None,
        azure_endpoint: str | None,
        **others: Any,
    ) -> _R:
        clouds = Clouds(gcp_project, gcp_endpoint, azure_subscription, azure_resource_group, azure_endpoint)
        return command(*args, clouds=clouds, **others)

    return with_clouds


_cloud = click.option("--cloud", type=click.Choice(["gcp", "azure"]), required=True)
_location = click.option("--location", metavar="REGION", required=True, help="Such as us-central1, or eastus.")
_yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
_deployment = click.option(
    "--deployment",
    "-d",
    metavar="NAME",
    envvar="SAILPLANE_DEPLOYMENT",
    show_envvar=True,
    help="The control plane that edges are of. [default: the one connected to]",
)


@click.group("edge")
def command() -> None:
    """Put edge routers on other clouds' functions, list and remove them.

    The edge at AWS comes with the control plane. One nearer to clients, or on a cloud that is up when AWS is not, answers the
    same at its own address.
    """


@command.command()
@_cloud
@_location
@_clouds
@click.option("--control-url", metavar="URL", help="How the edge reaches the control plane. [default: as deployed]")
@click.option(
    "--zip",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="What `python -m infra.edge` made. [default: made now]",
)
@_yes
@_deployment
@targets.region
@connection.home
@output.options
def deploy(
    out: Output,
    *,
    home: Home,
    clouds: Clouds,
    cloud: str,
    location: str,
    control_url: str | None,
    file: Path | None,
    yes: bool,
    deployment: str | None,
    region: str | None,
    endpoint_url: str | None,
) -> None:
    """Make the edge in a cloud's region, or bring it up to date: show the plan, ask, then show progress until it serves.

    Run again, it finds nothing to do, or finishes what was interrupted. A first one that fails leaves nothing behind. It
    costs nothing while nobody asks it.
    """
    target = targets.find(home, deployment, region, endpoint_url)
    name = target.deployment.name if target else _LOCAL
    edges = clouds.edges(cloud, name)
    with out.progress("Looking for the control plane"):
        url, token = _of_account(target) if target else _of_this_machine(home)
    url = _reachable(control_url or url, is_stand_in=clouds.is_stand_in(cloud))
    wanted = Wanted(file.read_bytes() if file else archive(cloud), environment(url, token, cloud, location))
    where = f"{cloud}/{location}"
    with out.progress(f"Looking at {where}"):
        found = edges.find(location)
    if found is not None and edges.is_current(found, wanted):
        _tell(out, found, f"{where}: nothing to do.", is_changed=False)
        return
    _show_plan(out, edges, where, name, location, is_new=found is None)
    if not yes and not out.confirm(f"{'Make' if found is None else 'Change'} it?"):
        out.declined()
    with out.progress(f"{where}: beginning") as show:
        made = edges.deploy(location, wanted, lambda text: show(f"{where}: {text}"))
    _tell(out, made, f"{where}: serves.", is_changed=True)


@command.command("list")
@_clouds
@_deployment
@connection.home
@output.options
def list_(out: Output, *, home: Home, clouds: Clouds, deployment: str | None) -> None:
    """Show the edges on the clouds that are named by their options. Unfinished ones want to be deployed again, or removed."""
    known = clouds.known()
    if not known:
        raise click.UsageError("Say where: --gcp-project, or --azure-subscription and --azure-resource-group.")
    name = _name(home, deployment)
    with out.progress(f"Asking {' and '.join(known)}"):
        found = [each for cloud in known for each in clouds.edges(cloud, name).edges()]
    if found:
        out.table(_HEADING, [(each.cloud, each.region, each.state, each.name, each.url or "-") for each in found])
        out.message(
            "`sailplane upgrade` leaves these as they are: deploy them again after it. Remove them before `sailplane teardown`."
        )
        out.next(*(f"sailplane edge remove --cloud {each.cloud} --location {each.region}" for each in found))
    else:
        out.data(f"{name} has no edge there.")
        out.next("sailplane edge deploy --cloud gcp|azure --location REGION")
    out.document({"edges": [_document(each) for each in found]})


@command.command()
@_cloud
@_location
@_clouds
@_yes
@_deployment
@connection.home
@output.options
def remove(
    out: Output, *, home: Home, clouds: Clouds, cloud: str, location: str, yes: bool, deployment: str | None
) -> None:
    """Take an edge away, with everything that was made for it. Clients that ask at its address get no answer then."""
    name, where = _name(home, deployment), f"{cloud}/{location}"
    edges = clouds.edges(cloud, name)
    if not yes and not out.confirm(f"Remove the edge of {name} in {where} for good?"):
        out.declined()
    with out.progress(f"{where}: looking") as show:
        was_there = edges.remove(location, lambda text: show(f"{where}: {text}"))
    out.message(f"{where}: removed." if was_there else f"{where}: nothing to do.")
    out.document({"deployment": name, "cloud": cloud, "location": location, "removed": was_there})


def _name(home: Home, deployment: str | None) -> str:
    known = home.connected()
    return targets.named(deployment or (known.deployment if known else _LOCAL)).name


def _of_account(target: targets.Target) -> tuple[str, str]:
    """URL and router token of a control plane in AWS, which the user's credentials may read."""
    stack = target.account.stack(target.deployment)
    if stack is None or not stack.has_code:
        raise targets.missing(target)
    return stack.outputs["ControlUrl"], target.account.keys(target.deployment)[ROUTER_TOKEN]


def _of_this_machine(home: Home) -> tuple[str, str]:
    """URL and router token of the local stack. Raises `Unreachable` when it does not run."""
    url, _ = connection.locate_local(home)
    return url, home.secrets().router_token


def _reachable(control_url: str, *, is_stand_in: bool) -> str:
    """The URL without a slash at its end. Raises `click.UsageError` when no cloud could ask there."""
    parts = urlsplit(control_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise click.UsageError("--control-url: expected http(s)://host[:port][/prefix].")
    if parts.hostname in _HERE and not is_stand_in:
        raise click.UsageError(
            "No cloud can reach the control plane on this machine. Name one in AWS with --deployment NAME, or give the address "
            "of a tunnel to this one with --control-url URL."
        )
    return control_url.rstrip("/")


def _show_plan(out: Output, edges: Edges, where: str, name: str, location: str, *, is_new: bool) -> None:
    parts = edges.parts(location)
    out.message(f"{where}: an edge of {name} will be {'made of' if is_new else 'brought up to date'}:")
    rows = [(part.what, part.name, f"{part.idle_usd_per_month:.2f}") for part in parts]
    out.table(("WHAT", "NAME", "USD/MONTH IDLE"), rows, right=("USD/MONTH IDLE",))
    total = sum(part.idle_usd_per_month for part in parts)
    out.message(f"While nobody asks it: ${total:.2f} a month. docs/edge-platforms.md says what requests cost.")


def _tell(out: Output, found: Found, said: str, *, is_changed: bool) -> None:
    out.message(said)
    out.data(found.url)
    out.document({**_document(found), "changed": is_changed})
    out.next(f'curl -L -H "Authorization: Bearer $KEY" {found.url}/SERVICE/v1/models', "sailplane edge list")


def _document(found: Found) -> dict[str, Any]:
    named = asdict(found)
    return {"location": named.pop("region"), **{name: named[name] for name in ("cloud", "name", "url", "state")}}
