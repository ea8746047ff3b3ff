"""`sailplane check`: what the clouds' accounts have of what Sailplane needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

from sailplane.cli import output
from sailplane.cli import target as targets
from sailplane.cli.exits import Exit
from sailplane.cli.output import Output
from sailplane.deploy.checks.finding import Finding, Verdict

CLOUDS = ("aws",)


@click.command("check")
@click.argument("clouds", nargs=-1, type=click.Choice(CLOUDS), metavar="[CLOUD]...")
@targets.region
@output.options
def command(out: Output, *, clouds: tuple[str, ...], region: str | None, endpoint_url: str | None) -> None:
    """Show which credentials, permissions and quotas are there in the CLOUDs, all by default, and how to get what is missing.

    Changes nothing. Exit code 1 when something is missing.
    """
    found: list[Finding] = []
    for cloud in dict.fromkeys(clouds or CLOUDS):
        with out.progress(f"Asking {cloud}"):
            found += _findings(cloud, region, endpoint_url)
    out.table(("CLOUD", "WHAT", "", "FOUND"), [(one.cloud, one.what, one.verdict, one.found) for one in found])
    for one in found:
        if one.verdict is not Verdict.FINE:
            out.message(f"{one.cloud}, {one.what}: {one.fix}")
    out.document({"findings": [asdict(one) for one in found]})
    if any(one.verdict is Verdict.MISSING for one in found):
        raise click.exceptions.Exit(Exit.FAILURE)


def _findings(cloud: str, region: str | None, endpoint_url: str | None) -> Iterator[Finding]:
    del cloud  # there is one so far
    from sailplane.deploy import aws  # noqa: PLC0415 - costs 200 ms, which other commands need not pay
    from sailplane.deploy.checks import aws as checks  # noqa: PLC0415 - as above

    return checks.findings(aws.session(region or ""), endpoint_url)
