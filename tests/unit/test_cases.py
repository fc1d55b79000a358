"""The YAML cases through the embedded engine and the whole interceptor."""

from __future__ import annotations

from typing import Any

import pytest
from support.cases import case_id, case_request, case_session, load_cases

from guard import Denied, Effect, Outcome, ReviewPending

CASES = load_cases()


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_decision_is_as_the_case_wants(case: dict[str, Any]) -> None:
    with case_session(case) as (made, log, _):
        decision = made.decide(case_request(case, made))
        assert (decision.effect.value, decision.faults) == (case["want"]["effect"], ())
        codes = {reason.code for reason in decision.reasons}
        assert set(case["want"].get("codes", ())) <= codes
        assert (log.entries, decision.recorded) == ([], False)


@pytest.mark.parametrize("case", [c for c in CASES if c["point"].startswith("pre_")], ids=case_id)
def test_the_call_happens_only_when_the_case_permits_it(case: dict[str, Any]) -> None:
    ran: list[Any] = []
    with case_session(case) as (made, log, _):
        outcome = made.call(
            case_request(case, made), lambda p: ran.append(p.target) or "done", on_deny="return"
        )
        want = Effect(case["want"]["effect"])
        if want.rank < Effect.REVIEW.rank:
            assert (outcome, ran) == ("done", [case["target"]])
            assert [entry.kind for entry in log.entries] == ["intent", "outcome"]
        else:
            kind = Denied if want is Effect.DENY else ReviewPending
            assert (type(outcome), ran) == (kind, [])
            assert isinstance(outcome, Outcome)
            assert [entry.kind for entry in log.entries] == ["intent"]
        assert log.entries[0].effect == want.value
