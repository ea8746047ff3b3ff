"""Deploys a service file from a CI job that Sailplane trusts: `python3 deploy.py SERVICE FILE`.

Copy it beside the service file; it needs Python 3.9 and nothing else, so no stranger's package runs where the key is. The job
shows the identity token of its forge and gets a key for 15 minutes, which never leaves this process. Exits with 1 if anything
is refused or the new version fails; the version before then serves on.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROLLED_OUT_WITHIN_S = 840.0  # of the 15 minutes that the key is good for
LOOK_EVERY_S = 5.0
TRIES = 4  # of one question, when nobody answers
TIMEOUT_S = 30.0
# Why a replica ended that another machine will not mend.
OWN_FAULT = ("ENGINE_EXITED", "INITIAL_DELAY_EXCEEDED", "UNHEALTHY")


def main(service: str, file: Path, env: Mapping[str, str], pause: Callable[[float], None] = time.sleep) -> None:
    """Change the service to what the file says and wait until that is rolled out. Ends with `SystemExit` if it is not."""
    for name in ("SAILPLANE_URL", "SAILPLANE_AUDIENCE"):
        if not env.get(name):
            sys.exit(f"{name} is not set: `sailplane trust create` prints it.")
    key = exchanged(env, pause)
    url = f"{env['SAILPLANE_URL'].rstrip('/')}/v1/services/{urllib.parse.quote(service, safe='')}"
    found = ask("PUT", url, key, {"yaml": file.read_text(encoding="utf-8")}, pause=pause)
    wanted, shown, waited_s = found["version"], "", 0.0
    while found["version"] == wanted:
        if (line := f"{service}: version {wanted}, {found['status']}. {found['message']}") != shown:
            print(shown := line, flush=True)
        if not found["updating"] and found["status"] in ("READY", "IDLE"):
            return
        for replica in found["replicas"]:
            if replica["version"] == wanted and replica["reason"] in OWN_FAULT:
                sys.exit(
                    f"Version {wanted} fails, {replica['reason']}: {replica['error']}\nSee `sailplane logs {service}`."
                )
        if waited_s >= ROLLED_OUT_WITHIN_S:
            sys.exit(f"It is still being rolled out: `sailplane status {service} --watch`.")
        pause(LOOK_EVERY_S)
        waited_s += LOOK_EVERY_S
        found = ask("GET", url, key, pause=pause)
    sys.exit(f"Somebody else has moved {service} to version {found['version']} meanwhile.")


def exchanged(env: Mapping[str, str], pause: Callable[[float], None]) -> str:
    """The key that the control plane gives for the job's identity token."""
    audience, forge, token = env["SAILPLANE_AUDIENCE"], "gitlab", env.get("SAILPLANE_ID_TOKEN")
    if not token:
        url, key = env.get("ACTIONS_ID_TOKEN_REQUEST_URL"), env.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
        if not (url and key):
            sys.exit("No identity token: GitHub wants `id-token: write`, GitLab `id_tokens: SAILPLANE_ID_TOKEN`.")
        asked = f"{url}&audience={urllib.parse.quote(audience, safe='')}"
        forge, token = "github", ask("GET", asked, key, pause=pause)["value"]
    made = ask("POST", f"{audience.rstrip('/')}/v1/auth/{forge}", body={"token": token}, pause=pause)
    return str(made["key"])


def ask(
    method: str,
    url: str,
    key: str = "",
    body: Mapping[str, Any] | None = None,
    *,
    pause: Callable[[float], None],
) -> dict[str, Any]:
    """What is answered. Ends the job with the words of a refusal; who does not answer is asked again."""
    sent = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, sent, {"Content-Type": "application/json"}, method=method)  # noqa: S310 the job's own settings
    if key:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    trouble = ""
    for attempt in range(TRIES):
        pause(LOOK_EVERY_S if attempt else 0.0)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 as above
                document: dict[str, Any] = json.load(answer)
                return document
        except urllib.error.HTTPError as error:
            trouble = f"{error.code} {error.read().decode(errors='replace')}"
            if error.code < 500:
                break
        except OSError as error:
            trouble = str(error)
    sys.exit(f"{method} {url}: {trouble}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Usage: deploy.py SERVICE FILE")
    main(sys.argv[1], Path(sys.argv[2]), os.environ)
