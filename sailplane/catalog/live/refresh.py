"""A cloud's live price list, judged beside the prices in use, to a snapshot outside the package."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from chalicelib.catalog import PACKAGED, Catalog, snapshot
from chalicelib.catalog.snapshot import Quarantined
from chalicelib.errors import Invalid
from sailplane.catalog import judging
from sailplane.catalog.judging import Judged, Table
from sailplane.catalog.live.source import Endpoint, NoCredentials, Source
from sailplane.catalog.quarantine import Row

PROVIDERS = ("aws", "azure", "gcp")
_ORIGINS = {
    "aws": "EC2 and the AWS price list",
    "azure": "the Azure Retail Prices API",
    "gcp": "the Google Cloud Billing catalog",
}


@dataclass(frozen=True, slots=True)
class Means:
    """How to ask: what time it is (epoch seconds), whom to tell what one waits for, how to wait, and with which key.

    `endpoint` is asked instead of the cloud.
    """

    now: float
    told: Callable[[str], None]
    sleep: Callable[[float], None]
    gcp_api_key: str = field(default="", repr=False)
    endpoint: Endpoint | None = None


def refresh(provider: str, target: Path, means: Means, *, fresh: bool) -> Judged:
    """Ask one cloud and keep what is believed in `target`.

    Args:
        provider: one of `PROVIDERS`.
        target: the directory of refreshed snapshots.
        means: how to ask.
        fresh: judge the prices without regard to those in use.

    Raises:
        SourceFailed: the price list could not be had.
        Invalid: it holds nothing of use, or more than a tenth of the offers in use would be lost. In both cases nothing is
            changed.
    """
    used, packaged = (
        snapshot.read(directory, provider) for directory in (Catalog(target).directory(provider), PACKAGED)
    )
    # What a refresh left out once is asked for again the next time.
    known = (*used.prices, *packaged.prices), (*used.quarantined, *packaged.quarantined)
    rows, unreadable = _ask(provider, known, means)
    digest = hashlib.sha256(repr(rows).encode()).hexdigest()
    as_of = f"{datetime.fromtimestamp(means.now, UTC):%Y-%m-%dT%H:%MZ}"
    try:
        done = judging.judge(
            Table(provider, as_of, _ORIGINS[provider], digest, tuple(rows), tuple(unreadable)), used, fresh=fresh
        )
    except Invalid as error:
        raise Invalid(f"{provider}, from {_ORIGINS[provider]}: {error}; the present prices are kept.") from error
    snapshot.write(target, done.snapshot)
    return done


def _ask(
    provider: str, known: tuple[tuple[snapshot.Price, ...], tuple[Quarantined, ...]], means: Means
) -> tuple[list[Row], list[Quarantined]]:
    now = datetime.fromtimestamp(means.now, UTC)
    if provider == "aws":
        from sailplane.catalog.live import aws  # noqa: PLC0415 - boto3 costs 200 ms

        return aws.Market(means.told, means.endpoint).rows(now)
    from sailplane.catalog.live import azure, gcp  # noqa: PLC0415 - as above, the one that is wanted

    if provider == "azure":
        with _source(azure.URL, means, {}) as source:
            return azure.rows(source, known[0], now)
    if not (means.gcp_api_key or means.endpoint):
        raise NoCredentials("Google shows its price list to holders of an API key only: set SAILPLANE_GCP_API_KEY.")
    # In a header, where no log of URLs sees it.
    with _source(gcp.URL, means, {"X-Goog-Api-Key": means.gcp_api_key} if means.gcp_api_key else {}) as source:
        return gcp.rows(source, *known)


def _source(url: str, means: Means, headers: dict[str, str]) -> Source:
    if means.endpoint:
        shown = {"Authorization": f"Bearer {means.endpoint.key}"} if means.endpoint.key else {}
        return Source(means.endpoint.url, means.told, means.sleep, shown)
    return Source(url, means.told, means.sleep, headers)
