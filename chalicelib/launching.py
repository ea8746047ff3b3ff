"""All that a replica's machine and its agent are told, of its record, its service's file and the deployment. Pure."""

from __future__ import annotations

from chalicelib import identity
from chalicelib.model import LaunchRequest, Replica, ServiceSpec
from chalicelib.ports import Settings


def launch_request(replica: Replica, spec: ServiceSpec, settings: Settings) -> LaunchRequest:
    """The request that starts `replica`; `spec` is the version that it was made for. The same again, however often it is asked."""
    key, of_boot = settings.agent_key, (replica.id, replica.boot_nonce)
    return LaunchRequest(
        replica=replica,
        engine=spec.engine,
        agent_token=identity.agent_token(key, *of_boot),
        boot_token=identity.boot_token(key, *of_boot),
        drain_timeout_s=spec.drain_timeout_s,
        access=spec.routing.access,
        edge_url=settings.edge_url,
        grant_keys=identity.grant_keys(settings.router_tokens, *of_boot),
        engine_key=dict(spec.engine.envs).get(spec.routing.engine_key_env, ""),
        engine_key_env=spec.routing.engine_key_env,
    )
