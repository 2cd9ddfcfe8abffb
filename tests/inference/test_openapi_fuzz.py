"""Schemathesis holds the replica to its own OpenAPI document."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from tests.inference.process import Replica

schemathesis = pytest.importorskip("schemathesis")
CHECKS = pytest.importorskip("schemathesis.checks").CHECKS


def hold(replica: Replica, examples: int) -> int:
    """Sends `examples` requests to every route but /drain, right and wrong ones; how many were sent."""
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{replica.port}/openapi.json")
    operations = [found.ok() for found in schema.exclude(path="/drain").get_all_operations()]
    sent = 0

    def check(case: Any) -> None:
        nonlocal sent
        sent += 1
        response = case.call()
        excluded = ["unsupported_method"]
        # That shapes and lengths agree, and that a number fits float32, no schema can say.
        if response.status_code == 422 or (response.status_code == 400 and case.method == "POST"):
            excluded.append("positive_data_acceptance")
        case.validate_response(response, excluded_checks=[CHECKS.get_one(name) for name in excluded])
        assert response.status_code < 500

    quiet = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    for operation in operations:
        for mode in schemathesis.GenerationMode:
            ask: Callable[[], None] = quiet(given(operation.as_strategy(generation_mode=mode))(check))  # type: ignore[no-untyped-call]
            with contextlib.suppress(Unsatisfiable):  # nothing about a bare GET can be wrong
                ask()
    return sent


def test_the_replica_answers_as_its_document_says(replica: Replica) -> None:
    assert hold(replica, 3) > 20


@pytest.mark.verify
@pytest.mark.timeout(900)
def test_the_replica_answers_as_its_document_says_thousands_of_times(replica: Replica) -> None:
    assert hold(replica, 400) > 3000
