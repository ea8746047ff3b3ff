"""Azure: who you are, whether the resource group is there and you may make machines in it, how many GPU machines it may have."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

import httpx
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential

from sailplane.deploy.checks.finding import Finding, Verdict, asked

# What the provider does: https://learn.microsoft.com/azure/role-based-access-control/permissions/compute
ACTIONS = (
    "Microsoft.Compute/virtualMachines/write",
    "Microsoft.Compute/virtualMachines/delete",
    "Microsoft.Compute/virtualMachines/retrieveBootDiagnosticsData/action",
    "Microsoft.Compute/disks/delete",
    "Microsoft.Network/virtualNetworks/write",
    "Microsoft.Network/networkSecurityGroups/write",
    "Microsoft.Network/networkInterfaces/write",
    "Microsoft.Network/publicIPAddresses/write",
)
_ARM = "https://management.azure.com"
_SCOPE = f"{_ARM}/.default"
# Families with GPUs are the N series; spot machines of all families share one quota.
_SPOT = "lowPriorityCores"
_GPU = "standardN"


def signed_in() -> httpx.Client | Finding:
    """A client that asks as the user, or why there is none."""
    try:
        token = DefaultAzureCredential().get_token(_SCOPE).token
    except ClientAuthenticationError as error:
        return Finding("azure", "credentials", Verdict.MISSING, str(error.message).splitlines()[0], "az login")
    return httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=30)


def findings(http: httpx.Client, subscription: str, group: str) -> Iterator[Finding]:
    """Everything there is to say about a resource group, and the region where it is.

    Args:
        http: asks as the user; see `signed_in`.
        subscription: its id.
        group: the name of the resource group for machines.
    """
    scope = f"/subscriptions/{subscription}/resourceGroups/{group}"
    found = asked(http, "GET", f"{_ARM}{scope}?api-version=2021-04-01")
    if isinstance(found, str):
        fix = f"az group create --subscription {subscription} --name {group} --location eastus"
        yield Finding("azure", "resource group", Verdict.MISSING, found, fix)
        return
    yield Finding("azure", "resource group", Verdict.FINE, f"{group} in {found['location']}")
    yield _permissions(http, scope)
    yield from _quotas(http, subscription, found["location"])


def _permissions(http: httpx.Client, scope: str) -> Finding:
    answer = asked(http, "GET", f"{_ARM}{scope}/providers/Microsoft.Authorization/permissions?api-version=2022-04-01")
    fix = f"az role assignment create --assignee YOU --role Contributor --scope {scope}"
    if isinstance(answer, str):
        return Finding("azure", "permissions", Verdict.UNKNOWN, answer, fix)
    grants = answer["value"]
    missing = [action for action in ACTIONS if not any(_allows(grant, action) for grant in grants)]
    if missing:
        return Finding("azure", "permissions", Verdict.MISSING, f"refused: {', '.join(missing)}", fix)
    return Finding("azure", "permissions", Verdict.FINE, f"all {len(ACTIONS)} that machines need")


def _allows(grant: dict[str, list[str]], action: str) -> bool:
    def names(patterns: list[str]) -> bool:
        return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)

    return names(grant["actions"]) and not names(grant.get("notActions", []))


def _quotas(http: httpx.Client, subscription: str, location: str) -> Iterator[Finding]:
    place = f"/subscriptions/{subscription}/providers/Microsoft.Compute/locations/{location}"
    answer = asked(http, "GET", f"{_ARM}{place}/usages?api-version=2024-07-01")
    if isinstance(answer, str):
        fix = f"az provider register --namespace Microsoft.Compute --subscription {subscription}"
        yield Finding("azure", f"vCPUs in {location}", Verdict.MISSING, answer, fix)
        return
    for usage in answer["value"]:
        name, limit = usage["name"], usage["limit"]
        if name["value"] != _SPOT and not name["value"].startswith(_GPU):
            continue
        what = f"{name['localizedValue']} in {location}"
        if limit:
            yield Finding("azure", what, Verdict.FINE, f"{limit}, {usage['currentValue']} in use")
        else:
            fix = (
                f"az quota update --resource-name {name['value']} --scope {place} --limit-object value=64 "
                "--resource-type dedicated"
            )
            yield Finding("azure", what, Verdict.MISSING, "0", fix)
