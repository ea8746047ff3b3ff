"""Lists by the page: every element once, whatever the size of the page."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.api import paging
from chalicelib.model import Event, Hook, HookKind, OidcIssuer, Trust
from chalicelib.ports import Commit
from tests.api.conftest import YAML, Api, assert_problem
from tests.fakes import START

LISTS = (
    "services",
    "keys",
    "admin-keys",
    "audit",
    "secrets",
    "webhooks",
    "trusts",
    "services/svc/events",
    "services/svc/versions",
)
MEMBERS = {"audit": "entries", "admin-keys": "keys"}


def filled(api: Api) -> None:
    """A control plane with seven of everything."""
    for number in range(7):
        api.post("/v1/services", {"name": f"svc-{number}", "yaml": YAML})
        api.post("/v1/keys", {"services": ["svc"]})
        api.post("/v1/admin-keys", {"name": "x", "scopes": ["read"]})
        api.world.runtime.secrets.write(f"SECRET_{number}", "text")
        api.world.store.create_hook(Hook(f"hook-{number}", HookKind.GENERIC, f"svc-{number}", START))
        api.world.store.create_trust(
            Trust(f"trust-{number}", OidcIssuer.GITHUB, "https://issuer", "acme/app", ("svc",), START)
        )
    api.post("/v1/services", {"name": "svc", "yaml": YAML})
    api.world.store.commit("svc", None, Commit(events=tuple(Event(START, "x", str(n)) for n in range(7))))
    for number in range(3, 10):
        api.call("PUT", "/v1/services/svc", {"yaml": YAML.replace("replicas: 2", f"replicas: {number}")})


def pages(api: Api, path: str, limit: int) -> list[list[Any]]:
    found: list[list[Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        document = api.get(f"/v1/{path}?limit={limit}{f'&cursor={cursor}' if cursor else ''}").json_body
        found.append(document[MEMBERS.get(path, path.rpartition("/")[2])])
        cursor = document["next"]
    return found


@pytest.mark.parametrize("path", LISTS)
def test_pages_make_up_the_whole(api: Api, path: str) -> None:
    """No page but the last is short, none is empty; events are oldest first on pages that go back."""
    filled(api)
    (whole,) = pages(api, path, 50)
    assert len(whole) >= 7
    for limit in (1, 3, len(whole)):
        parts = pages(api, path, limit)
        assert [len(part) for part in parts[:-1]] == [limit] * (len(parts) - 1)
        assert parts[-1]
        ordered = reversed(parts) if path.endswith("events") else parts
        assert [one for part in ordered for one in part] == whole


@pytest.mark.parametrize("path", LISTS)
def test_a_page_has_a_size(api: Api, path: str) -> None:
    """From one up to what an answer may hold; a cursor is one that was given out."""
    filled(api)
    for query in ("limit=0", "limit=1001", "limit=x", "cursor=", "cursor=xyz", "cursor=0g", "unknown=1"):
        assert_problem(api.get(f"/v1/{path}?{query}"), 422)


def test_what_goes_between_two_pages_costs_nobody_else_a_place(api: Api) -> None:
    """The next page begins where it would have, also when its first element is gone."""
    filled(api)
    first = api.get("/v1/keys?limit=2").json_body
    ids = [key["id"] for key in api.get("/v1/keys").json_body["keys"]]
    api.call("DELETE", f"/v1/keys/{ids[2]}")
    second = api.get(f"/v1/keys?limit=2&cursor={first['next']}").json_body
    assert [key["id"] for key in second["keys"]] == ids[3:5]


@given(st.lists(st.text("ab0#", max_size=4), unique=True), st.integers(1, 5))
def test_any_list_is_cut_into_its_own_elements(items: list[str], limit: int) -> None:
    """Whatever the places are called."""
    whole = sorted(items)
    seen: list[str] = []
    start: str | None = ""
    while start is not None:
        part, start = paging.page(whole, str, start, limit)
        assert len(part) <= limit
        seen += part
    assert seen == whole


@given(st.binary(min_size=1, max_size=256))
def test_every_well_formed_cursor_is_a_place(raw: bytes) -> None:
    """None has to be refused, since none can be told from one that was given out."""
    assert paging.cursor(paging.place(raw.hex())) == raw.hex()
