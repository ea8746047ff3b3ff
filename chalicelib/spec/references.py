"""`secrets:` of a service file: which variables of a replica come from which secrets. No text of one stands in a file.

SkyServe's forms of a reference are honoured (`NAME:` without a value, `secrets:NAME` in a map or a list); its texts in the
file are refused, because Sailplane keeps every version of a file and gives it back to whoever may read the service.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from chalicelib.errors import Problem, SecretsUnusable
from chalicelib.model import SECRET_NAME, Secret, ServiceSpec
from chalicelib.spec.document import Document, KeyPath, dotted
from chalicelib.spec.environment import NAME, SUBSTITUTED, mentioned
from chalicelib.spec.values import Broken

_MARK = "secrets:"  # SkyServe's, of a reference
_SCOPES = ("personal.", "workspace.", "global.")  # SkyServe's, of whose secrets are meant
_OURS = ("SAILPLANE_", "SKYPILOT_")
# SkyServe's, of a private registry that images are pulled from.
_REGISTRY = frozenset(f"SKYPILOT_DOCKER_{name}" for name in ("SERVER", "USERNAME", "PASSWORD"))


def variables(written: Any) -> frozenset[str]:
    """The variables that a `secrets:` names, whatever else is wrong with it."""
    named = written if isinstance(written, dict | list) else ()
    return frozenset(str(each).removeprefix(_MARK) for each in named)


def bound(written: Mapping[str, Any] | list[str] | None) -> dict[str, str]:
    """Variable to name of its secret, of a `secrets:` in which nothing is broken."""
    if isinstance(written, list):
        return {item.removeprefix(_MARK): item.removeprefix(_MARK) for item in written}
    named = {key.removeprefix(_MARK): value for key, value in (written or {}).items()}
    return {name: name if value is None else value.ref for name, value in named.items()}


def wrong(written: Mapping[str, Any] | list[str], envs: Iterable[str]) -> Iterator[Broken]:
    """What is wrong with a `secrets:`, beside `envs`. Nothing is repeated that may be a text put in the wrong place."""
    seen: set[str] = set()
    for at, (key, value) in _entries(written):
        name = key.removeprefix(_MARK)
        reason, hint = _fault(key, name, value) or ("", "")
        if name in envs:
            reason, hint = f"gives {name}, which is among envs too", "keep it in one of them"
        elif name in seen:
            reason, hint = f"gives {name} twice", ""
        seen.add(name)
        if reason:
            yield Broken(reason, hint, (at,))


def _entries(written: Mapping[str, Any] | list[str]) -> Iterator[tuple[str | int, tuple[str, Any]]]:
    if isinstance(written, list):
        yield from ((index, (item if item.startswith(_MARK) else "", None)) for index, item in enumerate(written))
    else:
        yield from ((key, (key, value)) for key, value in written.items())


def _fault(key: str, name: str, value: Any) -> tuple[str, str] | None:
    if not key:
        return "is not a reference to a secret", "write secrets:NAME, e.g. secrets:HF_TOKEN"
    if name.startswith(_SCOPES):
        return "names a scope, of which Sailplane has none", f"write {key.replace(name, name.partition('.')[2])}"
    if not NAME.fullmatch(name):
        return "is not a variable's name", f"write the variable, e.g. {_variable(name)}: {{ref: {name}}}"
    if name.startswith(_OURS) and name not in _REGISTRY:
        return "is a variable that Sailplane sets itself", "choose another name"
    if value is not None and not hasattr(value, "ref"):
        hint = f"keep it with `sailplane secrets set {name} --service SERVICE`, and write `{name}:` without a value"
        return "holds a secret's text, which would be kept with every version of this file", hint
    return None


def _variable(name: str) -> str:
    """What a variable for the secret `hf-token` is usually called."""
    return re.sub(r"^(?=[0-9])|[^A-Za-z0-9_]", "_", name).upper()


def half_a_registry(document: Document, envs: Iterable[str]) -> Iterator[Problem]:
    """Pulling from a private registry takes its server, a username and a password, each from `envs` or from `secrets`."""
    given = _REGISTRY & {*envs, *variables(document.data.get("secrets"))}
    if given and given != _REGISTRY:
        missing = ", ".join(sorted(_REGISTRY - given))
        yield document.problem(("secrets",), f"pulling from a private registry needs {missing} too", "or none of them")


def is_name(text: str) -> bool:
    """Whether a secret can be called so."""
    return re.fullmatch(SECRET_NAME, text) is not None


def misplaced(document: Document) -> Iterator[Problem]:
    """Where a text would have to be put into the file: the control plane reads it, and must not know any."""
    names = variables(document.data.get("secrets"))
    for section in SUBSTITUTED:
        for path, name in _mentions(document.data.get(section), (section,)):
            if name in names:
                is_header = "headers" in path
                engine_key = f"Sailplane shows an engine its key by itself: write access: {{engine_key_env: {name}}}"
                elsewhere = f"setup and run find it in ${name} on the replica"
                hint = engine_key if is_header else elsewhere
                yield document.problem(path, f"uses ${name}, a secret, whose text is known to replicas only", hint)


def _mentions(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    match value:
        case str():
            yield from ((path, name) for name in mentioned(value))
        case list():
            for index, item in enumerate(value):
                yield from _mentions(item, (*path, index))
        case dict():
            for key, item in value.items():
                yield from ((path, name) for name in mentioned(key))
                yield from _mentions(item, (*path, key))


def with_secrets(service: ServiceSpec, name: str, known: Iterable[Secret]) -> ServiceSpec:
    """The service `name` as it is with the secrets that there are now: replicas made of others are replaced by an update.

    Raises `SecretsUnusable` for those that are missing, or that other services have.
    """
    by_name = {secret.name: secret for secret in known}
    problems = tuple(
        _unusable(variable, secret, name, by_name.get(secret))
        for variable, secret in service.engine.secrets
        if secret not in by_name or not by_name[secret].is_for(name)
    )
    if problems:
        raise SecretsUnusable(problems)
    if not service.engine.secrets:
        return service
    used = sorted({name for _, name in service.engine.secrets})
    made_from = [service.fingerprint, *((name, by_name[name].version, by_name[name].changed_at) for name in used)]
    return replace(service, fingerprint=hashlib.sha256(json.dumps(made_from).encode()).hexdigest())


def _unusable(variable: str, secret: str, service: str, known: Secret | None) -> Problem:
    place = dotted(("secrets", variable))
    if known is None:
        return Problem(place, f"there is no secret {secret!r}", f"sailplane secrets set {secret} --service {service}")
    reason = f"the secret {secret!r} is not for the service {service!r}"
    return Problem(place, reason, f"whoever keeps it may allow it: sailplane secrets allow {secret} {service}")
