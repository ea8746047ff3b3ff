"""What functions in AWS need to make machines in another cloud: read from the user's files, asked for when it is missing."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from chalicelib import credentials
from chalicelib.errors import Invalid
from sailplane.deploy.deployment import CREDENTIALS

# What a standard parameter of SSM holds, at no price: https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html
LONGEST_BYTES = 4096
_READ = {"gcp": credentials.gcp, "azure": credentials.azure}
# The command by which the user gets the file. It ends in what bootstrap is given.
_HOW = {
    "gcp": (
        "It can hold no secret at all: docs/deploy.md makes a pool of identities that trusts this AWS account, then\n"
        "  gcloud iam workload-identity-pools create-cred-config "
        "projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER "
        "--service-account=NAME@{GcpProject}.iam.gserviceaccount.com --aws --output-file=gcp.json"
    ),
    "azure": (
        "Make a service principal that may change this one resource group:\n"
        "  (umask 077; az ad sp create-for-rbac --name sailplane --role Contributor "
        "--scopes '/subscriptions/{AzureSubscription}/resourceGroups/{AzureResourceGroup}' "
        "--query '{{tenant_id:tenant,client_id:appId,client_secret:password}}' > azure.json)"
    ),
}


def read(files: Mapping[str, Path]) -> dict[str, str]:
    """What is kept of the files, which are given by cloud: by the name of the variable that each stands for.

    Raises `Invalid`, without a word of what is in the file.
    """
    return {CREDENTIALS[cloud]: _read(cloud, path) for cloud, path in files.items()}


def require(clouds: Collection[str], given: Collection[str], kept: Collection[str], known: Mapping[str, str]) -> None:
    """Raise `Invalid` when functions would have no credentials for one of `clouds`, or get some that they do not need.

    Args:
        clouds: where machines are made.
        given: the variables that there are files for.
        kept: the variables that the deployment has already.
        known: the template's parameters, which the commands that are told name.
    """
    for cloud, name in CREDENTIALS.items():
        if cloud not in clouds and name in given:
            raise Invalid(f"--{cloud}-credentials: {cloud} is none of --providers. Nothing was changed.")
        if cloud in clouds and name not in {*given, *kept}:
            raise Invalid(
                f"To make machines on {cloud}, functions in AWS need --{cloud}-credentials FILE. Nothing was changed.\n"
                f"{_HOW[cloud].format_map(known)}\nThen run this again with --{cloud}-credentials {cloud}.json."
            )


def _read(cloud: str, path: Path) -> str:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        raise Invalid(f"--{cloud}-credentials: {path} cannot be read as text. Nothing was changed.") from None
    try:
        kept = json.dumps(_READ[cloud](text), separators=(",", ":"))
    except Invalid as error:
        raise Invalid(f"--{cloud}-credentials: {path}: {error} Nothing was changed.") from None
    if len(kept) > LONGEST_BYTES:
        raise Invalid(
            f"--{cloud}-credentials: {path} comes to {len(kept):,} bytes, and SSM keeps {LONGEST_BYTES:,}: use a smaller key "
            "(one of 2,048 bits fits), or for Google none at all, see docs/deploy.md. Nothing was changed."
        )
    return kept
