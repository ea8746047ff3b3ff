"""One base URL for all services: OpenAI's list of models, and which service a model is of. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from edge_router import keys
from edge_router.messages import Refusal, Response, answer
from edge_router.patience import GLANCE_S
from edge_router.table import Key, Service, Table

PATH = b"v1/models"


def service_of(table: Table, key: Key | None, model: str) -> str:
    """The name of the service that has `model`, the first one by name of those that `key` may use.

    Raises:
        Refusal: 404, there is none.
    """
    for name, service in _usable(table, key):
        if model in service.models:
            return name
    detail = f"There is no model {model[:100]!r} for this key. GET /v1/models lists those that there are."
    raise Refusal(404, "Not Found", detail, hold_s=GLANCE_S)


def listing(table: Table, key: Key | None, rest: bytes) -> Response:
    """The answer to GET /v1/models, and to GET /v1/models/<id>, where `rest` is `/<id>`.

    Raises:
        Refusal: 401 for nobody, where nothing is open to all; 404 for an id that is not there.
    """
    refuse_nobody(table, key)
    known = {
        model: {"id": model, "object": "model", "created": int(table.issued_at), "owned_by": name}
        for name, service in _usable(table, key)
        for model in service.models
    }
    wanted = rest.removeprefix(b"/").decode("latin-1")
    if not wanted:
        return answer({"object": "list", "data": list(known.values())})
    if wanted not in known:
        raise Refusal(
            404, "Not Found", "There is no such model for this key. GET /v1/models lists those that there are."
        )
    return answer(known[wanted])


def refuse_nobody(table: Table, key: Key | None) -> None:
    """Raise 401 for who has no key, unless there is a service that needs none."""
    if key is None and not any(service.access == "open" for service in table.services.values()):
        raise keys.unauthorized()


def _usable(table: Table, key: Key | None) -> Iterator[tuple[str, Service]]:
    for name, service in sorted(table.services.items()):
        if service.access == "open" or (key and key.permits(name)):
            yield name, service
