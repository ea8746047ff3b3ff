"""Which deployment in which account a command is about."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chalicelib.errors import Invalid
from sailplane.cli import connection
from sailplane.cli.failures import NoDeployment
from sailplane.cli.output import Output
from sailplane.deploy.account import DeployFailed, Identity
from sailplane.deploy.deployment import ADMIN_KEY, Deployment
from sailplane.local.home import Home

if TYPE_CHECKING:
    from sailplane.deploy.aws import AwsAccount

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment, whether it is there or not, and the account and region where it is or would be."""

    deployment: Deployment
    account: AwsAccount
    endpoint_url: str | None = None  # a stand-in for all of AWS
    identity: Identity | None = None  # once it was asked for

    def __str__(self) -> str:
        of = f" of {self.identity}" if self.identity else ""
        return f"{self.deployment.name} in {self.account.region}{of}"


def identified(out: Output, target: Target, home: Home) -> Target:
    """The same, with whose account it is, which is said.

    Raises `Invalid` when commands are connected to a control plane of this name in another account.
    """
    identity = target.account.identity()
    known = home.connected()
    if known and known.deployment == target.deployment.name and known.account not in ("", identity.account):
        raise Invalid(
            f"You are connected to {known.deployment} in AWS account {known.account}, and your credentials are for "
            f"{identity}. Use others with AWS_PROFILE or, if you mean this account, forget the other one with `sailplane connect "
            "local`. Nothing was changed."
        )
    out.message(f"In {identity}, {target.account.region}, as {identity.arn}.")
    return replace(target, identity=identity)


def missing(target: Target) -> NoDeployment:
    """What to say where there is no such deployment: mostly its name or its region is another."""
    name, region = target.deployment.name, target.account.region
    return NoDeployment(
        f"There is no {target}.",
        "the same command with its right name (--deployment) and region (--region)",
        f"to make one of that name there: sailplane bootstrap aws --deployment {name} --region {region}",
    )


def admin_key(target: Target) -> str:
    """The owner's key of the deployment. Raises `DeployFailed` when somebody has removed it."""
    key = target.account.keys(target.deployment).get(ADMIN_KEY)
    if not key:
        name, region = target.deployment.name, target.account.region
        raise DeployFailed(
            f"The parameter {target.deployment.parameters}/{ADMIN_KEY} is gone from SSM, and nobody else has the owner's key. "
            f"`sailplane upgrade --deployment {name} --region {region}` makes a new one, and functions that know it. "
            "Nothing was changed."
        )
    return key


def aws(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command the argument `target`, and `home`. What is not said is that of the deployment that is connected to."""

    @click.option(
        "--deployment",
        "-d",
        metavar="NAME",
        envvar="SAILPLANE_DEPLOYMENT",
        show_envvar=True,
        help="The control plane's name in its account, e.g. `acme-prod`.",
    )
    @region
    @connection.home
    @functools.wraps(command)
    def with_target(
        *args: Any, home: Home, deployment: str | None, region: str | None, endpoint_url: str | None, **others: Any
    ) -> _R:
        target = find(home, deployment, region, endpoint_url)
        if target is None:
            raise click.UsageError("Name the control plane with --deployment NAME, e.g. `acme-prod`.")
        return command(*args, home=home, target=target, **others)

    return with_target


def find(home: Home, deployment: str | None, region: str | None, endpoint_url: str | None) -> Target | None:
    """The deployment of that name, or else the one that is connected to; None when there is neither."""
    known = home.connected()
    if known is not None and deployment in (None, known.deployment):
        deployment, region = known.deployment, region or known.region
    return Target(named(deployment), account(region, endpoint_url), endpoint_url) if deployment else None


def named(deployment: str) -> Deployment:
    """The deployment of that name. Raises `click.UsageError` when none can have it."""
    try:
        return Deployment(deployment)
    except Invalid as error:
        raise click.UsageError(str(error)) from error


def region(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command the arguments `region` and `endpoint_url`."""
    command = click.option(
        "--endpoint-url", envvar="AWS_ENDPOINT_URL", show_envvar=True, help="A stand-in for all of AWS."
    )(command)
    return click.option(
        "--region",
        metavar="REGION",
        envvar="AWS_REGION",
        show_envvar=True,
        help="[default: that of your AWS configuration]",
    )(command)


def account(region: str | None, endpoint_url: str | None) -> AwsAccount:
    """The account of the user's AWS credentials. Raises `click.UsageError` when no region is known."""
    from sailplane.deploy import aws  # noqa: PLC0415 - costs 200 ms, which other commands need not pay

    try:
        session = aws.session(region or "")
    except Invalid as error:
        raise click.UsageError(str(error)) from error
    return aws.AwsAccount(session, endpoint_url)
