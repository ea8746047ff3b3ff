"""The texts of the service's secrets: asked for when the replica starts, kept in this process and its engine's, never on disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import aiohttp

from replica_agent.config import Config
from replica_agent.notice import NONSENSE

_TIMEOUT_S = 30.0  # as long as API Gateway waits for its function
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 15.0
# Until then nothing listens here, so that the control plane, which may be well but for its store of secrets, sees a machine
# that does not come up; afterwards it sees why.
_PATIENCE_S = 120.0


class Refused(Exception):
    """The engine cannot have its secrets; the message says why, and holds none of them."""


class _NotNow(Exception):
    """The control plane cannot tell them at the moment; the message is its own."""


async def with_secrets(
    config: Config, asker: str, say: Callable[[str], None], patience_s: float = _PATIENCE_S
) -> Config:
    """The configuration with its secrets, asked for until there is an answer. Raises `Refused`, also when none came in time.

    `asker`: 32 random hexadecimal digits; the control plane tells nobody but the first of them.
    """
    if not config.secrets_url:
        return config
    async with aiohttp.ClientSession() as session:
        secrets = await _told(config, asker, session, say, time.monotonic() + patience_s)
    engine_key = secrets.get(config.engine_key_env, config.engine_key)
    if not (engine_key.isascii() and engine_key.isprintable()):
        raise Refused(f"the secret behind {config.engine_key_env} holds a character that no header can carry")
    return replace(config, secrets=secrets, engine_key=engine_key)


async def _told(
    config: Config, asker: str, session: aiohttp.ClientSession, say: Callable[[str], None], deadline: float
) -> Mapping[str, str]:
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return await _ask(config, asker, session)
        except _NotNow as error:
            why = f"the control plane does not tell the secrets: {error}"
        except aiohttp.ClientResponseError as error:
            why = f"the control plane does not tell the secrets: HTTP {error.status}"
        except (aiohttp.ClientError, TimeoutError, *NONSENSE) as error:
            # Not the error's text, which may hold what was answered.
            why = f"the control plane does not tell the secrets: {type(error).__name__}"
        if time.monotonic() + pause_s > deadline:
            raise Refused(why)
        say(f"{why}; again in {pause_s:g} s")
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _ask(config: Config, asker: str, session: aiohttp.ClientSession) -> Mapping[str, str]:
    async with session.post(
        config.secrets_url,
        json={"boot_nonce": config.boot_nonce, "asker": asker},
        headers={"Authorization": f"Bearer {config.agent_token}"},
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        allow_redirects=False,
    ) as answer:
        # A gateway in between may answer errors too, while it is being changed; the control plane's word has a form.
        if answer.content_type.endswith("problem+json"):
            why = str((await answer.json(content_type=None))["detail"])
            if answer.status < 500:
                raise Refused(f"the control plane does not tell the secrets: {why}")
            raise _NotNow(why)
        answer.raise_for_status()
        envs = (await answer.json())["envs"]
    return {str(name): str(text) for name, text in envs.items()}
