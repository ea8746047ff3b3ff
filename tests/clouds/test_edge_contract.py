"""What goes to Google for an edge, held against the contract as others published it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sailplane.deploy.edges.edge import Wanted, environment


@pytest.mark.public_contracts
def test_another_copy_of_the_contract_accepts_all_that_is_sent() -> None:
    """Google's document of Cloud Functions, besides the box's; SAILPLANE_PUBLIC_CONTRACTS names the directory."""
    from sailplane.deploy.edges.gcp import GcpEdges  # noqa: PLC0415 the SDK, which a collecting worker need not load
    from tests.clouds.edges.gcp import PROJECT, FunctionsBox  # noqa: PLC0415 as above
    from tests.clouds.gcp.contract import Contract  # noqa: PLC0415 as above

    document = Path(os.environ["SAILPLANE_PUBLIC_CONTRACTS"]) / "gcp" / "cloudfunctions.v2.json"
    public = Contract(json.loads(document.read_text()))
    env = environment("https://control.example", "router-token", "gcp", "us-central1")
    with FunctionsBox().running() as box:
        edges = GcpEdges(deployment="acme", project=PROJECT, endpoint_url=box.endpoint_url, pause=lambda _s: None)
        for archive in (b"one", b"two"):
            edges.deploy("us-central1", Wanted(archive, env), lambda _text: None)
        edges.edges()
        edges.remove("us-central1", lambda _text: None)
        seen = [(method, each) for each in box.requests if (method := public.find(each.http_method, each.path))]
    assert len(seen) > 15
    assert [fault for method, each in seen for fault in public.faults(method, each.query, each.body or None)] == []
