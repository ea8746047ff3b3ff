"""What the environment tells a router, on every platform; the only reader of the environment here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_router import s3
from edge_router.exchange import ControlPlane


class WrongSetting(Exception):
    """A variable is missing or makes no sense; the message names it and holds no secret."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One router's environment.

    SAILPLANE_CONTROL_URL   control_url: of the control plane, `http(s)://host[:port][/prefix]`
    SAILPLANE_ROUTER_TOKEN  token: its bearer token; while it is rotated a list with commas, the new one first
    SAILPLANE_REFRESH_S     refresh_s: seconds between exchanges, 0.01 to 3600
    SAILPLANE_ROUTER_ID     router_id: unique among running routers and kept over restarts; "" = to be drawn
    SAILPLANE_SNAPSHOT_URL  snapshot_url: `s3://` (read by role), `https://` or `file://`, of the table for a cold start
                            without control plane
    AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_ENDPOINT_URL
                            role: whose rights `s3://` is read with; Lambda sets them. None without `s3://`
    SAILPLANE_LOCATION      location: `cloud/region[/zone]` of this router, for services that prefer near replicas
    """

    control_url: str
    token: str = field(repr=False)
    refresh_s: float
    router_id: str
    snapshot_url: str = field(repr=False)  # may be signed
    location: str
    role: s3.Role | None

    def control_plane(self, router_id: str, timeout_s: float, *, on_demand: bool = False) -> ControlPlane:
        """The control plane, as the router called `router_id` sees it; the rest as `ControlPlane` takes it.

        Raises:
            WrongSetting: its URL or the token cannot be used.
        """
        try:
            return ControlPlane(self.control_url, self.token, router_id, timeout_s, on_demand=on_demand)
        except ValueError as error:
            raise WrongSetting(f"SAILPLANE_CONTROL_URL or SAILPLANE_ROUTER_TOKEN: {error}") from None


def from_env(*, refresh_s: float, env: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process; `refresh_s` where the environment does not say.

    Raises:
        WrongSetting: a variable is missing or makes no sense.
    """
    snapshot_url = env.get("SAILPLANE_SNAPSHOT_URL", "")
    return Settings(
        control_url=_required(env, "SAILPLANE_CONTROL_URL"),
        token=_required(env, "SAILPLANE_ROUTER_TOKEN"),
        refresh_s=_refresh_s(env.get("SAILPLANE_REFRESH_S") or str(refresh_s)),
        router_id=env.get("SAILPLANE_ROUTER_ID", ""),
        snapshot_url=snapshot_url,
        location=env.get("SAILPLANE_LOCATION", ""),
        role=_role(env) if snapshot_url.startswith("s3://") else None,
    )


def _required(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "")
    if not value:
        raise WrongSetting(f"{name} is not set: the edge router cannot find the control plane without it.")
    return value


def _role(env: Mapping[str, str]) -> s3.Role:
    region, key_id, secret = (env.get(f"AWS_{name}", "") for name in ("REGION", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
    if not (region and key_id and secret):
        raise WrongSetting(
            "SAILPLANE_SNAPSHOT_URL: s3:// is read with AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, which"
            " functions on AWS have; elsewhere give the https:// address of what can be read without them."
        )
    return s3.Role(region, key_id, secret, env.get("AWS_SESSION_TOKEN", ""), env.get("AWS_ENDPOINT_URL", ""))


def _refresh_s(text: str) -> float:
    try:
        refresh_s = float(text)
    except ValueError:
        refresh_s = 0.0
    if not 0.01 <= refresh_s <= 3600:
        raise WrongSetting(f"SAILPLANE_REFRESH_S: {text!r} is not a number of seconds from 0.01 to 3600.")
    return refresh_s
