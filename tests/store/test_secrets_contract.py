"""Where secrets are kept: what every place promises, and that none of them lets a text out in an error."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.errors import Exists, NotFound, Unreachable
from chalicelib.model import MAX_SECRET_BYTES, Secret
from chalicelib.ports import Secrets
from chalicelib.secrets.memory import MemorySecrets
from chalicelib.secrets.ssm import SsmSecrets
from tests.fakes import FakeClock

TEXT = "hf_0123456789"
AWKWARD = '-----BEGIN KEY-----\nzwei Zeilen, "Anführungszeichen" & {{ssm:x}} $HOME `id` \\n\n-----END KEY-----'


@pytest.fixture(params=["memory", "ssm"])
def secrets(request: pytest.FixtureRequest, clock: FakeClock) -> Secrets:
    return MemorySecrets(clock) if request.param == "memory" else _ssm(request.getfixturevalue("ministack_url"))


def _ssm(url: str) -> SsmSecrets:
    return SsmSecrets(f"/sailplane/t-{uuid.uuid4().hex}/secrets", "us-east-1", endpoint_url=url)


def test_nothing_is_known_at_first(secrets: Secrets) -> None:
    """And nothing is read, which is no error: who asked says what is missing."""
    assert secrets.known() == ()
    assert secrets.read(["HF_TOKEN"]) == {}


def test_a_text_is_read_as_it_was_written(secrets: Secrets) -> None:
    """Byte for byte, up to the most that costs nothing to keep."""
    for text in (TEXT, AWKWARD, "x" * MAX_SECRET_BYTES, " ", "ü" * (MAX_SECRET_BYTES // 2)):
        secrets.write("HF_TOKEN", text)
        assert secrets.read(["HF_TOKEN"]) == {"HF_TOKEN": text}


def test_many_are_read_and_listed_at_once(secrets: Secrets) -> None:
    """More than AWS gives or takes in one request, those that there are, in the names' order; case and punctuation count."""
    names = sorted(["hf-token", "HF-TOKEN", "hf_token", "hf.token", *(f"secret{number}" for number in range(20))])
    for name in names:
        secrets.write(name, f"text of {name}")
    assert secrets.read([*names, "missing"]) == {name: f"text of {name}" for name in names}
    assert [secret.name for secret in secrets.known()] == names


def test_a_change_can_be_told_without_the_text(secrets: Secrets, clock: FakeClock) -> None:
    """By version and instant, which together are never the same for two texts."""
    secrets.write("HF_TOKEN", TEXT)
    (first,) = secrets.known()
    clock.advance(1)
    secrets.write("HF_TOKEN", "another")
    (second,) = secrets.known()
    assert (first.version, second.version) == (1, 2)
    assert first.changed_at <= second.changed_at
    assert secrets.read(["HF_TOKEN"]) == {"HF_TOKEN": "another"}


def test_what_is_forgotten_is_gone(secrets: Secrets) -> None:
    """Others stay; forgetting again says that there is none."""
    secrets.write("HF_TOKEN", TEXT)
    secrets.write("OTHER", TEXT)
    secrets.delete("HF_TOKEN")
    assert secrets.read(["HF_TOKEN", "OTHER"]) == {"OTHER": TEXT}
    assert [secret.name for secret in secrets.known()] == ["OTHER"]
    with pytest.raises(NotFound, match="HF_TOKEN"):
        secrets.delete("HF_TOKEN")


def test_one_deployment_does_not_see_anothers(ministack_url: str) -> None:
    """Two control planes may share an account."""
    ours, theirs = _ssm(ministack_url), _ssm(ministack_url)
    theirs.write("HF_TOKEN", TEXT)
    assert (ours.known(), ours.read(["HF_TOKEN"])) == ((), {})


class _Asked(SsmSecrets):
    """What is sent to AWS, as botocore would send it; every request is answered as `answers` say."""

    def __init__(self, **answers: Any) -> None:
        super().__init__("/sailplane/d/secrets", "us-east-1", endpoint_url="http://key@127.0.0.1:1")
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self._answers = answers
        self._client.meta.events.register("before-parameter-build.ssm", self._note)
        self._client.meta.events.register("before-call.ssm", self._answer)

    def _note(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.sent.append((model.name, dict(params)))

    def _answer(self, model: Any, **_: Any) -> Any:
        answer = self._answers[model.name]
        status = type("Answer", (), {"status_code": 400 if "Error" in answer else 200})
        return status, answer


def test_what_amazon_is_asked_for() -> None:
    """Encrypted, free of charge, ten names at most, and no text decrypted for a list: what the stand-in does not insist on."""
    empty: dict[str, Any] = {"Parameters": []}
    asked = _Asked(PutParameter={"Version": 1}, GetParameters=empty, GetParametersByPath=empty)
    asked.write("A", TEXT)
    asked.read([f"N{number}" for number in range(23)])
    asked.known()
    (_, put), *gets, (_, listing) = asked.sent
    assert put == {
        "Name": "/sailplane/d/secrets/A",
        "Value": TEXT,
        "Type": "SecureString",
        "Tier": "Standard",
        "Overwrite": True,
    }
    assert [len(get["Names"]) for _, get in gets] == [10, 10, 3]
    assert all(get["WithDecryption"] for _, get in gets)
    assert (listing["Path"], listing["WithDecryption"]) == ("/sailplane/d/secrets", False)


def _refusing(code: str) -> SsmSecrets:
    # AWS repeats a value that it does not like.
    said = f"1 validation error detected: Value '{TEXT}' at 'value' failed to satisfy constraint"
    return _Asked(PutParameter={"Error": {"Code": code, "Message": said}})


def _out_of_reach(_: str) -> SsmSecrets:
    return SsmSecrets("/sailplane/d/secrets", "us-east-1", endpoint_url="http://key@127.0.0.1:1")


@pytest.mark.parametrize(
    ("broken", "why"), [(_refusing, "ValidationException"), (_out_of_reach, "EndpointConnectionError")]
)
def test_a_failure_does_not_repeat_the_text(broken: Callable[[str], SsmSecrets], why: str) -> None:
    """Neither as message nor anywhere in the traceback's chain, which a log would show; the operation and why are named."""
    with pytest.raises(Unreachable, match=f"ssm:PutParameter: {why}") as caught:
        broken(why).write("HF_TOKEN", TEXT)
    assert TEXT not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("code", ["TooManyUpdates", "ParameterAlreadyExists"])
def test_a_name_that_was_just_forgotten_is_not_free_yet(code: str) -> None:
    """For half a minute, AWS says; trying again at once, as with what is out of reach, does not help."""
    with pytest.raises(Exists, match=r"HF_TOKEN.*30 s.*Nothing was set"):
        _refusing(code).write("HF_TOKEN", TEXT)


def test_a_failure_names_what_is_lacking() -> None:
    """AccessDenied with the operation: what to put into the policy."""
    denied = _Asked(GetParametersByPath={"Error": {"Code": "AccessDeniedException", "Message": "User: … is not …"}})
    with pytest.raises(Unreachable, match="ssm:GetParametersByPath: AccessDeniedException"):
        denied.known()


def test_what_is_known_of_a_secret_is_not_its_text(clock: FakeClock) -> None:
    """No representation of the places or of what they list shows one."""
    secrets = MemorySecrets(clock)
    secrets.write("HF_TOKEN", TEXT)
    assert secrets.known() == (Secret("HF_TOKEN", 1, clock.now()),)
    assert TEXT not in repr((secrets, secrets.known()))
