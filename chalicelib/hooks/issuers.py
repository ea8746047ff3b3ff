"""Who issues identity tokens to CI jobs, and where below an issuer's URL the keys are that it signs them with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chalicelib.model import OidcIssuer

DEFAULT: Final[Mapping[OidcIssuer, str]] = {
    OidcIssuer.GITHUB: "https://token.actions.githubusercontent.com",
    OidcIssuer.GITLAB: "https://gitlab.com",
}
JWKS_PATH: Final[Mapping[OidcIssuer, str]] = {
    OidcIssuer.GITHUB: "/.well-known/jwks",
    OidcIssuer.GITLAB: "/oauth/discovery/keys",
}
