"""The YAML cases, each as a request inside a session of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from guard import ModelRef, Point, Request, Session, ToolDeclaration, session, testing
from guard.fleet import Fleet, Model
from guard.interceptor import Interceptor
from guard.request import Host
from guard.testing import FakeClock, MemoryLog

CASES_DIRECTORY = Path(__file__).resolve().parent.parent / "cases"


def _model(model_id: str, status: str, *jurisdictions: str) -> Model:
    return Model(
        id=model_id,
        provider="p",
        context_window_tokens=100_000,
        price_in_micros_per_mtok=1_000,
        price_out_micros_per_mtok=1_000,
        data_classes=("public", "internal", "personal"),
        jurisdictions=jurisdictions,
        status=status,
    )


FLEET = Fleet(
    models={
        model.id: model
        for model in (
            _model("large-eu", "active", "eu"),
            _model("large-us", "active", "us"),
            _model("old", "retired", "eu"),
        )
    }
)


def load_cases() -> list[dict[str, Any]]:
    """All cases of tests/cases, in order of file."""
    return [
        {"point": "pre_tool_call", "file": path.name, **case}
        for path in sorted(CASES_DIRECTORY.glob("*.yaml"))
        for case in yaml.safe_load(path.read_text())
    ]


def case_id(case: dict[str, Any]) -> str:
    """A name for pytest."""
    return str(case["note"]).replace(" ", "-")


@contextmanager
def case_session(case: dict[str, Any]) -> Iterator[tuple[Interceptor, MemoryLog, Session]]:
    """An interceptor and a session as the case wants them."""
    clock = FakeClock(case["now_ns"]) if "now_ns" in case else FakeClock()
    made, log = testing.interceptor(
        settings=case.get("settings"),
        fleet=FLEET,
        clock=clock,
        models={model_id: object() for model_id in FLEET.models},
    )
    principal = case.get("principal", "did:web:agents.example:clerk")
    for _ in range(case.get("bad_outcomes", 0)):
        made.trust.record(principal, good=False)
    with session(
        principal,
        grants=case.get("grants", ()),
        jurisdiction=case.get("jurisdiction"),
        roles=case.get("roles", ()),
    ) as now:
        now.path.add_facts(case.get("facts", ()))
        for _ in range(case.get("steps", 0)):
            now.path.claim("tool:x")
            now.path.settle("tool:x", happened=True)
        yield made, log, now


def case_request(case: dict[str, Any], made: Interceptor) -> Request:
    """The request of a case, in the current session."""
    tool = case.get("tool")
    if isinstance(tool, dict):
        lists = {key: tuple(v) if isinstance(v, list) else v for key, v in tool.items()}
        tool = ToolDeclaration(**lists)
    model = case.get("model")
    return made.request(
        Point(case["point"]),
        case["target"],
        tool=tool,
        model=ModelRef(**model) if model else None,
        host=Host(can_route=True),
    )
