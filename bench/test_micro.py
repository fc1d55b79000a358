"""Micro-benchmarks with pytest-benchmark: `pytest bench --benchmark-enable --benchmark-only`.

In the ordinary test run each is called once, so that it cannot rot.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from guard import Interceptor, Request
from guard.decision import Effect, Verdict, combine
from guard.evidence import Evidence
from guard.plain import freeze
from guard.policy import build_input, encode_input

from . import work


@pytest.fixture
def asked() -> Iterator[tuple[Interceptor, Request]]:
    with work.place() as directory, work.agent():
        made = work.interceptor(directory, 0)
        yield made, work.request(made)


def test_freeze(benchmark: Any) -> None:
    assert benchmark(freeze, work.ARGUMENTS) == work.ARGUMENTS


def test_combine(benchmark: Any) -> None:
    verdicts = [Verdict(effect=Effect.ALLOW, code="a.b", message="m")] * 3
    assert benchmark(combine, verdicts).effect is Effect.ALLOW


def test_policy_input(benchmark: Any, asked: tuple[Interceptor, Request]) -> None:
    _, request = asked
    text = benchmark(lambda: encode_input(build_input(request, Evidence(), request.target)))
    assert '"point":"pre_tool_call"' in text


@pytest.mark.parametrize("name", ["scan", "identity", "capability", "trust", "policy"])
def test_stage(benchmark: Any, asked: tuple[Interceptor, Request], name: str) -> None:
    made, request = asked
    evidence = made.explain(request).evidence
    assert benchmark(dict(made.stages)[name], request, evidence).faults == ()


def test_whole_call(benchmark: Any, asked: tuple[Interceptor, Request]) -> None:
    made, _ = asked
    assert benchmark(lambda: made.call(work.request(made), work.run)) == "transferred"
