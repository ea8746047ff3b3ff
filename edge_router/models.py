"""One base URL for all services: OpenAI's list of models, and which service a model is of. Pure."""

from __future__ import annotations

from edge_router import keys
from edge_router.messages import Refusal, Response, answer
from edge_router.patience import GLANCE_S
from edge_router.table import Key, Table

PATH = b"v1/models"


def service_of(table: Table, key: Key | None, model: str) -> str:
    """The name of the service that has `model`.

    Raises:
        Refusal: 404, there is none.
    """
    name = _owners(table, key).get(model)
    if name is None:
        raise _no_model(f"model {model[:100]!r}", key, hold_s=GLANCE_S)
    return name


def listing(table: Table, key: Key | None, rest: bytes) -> Response:
    """The answer to GET /v1/models, and to GET /v1/models/<id>, where `rest` is `/<id>`.

    Raises:
        Refusal: 401 for nobody, where nothing is open to all; 404 for an id that is not there.
    """
    refuse_nobody(table, key)
    known = {
        model: {"id": model, "object": "model", "created": int(table.issued_at), "owned_by": name}
        for model, name in _owners(table, key).items()
    }
    wanted = rest.removeprefix(b"/").decode("latin-1")
    if not wanted:
        return answer({"object": "list", "data": list(known.values())})
    if wanted not in known:
        raise _no_model("such model", key)
    return answer(known[wanted])


def refuse_nobody(table: Table, key: Key | None) -> None:
    """Raise 401 for who has no key, unless there is a service that needs none."""
    if key is None and not any(service.access == "open" for service in table.services.values()):
        raise keys.unauthorized()


def _owners(table: Table, key: Key | None) -> dict[str, str]:
    """The models that `key` may use, each with its service: where several claim one, the first by name of those."""
    owners: dict[str, str] = {}
    for name, service in sorted(table.services.items()):
        if service.access == "open" or (key and key.permits(name)):
            for model in service.models:
                owners.setdefault(model, name)
    return owners


def _no_model(what: str, key: Key | None, *, hold_s: float = 0.0) -> Refusal:
    whose = " for this key" if key else ""
    detail = f"There is no {what}{whose}. GET /v1/models lists those that there are."
    return Refusal(404, "Not Found", detail, hold_s=hold_s)
