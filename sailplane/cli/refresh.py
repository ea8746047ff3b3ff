"""`sailplane catalog refresh`: today's prices from the clouds themselves."""

from __future__ import annotations

import time
from collections.abc import Collection

import click

from chalicelib.errors import Invalid, SailplaneError
from sailplane.catalog.judging import Judged
from sailplane.catalog.live import refresh
from sailplane.catalog.live.source import Endpoint, NoCredentials, SourceFailed
from sailplane.cli import catalog, connection, output
from sailplane.cli.output import Output
from sailplane.local.home import Home


@click.command("refresh")
@click.option(
    "--provider",
    "providers",
    type=click.Choice(refresh.PROVIDERS),
    multiple=True,
    help="Ask this cloud only; may be repeated. [default: all that need no credentials or have them]",
)
@click.option("--fresh", is_flag=True, help="Do not compare with the present prices: accept jumps and losses.")
@click.option(
    "--gcp-api-key",
    envvar="SAILPLANE_GCP_API_KEY",
    show_envvar=True,
    default="",
    help="Shown to the Google Cloud Billing catalog; better given by environment.",
)
@click.option(
    "--endpoint", help="Ask this stand-in, http://KEY@HOST:PORT, instead of the one cloud that --provider names."
)
@connection.home
@output.options
def command(
    out: Output, *, home: Home, providers: tuple[str, ...], fresh: bool, gcp_api_key: str, endpoint: str | None
) -> None:
    """Ask the clouds for today's prices and plan on them from then on.

    They are kept in the home directory, beside the packaged ones, and used as long as they are the newer ones. What is not
    credible is quarantined; prices that would lose more than a tenth of a cloud's offers are refused, and the present ones kept.
    Of several clouds, each is refreshed that can be. AWS is asked with boto3's usual credentials.
    """
    home.make()
    done: list[Judged] = []
    failures: list[SailplaneError] = []
    with out.progress("Asking the clouds for their prices") as told:
        means = refresh.Means(time.time(), told, time.sleep, _key(gcp_api_key), _stand_in(endpoint, providers))
        for provider in providers or refresh.PROVIDERS:
            told(f"Asking {provider} for its prices")
            try:
                done.append(refresh.refresh(provider, home.catalog, means, fresh=fresh))
            except NoCredentials as missing:
                if providers:
                    failures.append(missing)
                else:
                    out.message(f"{provider} is left as it is. {missing}")
            except (SourceFailed, Invalid) as failure:
                failures.append(failure)
    catalog.report(out, done)
    for other in failures[1:]:
        out.message(str(other))
    if failures:
        raise failures[0]


def _key(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        # Refused here: the HTTP client's own refusal repeats it.
        raise click.UsageError("--gcp-api-key has a character that no key has, such as the end of a line.")
    return text


def _stand_in(text: str | None, providers: Collection[str]) -> Endpoint | None:
    if text is None:
        return None
    if len(providers) != 1:
        raise click.UsageError("--endpoint stands for one cloud: name it with --provider.")
    try:
        return Endpoint.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--endpoint") from error
