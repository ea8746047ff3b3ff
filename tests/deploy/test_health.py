"""Whether what was made works."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from sailplane.deploy.health import complaint

URL = "https://api.example/api"


def asked(answers: Iterator[httpx.Response | httpx.TransportError]) -> tuple[str, int]:
    """The complaint, and how many pauses it took."""
    pauses: list[None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == f"{URL}/healthz"
        one = next(answers)
        if isinstance(one, httpx.TransportError):
            raise one
        return one

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        return complaint(http, URL, lambda: pauses.append(None)), len(pauses)


def test_what_answers_is_not_complained_of() -> None:
    """At once, or after the seconds that a new role takes to be known, or a new name."""
    assert asked(iter([httpx.Response(200)])) == ("", 0)
    assert asked(iter([httpx.ConnectError("unknown host"), httpx.Response(502), httpx.Response(200)])) == ("", 2)


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (httpx.Response(500, text="SAILPLANE_PROVIDERS: gcp needs its SDK"), "HTTP 500 SAILPLANE_PROVIDERS: gcp needs"),
        (httpx.ConnectError("refused"), "ConnectError: refused"),
        (httpx.Response(502, text="x" * 5_000), "HTTP 502 " + "x" * 300),
    ],
)
def test_what_does_not_answer_is_told_in_its_own_words(last: httpx.Response | httpx.TransportError, says: str) -> None:
    """After ten looks, and not in a page of them."""
    said, pauses = asked(iter([last] * 10))
    assert said.startswith(says)
    assert len(said) < 400
    assert pauses == 9
