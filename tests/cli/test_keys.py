"""`sailplane keys`, and what the other commands say of keys."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chalicelib import identity
from tests.cli.conftest import YAML, Plane

DAY_S = 86_400.0
OPENED = YAML.replace("  ports", "  access: {keys: open}\n  ports")


def _create(plane: Plane, *args: str) -> str:
    result = plane.run("keys", "create", *args)
    assert result.exit_code == 0, result.stderr
    return result.stdout.strip()


def test_the_key_alone_is_on_stdout(plane: Plane) -> None:
    """`KEY=$(sailplane keys create SERVICE)` holds it and nothing else; stderr tells what to do and never repeats it."""
    plane.up()
    result = plane.run("keys", "create", "svc", "--name", "laptop")
    (key,) = plane.world.store.endpoint_keys()
    text = result.stdout.strip()
    assert re.fullmatch(rf"sp_{key.id}_[A-Za-z0-9_-]{{43}}", text)
    assert (key.hash, key.name, key.services) == (identity.endpoint_key_hash(text), "laptop", ("svc",))
    assert text not in result.stderr
    assert f"Key {key.id} opens svc and does not expire. It is shown this once" in result.stderr
    assert 'curl -L -H "Authorization: Bearer $KEY" http://127.0.0.1:7490/svc/health\n' in result.stderr
    assert 'openai.OpenAI(base_url="http://127.0.0.1:7490/svc/v1", api_key=KEY)' in result.stderr
    assert "no service" not in result.stderr


def test_a_key_for_what_does_not_exist_yet_is_made_and_said(plane: Plane) -> None:
    """It may be made before the service; a mistyped name is seen at once."""
    result = plane.run("keys", "create", "svc", "later")
    assert result.exit_code == 0
    assert "There is no service 'later' yet" in result.stderr
    assert 'curl -L -H "Authorization: Bearer $KEY" http://127.0.0.1:7490/svc/v1/models\n' in result.stderr
    assert plane.world.store.endpoint_keys()[0].services == ("svc", "later")


def test_a_key_for_everything_says_where_all_models_are(plane: Plane) -> None:
    """The one base URL, under which `model` picks the service."""
    result = plane.run("keys", "create", "--all")
    assert plane.world.store.endpoint_keys()[0].services == ("*",)
    assert "opens all services" in result.stderr
    assert 'base_url="http://127.0.0.1:7490/v1"' in result.stderr


@pytest.mark.parametrize(
    ("options", "expires_in_s", "rate_per_s", "concurrency"),
    [
        (("--expires", "90d", "--rate", "10/s", "--concurrency", "3"), 90 * DAY_S, 10.0, 3),
        (("--expires", "1.5h", "--rate", "30/min"), 5400.0, 0.5, None),
        (("--expires", "2w", "--rate", "360 / h"), 14 * DAY_S, 0.1, None),
        (("--expires", "3650d", "--rate", "3.6/h"), 3650 * DAY_S, 0.001, None),
        (("--expires", "0.1s", "--rate", "1000000/s"), 0.1, 1e6, None),
    ],
)
def test_limits_are_written_as_people_write_them(
    plane: Plane, options: tuple[str, ...], expires_in_s: float, rate_per_s: float, concurrency: int | None
) -> None:
    """A time with its unit, a rate with its own."""
    _create(plane, "svc", *options)
    (key,) = plane.world.store.endpoint_keys()
    assert key.expires_at == key.created_at + expires_in_s
    assert (key.rate_per_s, key.concurrency) == (pytest.approx(rate_per_s), concurrency)


@pytest.mark.parametrize(
    ("args", "exit_code", "said"),
    [
        ((), 2, "or give --all"),
        (("svc", "--all"), 2, "not both"),
        (("svc", "--expires", "90"), 2, "such as 90d"),
        (("svc", "--expires", "soon"), 2, "such as 90d"),
        (("svc", "--rate", "10"), 2, "such as 10/s"),
        (("svc", "--rate", "10/x"), 2, "such as 10/s"),
        (("svc", "--concurrency", "0"), 2, "0 is not in the range"),
        (("svc", "--expires", "0s"), 2, "'0s' is no time: more than 0s"),
        (("svc", "--expires", "99999999d"), 2, "'99999999d' is too long: at most 3650d"),
        (("svc", "--rate", "0/s"), 2, "'0/s' is out of range: from 3.6/h to 1000000/s"),
        (("svc", "--rate", "1000000000/s"), 2, "'1000000000/s' is out of range: from 3.6/h to 1000000/s"),
        (("Not_A_Name",), 3, "cannot name a service"),
    ],
)
def test_what_cannot_be_a_key_makes_none(plane: Plane, args: tuple[str, ...], exit_code: int, said: str) -> None:
    """The message says what is expected, and nothing was made."""
    result = plane.run("keys", "create", *args)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert said in result.stderr
    assert plane.world.store.endpoint_keys() == ()


def test_the_list_shows_everything_but_the_key(plane: Plane) -> None:
    """One line each, in text and in JSON, without text or hash."""
    text = _create(plane, "svc", "--name", "ci", "--rate", "30/min", "--concurrency", "2")
    _create(plane, "--all", "--expires", "1s")
    first, second = plane.world.store.endpoint_keys()
    plane.world.store.record_used({first.id: first.created_at}, first.created_at)
    plane.world.clock.advance(2)
    shown = plane.run("keys", "list").stdout
    heading, one, other = shown.splitlines()
    assert re.split(" {2,}", heading) == [
        "ID",
        "NAME",
        "SERVICES",
        "CREATED",
        "EXPIRES (UTC)",
        "LAST USED (UTC)",
        "LIMITS",
    ]
    assert max(map(len, (heading, one, other))) <= 100
    assert one.startswith(f"{first.id}  ci    svc")
    assert "never" in one
    assert one.endswith("30/min, 2 at once")
    assert other.startswith(f"{second.id}  -     all")
    assert "over 20" in other
    assert other.split()[-2:] == ["never", "-"]
    listed = plane.json("keys", "list")["keys"]
    assert [key["id"] for key in listed] == [first.id, second.id]
    for secret in (text, first.hash):
        assert secret not in shown + str(listed)


def test_no_keys_are_said_to_be_none(plane: Plane) -> None:
    """And what to run to have one."""
    result = plane.run("keys", "list")
    assert result.stdout == "No keys.\n"
    assert "sailplane keys create" in result.stderr


def test_a_key_is_revoked_by_id_or_by_name(plane: Plane) -> None:
    """All that are named, or none of them when one is unknown or not certain."""
    for name in ("a", "b", "twice", "twice"):
        _create(plane, "svc", "--name", name)
    ids = {key.name: key.id for key in plane.world.store.endpoint_keys()}
    unknown = plane.run("keys", "revoke", "a", "nobody")
    assert (unknown.exit_code, len(plane.world.store.endpoint_keys())) == (4, 4)
    assert "There is no key 'nobody'" in unknown.stderr
    assert "Next:\n  sailplane keys list" in unknown.stderr
    unsure = plane.run("keys", "revoke", "a", "twice")
    assert (unsure.exit_code, len(plane.world.store.endpoint_keys())) == (3, 4)
    assert "Give the id" in unsure.stderr
    assert plane.json("keys", "revoke", "a", ids["b"]) == {"revoked": [ids["a"], ids["b"]]}
    assert {key.name for key in plane.world.store.endpoint_keys()} == {"twice"}


def test_an_expired_key_does_not_make_its_name_uncertain(plane: Plane) -> None:
    """It is listed for a week yet opens nothing: the name means the one that does. It is found where it is the only one."""
    _create(plane, "svc", "--name", "ci", "--expires", "1s")
    plane.world.clock.advance(2)
    _create(plane, "svc", "--name", "ci")
    expired, valid = (key.id for key in plane.world.store.endpoint_keys())
    assert plane.json("keys", "revoke", "ci") == {"revoked": [valid]}
    assert plane.json("keys", "revoke", "ci") == {"revoked": [expired]}


def test_the_longest_overlap_is_said_in_days(plane: Plane) -> None:
    """And none at all is one: the old key ends at once."""
    _create(plane, "svc", "--name", "ci")
    result = plane.run("keys", "rotate", "ci", "--overlap", "366d")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'366d' is too long: at most 365d" in result.stderr
    assert plane.run("keys", "rotate", "ci", "--overlap", "0s").exit_code == 0


def test_a_rotation_prints_the_new_key_and_until_when_the_old_one_works(plane: Plane) -> None:
    """A day unless told otherwise."""
    old_text = _create(plane, "svc", "--name", "ci", "--rate", "1/s")
    (old,) = plane.world.store.endpoint_keys()
    result = plane.run("keys", "rotate", "ci")
    assert result.exit_code == 0, result.stderr
    first, second = plane.world.store.endpoint_keys()
    assert result.stdout.strip() != old_text
    assert second.hash == identity.endpoint_key_hash(result.stdout.strip())
    assert replace(second, id="", hash="", created_at=0) == replace(old, id="", hash="", created_at=0)
    assert first.expires_at == second.created_at + DAY_S
    end = datetime.fromtimestamp(second.created_at + DAY_S, UTC)
    assert f"{old.id} works until {end:%Y-%m-%d %H:%M:%S} UTC: give" in result.stderr
    assert f"{end:%Y-%m-%d %H:%M}" in plane.run("keys", "list").stdout
    again = plane.json("keys", "rotate", second.id, "--overlap", "30min")
    assert {"key", "id", "name", "services", "rate_per_s", "concurrency", "expires_at"} <= again.keys()
    ends = {key.id: key.expires_at for key in plane.world.store.endpoint_keys()}
    assert ends[second.id] == plane.world.store.endpoint_keys()[-1].created_at + 1800


def test_a_service_that_asks_for_keys_and_has_none_says_how_to_get_one(plane: Plane) -> None:
    """`up` and `status` name the command; with a key that opens it they do not, and the example carries the header."""
    call = 'curl -L -H "Authorization: Bearer $KEY" http://127.0.0.1:7490/svc/health\n'
    for shown in (plane.up(), plane.run("status", "svc")):
        assert "KEY=$(sailplane keys create svc)" in shown.stderr
        assert call in shown.stderr
    _create(plane, "other")
    _create(plane, "svc", "--expires", "1s")
    plane.world.clock.advance(2)
    assert "keys create svc" in plane.run("status", "svc").stderr
    _create(plane, "svc")
    shown = plane.run("status", "svc")
    assert "keys create" not in shown.stderr
    assert call in shown.stderr


def test_an_open_service_is_called_without_a_key(plane: Plane) -> None:
    """It says so before it asks, and how it would not be; the example needs no key."""
    result = plane.run("up", plane.file(OPENED), "-n", "svc", "-y")
    assert result.exit_code == 0, result.stderr
    assert "Endpoint: http://127.0.0.1:7490/svc (open to anybody)" in result.stdout
    assert "Anybody who knows its address may call this service" in result.stderr
    assert "curl -L http://127.0.0.1:7490/svc/health\n" in result.stderr
    assert "$KEY" not in result.stderr


def test_an_update_says_that_it_opens_a_service(plane: Plane) -> None:
    """When it does, not when it was open before or is not then."""
    said = "Anybody who knows its address may call this service"
    assert said not in plane.up().stderr
    for text, is_said in ((YAML, False), (OPENED, True), (OPENED.replace("2", "1"), False)):
        result = plane.run("update", "svc", plane.file(text), "-y")
        assert result.exit_code == 0, result.stderr
        assert (said in result.stderr) is is_said


def test_a_service_that_redirects_nobody_is_asked_where_to_go(plane: Plane) -> None:
    """All else is refused with 421: `status` and `keys create` show what is not, and no client that does not ask."""
    text = YAML.replace("  ports", "  routing: {mode: resolve}\n  ports")
    assert plane.run("up", plane.file(text), "-n", "svc", "-y").exit_code == 0
    for shown in (plane.run("status", "svc"), plane.run("keys", "create", "svc")):
        assert 'curl -H "Authorization: Bearer $KEY" http://127.0.0.1:7490/svc/_resolve\n' in shown.stderr
        assert "openai" not in shown.stderr


@pytest.mark.parametrize(
    ("probe", "shown"),
    [("/ready?token=secret", "/ready"), ("{path: /v1/completions, post_data: {prompt: hi}}", "/")],
)
def test_an_example_is_what_the_probe_gets(plane: Plane, probe: str, shown: str) -> None:
    """Without its query, which may hold a key; what is posted nobody else should be asked to post."""
    text = OPENED.replace("/health", probe)
    result = plane.run("up", plane.file(text), "-n", "svc", "-y")
    assert f"curl -L http://127.0.0.1:7490/svc{shown}\n" in result.stderr, result.stderr
