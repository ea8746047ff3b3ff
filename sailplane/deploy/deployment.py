"""A deployment's name, and what is called after it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chalicelib.errors import Invalid

# The tag of everything that a deployment makes, machines included.
TAG = "sailplane-deployment"
# What the functions read under `parameters`: the name of each is that of the variable which it stands for.
ADMIN_KEY = "SAILPLANE_ADMIN_KEY"
ROUTER_TOKEN = "SAILPLANE_ROUTER_TOKEN"  # noqa: S105 a name
AGENT_KEY = "SAILPLANE_AGENT_KEY"
# Of a provider that is not where the functions run.
CREDENTIALS = {"gcp": "SAILPLANE_GCP_CREDENTIALS", "azure": "SAILPLANE_AZURE_CREDENTIALS"}
KEYS = (ADMIN_KEY, ROUTER_TOKEN, AGENT_KEY)
FUNCTIONS = ("api", "machines", "tick", "relay", "interrupt", "edge")

_NAME = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Deployment:
    """One control plane in one account and region. Raises `Invalid` for a name that not all clouds take."""

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Invalid(
                f"{self.name!r} cannot be a deployment's name: 2 to 40 characters of a-z, 0-9 and -, a letter first, "
                "no - at the end. Nothing was changed."
            )

    @property
    def stack(self) -> str:
        """The name of its CloudFormation stack."""
        return f"sailplane-{self.name}"

    @property
    def parameters(self) -> str:
        """The path of its parameters in SSM, without a slash at the end."""
        return f"/sailplane/{self.name}"

    @property
    def secrets(self) -> str:
        """The path of its users' secrets there, with a slash at the end."""
        return f"{self.parameters}/secrets/"

    @property
    def rules(self) -> tuple[str, str]:
        """The rules of EventBridge that wake functions while there are services."""
        return f"{self.stack}-tick", f"{self.stack}-interrupt"

    @property
    def relay(self) -> str:
        """The function that a queue wakes while there are services."""
        return f"{self.stack}-relay"

    @property
    def log_groups(self) -> tuple[str, ...]:
        """Where its functions log. Whole names: a prefix would be another deployment's too."""
        return tuple(f"/aws/lambda/{self.stack}-{function}" for function in FUNCTIONS)
