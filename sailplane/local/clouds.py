"""AWS, GCP and Azure on this machine, for trying a service on several clouds without an account.

They are the same clouds in a box that the tests run on, so they come with a checkout and not with an installed package.
Their machines are processes and go with them.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast
from urllib.parse import urlsplit

import httpx

from chalicelib.bootstrap import Providers
from chalicelib.errors import Invalid, NotFound, Unreachable
from chalicelib.model import Instance, LaunchRequest, Leftover
from chalicelib.ports import Janitor, Provider
from chalicelib.providers.local.processes import TAG, kill_all
from sailplane.local.processes import end_child

NAMES = ("aws", "gcp", "azure")
STOP_S = 10.0

_CHECKOUT = Path(__file__).parents[2]
_log = logging.getLogger(__name__)


def require_checkout() -> None:
    """Raise `Invalid` unless this is a checkout with its development tools."""
    if not (_CHECKOUT / "tests" / "clouds" / "__main__.py").exists():
        raise Invalid("--clouds needs a checkout of Sailplane's repository, made ready with `make setup`.")


class Clouds:
    """One process that is all of the named clouds, from `with` to the end of its block; however it ends, its machines end too.

    Args:
        names: of `NAMES`.
        root: where their machines keep their files.
        log: takes what the process complains about.

    Raises `Unreachable` on entering when the process does not come up.
    """

    def __init__(self, names: Sequence[str], root: Path, log: Path) -> None:
        self.endpoints: Mapping[str, str] = {}
        self._admin = ""
        self._names = names
        self._root = root.resolve()  # processes are recognised by the path
        self._log = log

    def __enter__(self) -> Self:
        self._sweep()  # a supervisor that was killed could not
        self._root.mkdir(parents=True, mode=0o700)
        command = [sys.executable, "-m", "tests.clouds", "--root", str(self._root), *self._names]
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for the supervisor, which stops things in order.
            self._process = subprocess.Popen(
                command,
                cwd=_CHECKOUT,
                env={
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
                    "HOME": str(self._root),
                    TAG: str(self._root),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._told = cast("IO[bytes]", self._process.stdout)  # a pipe, as asked for
        told = self._told.readline()
        if not told:
            self._process.wait()
            raise Unreachable(f"The clouds do not start; see {self._log}.")
        document = json.loads(told)
        self.endpoints, self._admin = document["endpoints"], document["admin"]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        end_child(self._process, STOP_S)
        self._sweep()

    def _sweep(self) -> None:
        """End clouds, then their machines, whoever started them, and drop the machines' files: they hold secrets."""
        for directory in (self._root, *self._root.glob("*")):
            kill_all(directory, None, is_locked=lambda: False)
        shutil.rmtree(self._root, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """What tells the control plane where they are."""
        invented = {
            "SAILPLANE_AWS_REGIONS": "us-east-1,us-east-2,us-west-2",  # every region is asked in every pass
            "SAILPLANE_GCP_PROJECT": "sailplane-local",
            "SAILPLANE_AZURE_SUBSCRIPTION": "00000000-0000-0000-0000-000000000001",
            "SAILPLANE_AZURE_RESOURCE_GROUP": "sailplane",
        }
        return invented | {f"SAILPLANE_{name.upper()}_ENDPOINT": url for name, url in self.endpoints.items()}

    def deliver(self, handle: Callable[[Mapping[str, Any]], None]) -> None:
        """Hand every event the clouds emit to `handle`, in a thread that ends with them."""

        def listen() -> None:
            with self._told:
                for line in self._told:
                    handle(json.loads(line))

        threading.Thread(target=listen, name="events", daemon=True).start()

    def check(self) -> None:
        """Raise `Unreachable` when the process has ended by itself."""
        if (code := self._process.poll()) is not None:
            raise Unreachable(f"The clouds ended with code {code}, and their machines with them; see {self._log}.")

    def breakable(self, providers: Mapping[str, Provider]) -> Mapping[str, Provider]:
        """The same providers, those of boxed clouds able to break their machines when told to."""
        return Providers({name: partial(self._breakable, providers, name) for name in providers})

    def tell(self, cloud: str, action: str, body: Mapping[str, Any]) -> None:
        """Break one of a cloud's machines. Raises `NotFound` when it does not run, `Unreachable`."""
        parts = urlsplit(self._admin)
        url = f"http://{parts.hostname}:{parts.port}/{action}"
        headers = {"Authorization": f"Bearer {parts.username}"}
        try:
            answer = httpx.post(url, json={"cloud": cloud, **body}, headers=headers, timeout=10)
        except httpx.TransportError as error:
            raise Unreachable(f"The boxed clouds do not answer: {error}") from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise NotFound(f"Replica {body['replica_id']} has no running machine on {cloud}.")
        answer.raise_for_status()

    def _breakable(self, providers: Mapping[str, Provider], name: str) -> Provider:
        provider = providers[name]
        if name in self.endpoints and isinstance(provider, Janitor):
            return Breakable(provider, provider, self)
        return provider


class Breakable:
    """A boxed cloud's provider that is a `ports.FaultInjector` as well. `provider` and `janitor` are the same object."""

    def __init__(self, provider: Provider, janitor: Janitor, clouds: Clouds) -> None:
        self.name = provider.name
        self.listing_lag_s = (
            0.0  # a box lists what it has, so nobody waits for half a minute to be sure that it is gone
        )
        self._provider = provider
        self._janitor = janitor
        self._clouds = clouds

    def list_instances(self) -> tuple[Instance, ...]:
        return self._provider.list_instances()

    def launch(self, request: LaunchRequest) -> Instance:
        return self._provider.launch(request)

    def terminate(self, replica_id: str, instance_id: str) -> None:
        self._provider.terminate(replica_id, instance_id)

    def read_log(self, replica_id: str, instance_id: str, tail: int) -> str | None:
        return self._provider.read_log(replica_id, instance_id, tail)

    def leftovers(self, live: frozenset[str]) -> tuple[Leftover, ...]:
        return self._janitor.leftovers(live)

    def remove(self, leftover: Leftover) -> None:
        self._janitor.remove(leftover)

    def preempt(self, replica_id: str, notice_s: float) -> None:
        self._clouds.tell(self.name, "preempt", {"replica_id": replica_id, "notice_s": notice_s})

    def kill(self, replica_id: str) -> None:
        self._clouds.tell(self.name, "kill", {"replica_id": replica_id})
