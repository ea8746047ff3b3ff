"""`sailplane check`: what the clouds' accounts have of what Sailplane needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec

import click

from chalicelib.errors import Invalid
from sailplane.cli import output
from sailplane.cli import target as targets
from sailplane.cli.exits import Exit
from sailplane.cli.output import Output
from sailplane.deploy.account import NoAccess
from sailplane.deploy.checks.finding import Finding, Verdict

CLOUDS = ("aws", "gcp", "azure")


@click.command("check")
@click.argument("clouds", nargs=-1, type=click.Choice(CLOUDS), metavar="[CLOUD]...")
@click.option(
    "--gcp-project", metavar="ID", envvar="SAILPLANE_GCP_PROJECT", show_envvar=True, help="Which project of gcp."
)
@click.option(
    "--gcp-region", metavar="REGION", default="us-central1", show_default=True, help="Which region's quotas of gcp."
)
@click.option(
    "--azure-subscription",
    metavar="ID",
    envvar="SAILPLANE_AZURE_SUBSCRIPTION",
    show_envvar=True,
    help="Where machines are made.",
)
@click.option(
    "--azure-resource-group",
    metavar="NAME",
    envvar="SAILPLANE_AZURE_RESOURCE_GROUP",
    show_envvar=True,
    help="Where in it.",
)
@targets.region
@output.options
def command(
    out: Output,
    *,
    clouds: tuple[str, ...],
    region: str | None,
    endpoint_url: str | None,
    gcp_project: str | None,
    gcp_region: str,
    azure_subscription: str | None,
    azure_resource_group: str | None,
) -> None:
    """Show which credentials, permissions and quotas are there in the CLOUDs, and how to get what is missing.

    CLOUD is aws, gcp or azure; without one it is aws. Changes nothing. Exit code 1 when something is missing.
    """
    wanted = dict.fromkeys(clouds or ("aws",))
    # Before any cloud is asked: what others have answered would not be shown.
    if "gcp" in wanted and not gcp_project:
        raise click.UsageError("Name the project with --gcp-project.")
    if "azure" in wanted and not (azure_subscription and azure_resource_group):
        raise click.UsageError("Say where with --azure-subscription and --azure-resource-group.")
    ask = {
        "aws": lambda: _aws(region, endpoint_url),
        "gcp": lambda: _gcp(str(gcp_project), gcp_region),
        "azure": lambda: _azure(str(azure_subscription), str(azure_resource_group)),
    }
    found: list[Finding] = []
    for cloud in wanted:
        with out.progress(f"Asking {cloud}"):
            found += ask[cloud]()
    out.table(("CLOUD", "WHAT", "", "FOUND"), [(one.cloud, one.what, one.verdict, one.found) for one in found])
    for one in found:
        if one.verdict is not Verdict.FINE:
            out.message(f"{one.cloud}, {one.what}: {one.fix}")
    out.document({"findings": [asdict(one) for one in found]})
    if any(one.verdict is Verdict.MISSING for one in found):
        raise click.exceptions.Exit(Exit.FAILURE)
    if "aws" in wanted:
        out.next("sailplane bootstrap aws --deployment NAME")


# An SDK is imported when its cloud is asked about: it may not be installed, and takes up to a second.
def _aws(region: str | None, endpoint_url: str | None) -> Iterator[Finding]:
    from sailplane.deploy import aws  # noqa: PLC0415
    from sailplane.deploy.checks import aws as checks  # noqa: PLC0415

    try:
        session = aws.session(region or "")
    except Invalid as error:
        raise click.UsageError(str(error)) from error
    except NoAccess as error:
        yield Finding("aws", "credentials", Verdict.MISSING, str(error), "aws configure, or aws sso login")
        return
    yield from checks.findings(session, endpoint_url)


def _gcp(project: str, region: str) -> Iterator[Finding]:
    _require_sdk("gcp", "google.auth")
    from sailplane.deploy.checks import gcp  # noqa: PLC0415

    http = gcp.signed_in()
    if isinstance(http, Finding):
        yield http
        return
    yield Finding("gcp", "credentials", Verdict.FINE, "application default credentials")
    yield from gcp.findings(http, project, region)


def _azure(subscription: str, group: str) -> Iterator[Finding]:
    _require_sdk("azure", "azure.identity")
    from sailplane.deploy.checks import azure  # noqa: PLC0415

    http = azure.signed_in()
    if isinstance(http, Finding):
        yield http
        return
    yield Finding("azure", "credentials", Verdict.FINE, "DefaultAzureCredential")
    yield from azure.findings(http, subscription, group)


def _require_sdk(cloud: str, module: str) -> None:
    top = module.partition(".")[0]
    if find_spec(top) is None or find_spec(module) is None:
        raise Invalid(
            f"To look at {cloud} it needs its SDK: `make setup` or `pip install '.[{cloud}]'` where Sailplane was checked out."
        )
