"""`sailplane check gcp azure`, against answers as the clouds' REST references give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from sailplane.deploy.checks.finding import Finding, Verdict

GROUP = "/subscriptions/s1/resourceGroups/g1"


def answering(answers: Mapping[str, Any]) -> httpx.Client:
    """A client whose cloud knows these paths; a number is a refusal."""

    def answer(request: httpx.Request) -> httpx.Response:
        found = answers.get(request.url.path, 404)
        if isinstance(found, int):
            return httpx.Response(found, json={"error": {"code": found, "message": "not for you"}})
        return httpx.Response(200, json=found)

    return httpx.Client(transport=httpx.MockTransport(answer))


def gcp(answers: Mapping[str, Any]) -> dict[str, Finding]:
    from sailplane.deploy.checks import gcp as checks  # noqa: PLC0415 Google's SDK takes its time, and only here

    return {one.what: one for one in checks.findings(answering(answers), "p1", "us-central1")}


def azure(answers: Mapping[str, Any]) -> dict[str, Finding]:
    from sailplane.deploy.checks import azure as checks  # noqa: PLC0415 the same of Microsoft's

    return {one.what: one for one in checks.findings(answering(answers), "s1", "g1")}


def test_a_project_that_lacks_a_permission_and_a_quota() -> None:
    """Both with what gets them; a quota of another kind is not talked about."""
    from sailplane.deploy.checks.gcp import PERMISSIONS  # noqa: PLC0415 as above

    quotas = [
        {"metric": "NVIDIA_L4_GPUS", "limit": 8.0, "usage": 1.0},
        {"metric": "PREEMPTIBLE_NVIDIA_L4_GPUS", "limit": 0.0, "usage": 0.0},
        {"metric": "COMMITTED_NVIDIA_L4_GPUS", "limit": 0.0, "usage": 0.0},
        {"metric": "CPUS", "limit": 0.0, "usage": 0.0},
    ]
    found = gcp(
        {
            "/v1/projects/p1:testIamPermissions": {
                "permissions": [one for one in PERMISSIONS if "firewalls" not in one]
            },
            "/compute/v1/projects/p1": {"quotas": [{"metric": "GPUS_ALL_REGIONS", "limit": 4.0, "usage": 0.0}]},
            "/compute/v1/projects/p1/regions/us-central1": {"quotas": quotas},
        }
    )
    assert {what: one.verdict for what, one in found.items()} == {
        "permissions": Verdict.MISSING,
        "GPUS_ALL_REGIONS in p1": Verdict.FINE,
        "NVIDIA_L4_GPUS in us-central1": Verdict.FINE,
        "PREEMPTIBLE_NVIDIA_L4_GPUS in us-central1": Verdict.MISSING,
    }
    assert found["permissions"].found == "refused: compute.firewalls.create"
    assert "roles/compute.securityAdmin" in found["permissions"].fix


def test_a_project_where_nothing_is_switched_on() -> None:
    """The APIs' own refusals are shown, with the commands that switch them on."""
    found = gcp({"/v1/projects/p1:testIamPermissions": 403, "/compute/v1/projects/p1": 403})
    assert found["permissions"].verdict is Verdict.UNKNOWN
    assert found["GPUs in p1"].found == "HTTP 403: not for you"
    assert found["GPUs in p1"].fix == "gcloud services enable compute.googleapis.com --project p1"


def test_a_resource_group_that_is_not_there() -> None:
    """Then that is all there is to say, with the command that makes it."""
    found = azure({})
    assert list(found) == ["resource group"]
    assert found["resource group"].fix.startswith("az group create --subscription s1 --name g1 ")


def test_a_role_that_has_exceptions_and_no_spot_quota() -> None:
    """Patterns are matched as Azure does, letter case aside; what a role excepts it does not allow."""
    usages = [
        {"name": {"value": "lowPriorityCores", "localizedValue": "Spot vCPUs"}, "limit": 0, "currentValue": 0},
        {"name": {"value": "standardNCASv3_T4Family", "localizedValue": "NCASv3_T4"}, "limit": 8, "currentValue": 4},
        {"name": {"value": "standardDSv3Family", "localizedValue": "DSv3"}, "limit": 0, "currentValue": 0},
    ]
    grant = {"actions": ["microsoft.compute/*", "Microsoft.Network/*"], "notActions": ["*/networkSecurityGroups/write"]}
    found = azure(
        {
            GROUP: {"location": "eastus"},
            f"{GROUP}/providers/Microsoft.Authorization/permissions": {"value": [grant]},
            "/subscriptions/s1/providers/Microsoft.Compute/locations/eastus/usages": {"value": usages},
        }
    )
    assert {what: one.verdict for what, one in found.items()} == {
        "resource group": Verdict.FINE,
        "permissions": Verdict.MISSING,
        "Spot vCPUs in eastus": Verdict.MISSING,
        "NCASv3_T4 in eastus": Verdict.FINE,
    }
    assert found["permissions"].found == "refused: Microsoft.Network/networkSecurityGroups/write"


def test_a_network_that_is_down_is_no_verdict() -> None:
    """On permissions; quotas cannot be used without an answer either way."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    from sailplane.deploy.checks import gcp as checks  # noqa: PLC0415 as above

    found = list(checks.findings(httpx.Client(transport=httpx.MockTransport(fail)), "p1", "us-central1"))
    assert found[0].verdict is Verdict.UNKNOWN
    assert found[0].found == "no answer: no route"
