"""Google Cloud: who you are, whether you may make machines in the project, how many GPUs it may have in a region."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import google.auth
import httpx
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request

from sailplane.deploy.checks.finding import Finding, Verdict, asked

# https://cloud.google.com/compute/docs/access/iam-permissions: what roles/compute.instanceAdmin.v1 and securityAdmin have of
# what the provider calls.
PERMISSIONS = (
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.list",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.getSerialPortOutput",
    "compute.disks.create",
    "compute.subnetworks.use",
    "compute.subnetworks.useExternalIp",
    "compute.firewalls.create",
    "compute.networks.updatePolicy",
)
_COMPUTE = "https://compute.googleapis.com/compute/v1"
_PROJECTS = "https://cloudresourcemanager.googleapis.com/v1"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def token() -> str:
    """Of the user's application default credentials. Raises `GoogleAuthError`."""
    credentials: Any = google.auth.default([_SCOPE])[0]
    credentials.refresh(Request())
    return str(credentials.token)


def findings(http: httpx.Client, project: str, region: str) -> Iterator[Finding]:
    """Everything there is to say about a project and a region.

    Args:
        http: asks as the user; see `signed_in`.
        project: its id.
        region: e.g. us-central1.
    """
    url = f"{_PROJECTS}/projects/{project}:testIamPermissions"
    answer = asked(http, "POST", url, {"permissions": list(PERMISSIONS)})
    if isinstance(answer, str):
        fix = "gcloud services enable cloudresourcemanager.googleapis.com, and see that the project's id is right"
        yield Finding("gcp", "permissions", Verdict.UNKNOWN, answer, fix)
    else:
        yield _permissions(project, sorted(set(PERMISSIONS) - set(answer.get("permissions", ()))))
    yield from _quotas(http, project, f"{_COMPUTE}/projects/{project}", "GPUS_ALL_REGIONS")
    yield from _quotas(http, project, f"{_COMPUTE}/projects/{project}/regions/{region}", "_GPUS")


def signed_in() -> httpx.Client | Finding:
    """A client that asks as the user, or why there is none."""
    try:
        return httpx.Client(headers={"Authorization": f"Bearer {token()}"}, timeout=30)
    except GoogleAuthError as error:
        return Finding("gcp", "credentials", Verdict.MISSING, str(error), "gcloud auth application-default login")


def _permissions(project: str, missing: list[str]) -> Finding:
    if not missing:
        return Finding("gcp", "permissions", Verdict.FINE, f"all {len(PERMISSIONS)} that machines need")
    roles = (
        f"gcloud projects add-iam-policy-binding {project} --member=user:YOU --role=roles/{role}"
        for role in ("compute.instanceAdmin.v1", "compute.securityAdmin")
    )
    return Finding("gcp", "permissions", Verdict.MISSING, f"refused: {', '.join(missing)}", "; ".join(roles))


def _quotas(http: httpx.Client, project: str, url: str, wanted: str) -> Iterator[Finding]:
    """Those of a project or region by the end of their name that are of current kinds of GPUs."""
    answer = asked(http, "GET", url)
    place = url.rpartition("/")[2]
    if isinstance(answer, str):
        fix = f"gcloud services enable compute.googleapis.com --project {project}"
        yield Finding("gcp", f"GPUs in {place}", Verdict.MISSING, answer, fix)
        return
    for quota in answer.get("quotas", ()):
        name, limit = quota["metric"], quota["limit"]
        if not name.endswith(wanted) or "COMMITTED" in name or "VWS" in name:
            continue
        what = f"{name} in {place}"
        if limit:
            yield Finding("gcp", what, Verdict.FINE, f"{limit:g}, {quota.get('usage', 0):g} in use")
        else:
            fix = f"ask for more at https://console.cloud.google.com/iam-admin/quotas?project={project} (metric {name})"
            yield Finding("gcp", what, Verdict.MISSING, "0", fix)
