"""Patterns that judge what strangers to us have written: a long text that is wrong is found so at once."""

from __future__ import annotations

import time

import pytest

from tests.api.conftest import Api, assert_problem

WRONG = ("a/" + "a" * 250 + "!", "a/a" * 80 + "!", "a/" * 120 + "\0", "a.a" * 60 + "~", "https://" + "a/" * 110 + "?")


@pytest.mark.parametrize("field", ["repository", "branch", "path", "api_url"])
def test_a_long_text_that_is_wrong_costs_no_time(api: Api, field: str) -> None:
    """Where a pattern can be met in many ways, 240 characters would hold a function for as long as it may run."""
    begun = time.process_time()
    for text in WRONG:
        body = {"kind": "github", "service": "svc", "repository": "acme/serving", field: text}
        assert_problem(api.post("/v1/webhooks", body), 422)
    assert time.process_time() - begun < 2
