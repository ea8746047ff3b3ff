"""The texts of the service's secrets: asked for when the replica starts, kept in this process and its engine's, never on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import aiohttp

from replica_agent.config import Config
from replica_agent.notice import NONSENSE

_TIMEOUT_S = 30.0  # as long as API Gateway waits for its function
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 15.0


class Refused(Exception):
    """The engine cannot have its secrets; the message says why, and holds none of them."""


async def with_secrets(config: Config, say: Callable[[str], None]) -> Config:
    """The configuration with its secrets, asked for until there is an answer. Raises `Refused`."""
    if not config.secrets_url:
        return config
    async with aiohttp.ClientSession() as session:
        secrets = await _told(config, session, say)
    engine_key = secrets.get(config.engine_key_env, config.engine_key)
    if not (engine_key.isascii() and engine_key.isprintable()):
        raise Refused(f"the secret behind {config.engine_key_env} holds a character that no header can carry")
    return replace(config, secrets=secrets, engine_key=engine_key)


async def _told(config: Config, session: aiohttp.ClientSession, say: Callable[[str], None]) -> Mapping[str, str]:
    """A control plane that does not answer is asked again for as long as the machine is there: it gives replicas up by itself."""
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return await _ask(config, session)
        except (aiohttp.ClientError, TimeoutError, *NONSENSE) as error:
            # Not the error's text, which may hold what was answered.
            say(f"the control plane does not tell the secrets: {type(error).__name__}; again in {pause_s:g} s")
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _ask(config: Config, session: aiohttp.ClientSession) -> Mapping[str, str]:
    async with session.post(
        config.secrets_url,
        json={"boot_nonce": config.boot_nonce},
        headers={"Authorization": f"Bearer {config.agent_token}"},
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        allow_redirects=False,
    ) as answer:
        # A gateway in between may answer 4xx too, while it is being changed; the control plane's word has a form.
        if 400 <= answer.status < 500 and answer.content_type.endswith("problem+json"):
            why = (await answer.json(content_type=None))["detail"]
            raise Refused(f"the control plane does not tell the secrets: {why}")
        answer.raise_for_status()
        envs = (await answer.json())["envs"]
    return {str(name): str(text) for name, text in envs.items()}
