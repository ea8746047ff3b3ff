"""What clouds hold of a deployment, seen with the user's own credentials: for when there is no control plane to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from chalicelib.api import schemas, views
from chalicelib.bootstrap import SystemClock
from chalicelib.errors import Unreachable
from chalicelib.model import Leftover
from chalicelib.ports import Janitor
from sailplane.deploy.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Places:
    """Where else than in the AWS account machines may have been made; empty = not known. `aws_endpoint` is a stand-in's."""

    gcp_project: str = ""
    azure_subscription: str = ""
    azure_resource_group: str = ""
    aws_endpoint: str | None = None

    @property
    def known(self) -> tuple[str, ...]:
        """The clouds of which enough is said."""
        gcp = ("gcp",) if self.gcp_project else ()
        azure = ("azure",) if self.azure_subscription and self.azure_resource_group else ()
        return ("aws", *gcp, *azure)


class Clouds:
    """The clouds by name, each with what makes its janitor: importing an SDK takes up to 3 s, and it may not be installed."""

    def __init__(self, makers: Mapping[str, Callable[[], Janitor]]) -> None:
        self._makers = makers
        self._seen: dict[tuple[str, str], Leftover] = {}

    def leftovers(self) -> schemas.Leftovers:
        """Whatever has the deployment's tag, in all regions, and which clouds could not be looked at, and why."""
        self._seen, unreachable = {}, {}
        for name, make in self._makers.items():
            try:
                self._seen |= {(name, one.id): one for one in make().leftovers(frozenset())}
            except Unreachable as error:
                unreachable[name] = str(error)
        return schemas.Leftovers(leftovers=tuple(map(views.leftover, self._seen.values())), unreachable=unreachable)

    def remove_leftovers(self, leftovers: Iterable[schemas.Leftover]) -> schemas.Leftovers:
        """Ask for the removal of what was seen; the answer has what could not be asked for."""
        refused, unreachable = [], {}
        for one in leftovers:
            try:
                self._makers[one.provider]().remove(self._seen[one.provider, one.id])
            except Unreachable as error:
                refused.append(one)
                unreachable[one.provider] = str(error)
        return schemas.Leftovers(leftovers=tuple(refused), unreachable=unreachable)


def clouds(deployment: Deployment, places: Places, wanted: Iterable[str]) -> Clouds:
    """The clouds of which `places` says enough, and the `wanted` ones, which say what they lack."""
    makers = {"aws": lambda: _aws(deployment, places), "gcp": lambda: _gcp(deployment, places)} | {
        "azure": lambda: _azure(deployment, places)
    }
    names = dict.fromkeys((*places.known, *wanted))
    return Clouds({name: makers[name] for name in names})


def _aws(deployment: Deployment, places: Places) -> Janitor:
    from chalicelib.providers.aws.compute import AwsProvider  # noqa: PLC0415 see `Clouds`

    return AwsProvider(
        deployment=deployment.name, control_url="", clock=SystemClock(), endpoint_url=places.aws_endpoint
    )


def _gcp(deployment: Deployment, places: Places) -> Janitor:
    if not places.gcp_project:
        raise Unreachable("say where with --gcp-project")
    try:
        from chalicelib.providers.gcp.compute import GcpProvider  # noqa: PLC0415 as above
    except ModuleNotFoundError as error:
        raise _no_sdk("gcp") from error
    return GcpProvider(deployment=deployment.name, control_url="", clock=SystemClock(), project=places.gcp_project)


def _azure(deployment: Deployment, places: Places) -> Janitor:
    if not (places.azure_subscription and places.azure_resource_group):
        raise Unreachable("say where with --azure-subscription and --azure-resource-group")
    try:
        from chalicelib.providers.azure.compute import AzureProvider  # noqa: PLC0415 as above
    except ModuleNotFoundError as error:
        raise _no_sdk("azure") from error
    return AzureProvider(
        deployment=deployment.name,
        control_url="",
        clock=SystemClock(),
        subscription=places.azure_subscription,
        resource_group=places.azure_resource_group,
    )


def _no_sdk(name: str) -> Unreachable:
    return Unreachable(
        f"its SDK is not installed: `make setup` or `pip install '.[{name}]'` where Sailplane was checked out"
    )
