"""What the environment tells a router, on every platform; the only reader of the environment here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

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
    SAILPLANE_SNAPSHOT_URL  snapshot_url: `https://` or `file://`, of the table for a cold start without control plane
    SAILPLANE_LOCATION      location: `cloud/region[/zone]` of this router, for services that prefer near replicas
    """

    control_url: str
    token: str = field(repr=False)
    refresh_s: float
    router_id: str
    snapshot_url: str = field(repr=False)  # may be signed
    location: str

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
    return Settings(
        control_url=_required(env, "SAILPLANE_CONTROL_URL"),
        token=_required(env, "SAILPLANE_ROUTER_TOKEN"),
        refresh_s=_refresh_s(env.get("SAILPLANE_REFRESH_S") or str(refresh_s)),
        router_id=env.get("SAILPLANE_ROUTER_ID", ""),
        snapshot_url=env.get("SAILPLANE_SNAPSHOT_URL", ""),
        location=env.get("SAILPLANE_LOCATION", ""),
    )


def _required(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "")
    if not value:
        raise WrongSetting(f"{name} is not set: the edge router cannot find the control plane without it.")
    return value


def _refresh_s(text: str) -> float:
    try:
        refresh_s = float(text)
    except ValueError:
        refresh_s = 0.0
    if not 0.01 <= refresh_s <= 3600:
        raise WrongSetting(f"SAILPLANE_REFRESH_S: {text!r} is not a number of seconds from 0.01 to 3600.")
    return refresh_s
