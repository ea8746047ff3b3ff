"""What each operation of the contract does to the book, and its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

from tests.clouds.azure.cloud import Cloud, Machine, Resource
from tests.clouds.azure.wire import Answer, Json, Refused, Request

PAGE = 2  # resources on a page of a list; Azure has hundreds
_RETRY_AFTER_S = "1"


def serve(cloud: Cloud, request: Request) -> Answer:
    """Carry out a request. Raises `Refused`."""
    kind, _, verb = request.operation.rpartition(".")
    if kind == "virtualMachines":
        return _MACHINES[verb](cloud, request)
    if request.operation == "operations.get":
        return _operation(cloud, request)
    if request.operation == "resources.list":
        return _page(request, list(cloud.all_views()))
    return _RESOURCES[verb](cloud, request)


def _create(cloud: Cloud, request: Request) -> Answer:
    existing = cloud.machines.get(request.name.lower())
    if existing is None:
        machine = cloud.order(request.name, request.body)
        return Answer(201, cloud.view(machine), _pending(request, machine, "create"))
    if request.headers.get("if-none-match") == "*":
        raise Refused(412, "PreconditionFailed", f"The resource {existing.id} exists already.")
    if existing.state == "Deleting":
        raise Refused(409, "Conflict", f"{existing.id} is being deleted.")
    return Answer(200, cloud.view(existing))


def _get(cloud: Cloud, request: Request) -> Answer:
    expanded = request.query.get("$expand", "").lower() == "instanceview"
    return Answer(200, cloud.view(cloud.machine(request.name), with_instance=expanded))


def _delete(cloud: Cloud, request: Request) -> Answer:
    if request.name.lower() not in cloud.machines:
        return Answer(204)
    machine = cloud.machine(request.name)
    cloud.delete(machine)
    return Answer(202, None, _pending(request, machine, "delete"))


def _list(cloud: Cloud, request: Request) -> Answer:
    if "$expand" in request.query and "$filter" not in request.query:
        raise Refused(400, "BadRequest", "$expand needs a $filter.")
    return _page(request, [cloud.view(machine) for machine in cloud.listed()])


def _diagnostics(cloud: Cloud, request: Request) -> Answer:
    machine = cloud.machine(request.name)
    if not machine.body["properties"].get("diagnosticsProfile", {}).get("bootDiagnostics", {}).get("enabled"):
        raise Refused(409, "BootDiagnosticsNotEnabled", f"Boot diagnostics is not enabled for {machine.name}.")
    uri = f"{request.base_url}/bootdiagnostics/{machine.vm_id}/{{}}?sig={cloud.blob_key}"
    blobs = {"consoleScreenshotBlobUri": "screenshot.bmp", "serialConsoleLogBlobUri": "serialconsole.log"}
    return Answer(200, {name: uri.format(blob) for name, blob in blobs.items()})


def _pending(request: Request, machine: Machine, what: str) -> Mapping[str, str]:
    """Where the outcome of a long-running operation can be asked for."""
    _, _, subscription, *_ = machine.id.split("/")
    version = request.query["api-version"]
    path = f"/subscriptions/{subscription}/providers/Microsoft.Compute/locations/{machine.location}/operations"
    url = f"{request.base_url}{path}/{what}_{machine.vm_id}?api-version={version}"
    return {"Azure-AsyncOperation": url, "Retry-After": _RETRY_AFTER_S}


def _operation(cloud: Cloud, request: Request) -> Answer:
    what, _, vm_id = request.name.partition("_")
    machine = cloud.by_vm_id(vm_id)
    running = {"create": "Creating", "delete": "Deleting"}[what]
    if machine.state == running:
        return Answer(200, {"name": request.name, "status": "InProgress"}, {"Retry-After": _RETRY_AFTER_S})
    if machine.state == "Failed":
        error = {"code": machine.failure, "message": "Allocation failed."}
        return Answer(200, {"name": request.name, "status": "Failed", "error": error})
    return Answer(200, {"name": request.name, "status": "Succeeded"})


def _put_resource(cloud: Cloud, request: Request) -> Answer:
    existed = request.path.lower() in cloud.resources
    *_, provider, kind, name = request.path.split("/")
    body = request.body
    resource = Resource(request.path, f"{provider}/{kind}", name, body["location"], body["tags"], body["properties"])
    cloud.add(resource)
    return Answer(200 if existed else 201, resource.view())


def _get_resource(cloud: Cloud, request: Request) -> Answer:
    found = cloud.resources.get(request.path.lower())
    if found is None:
        raise Refused(404, "ResourceNotFound", f"The Resource '{request.path}' was not found.")
    return Answer(200, found.view())


def _delete_resource(cloud: Cloud, request: Request) -> Answer:
    found = cloud.resources.get(request.path.lower())
    if found is None:
        return Answer(204)
    cloud.remove(found)
    return Answer(202)


def _list_resources(cloud: Cloud, request: Request) -> Answer:
    kind = request.path.rpartition("/")[2].lower()
    return _page(request, [each.view() for each in cloud.resources.values() if each.type.lower().endswith(f"/{kind}")])


def _page(request: Request, views: list[Json]) -> Answer:
    start = int(request.query.get("$skiptoken", 0))
    page: Json = {"value": views[start : start + PAGE]}
    if start + PAGE < len(views):
        query = {**request.query, "$skiptoken": str(start + PAGE)}
        page["nextLink"] = f"{request.base_url}{request.path}?" + "&".join(
            f"{name}={quote(value)}" for name, value in query.items()
        )
    return Answer(200, page)


_MACHINES: Mapping[str, Callable[[Cloud, Request], Answer]] = {
    "createOrUpdate": _create,
    "get": _get,
    "delete": _delete,
    "list": _list,
    "retrieveBootDiagnosticsData": _diagnostics,
}
_RESOURCES: Mapping[str, Callable[[Cloud, Request], Answer]] = {
    "createOrUpdate": _put_resource,
    "get": _get_resource,
    "delete": _delete_resource,
    "list": _list_resources,
}
