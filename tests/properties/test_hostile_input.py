"""Whatever stands in the arguments, the answer is a decision, and the record can be written."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import guard
from guard import Decision, Denied, Point, ToolDeclaration, testing
from guard.audit.entry import encode
from guard.plain import freeze

SEARCH = ToolDeclaration(name="search", effects=("read",))
MADE, LOG = testing.interceptor(settings={"step_limit": {"steps_max": 10**9}})

TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=st.characters(categories=["Cs", "Cf", "Nd", "Zs"]), max_size=8),
    st.sampled_from(["4111 1111 1111 1111", "jane@corp.example", "\ud800", "AKIAIOSFODNN7EXAMPLE"]),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    TEXTS,
    st.binary(max_size=4),
    st.builds(object),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(TEXTS, inner, max_size=4),
        st.dictionaries(st.one_of(TEXTS, st.integers()), inner, max_size=2),
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(VALUES, VALUES)
def test_every_value_gets_a_decision_and_a_record(arguments: Any, result: Any) -> None:
    LOG.entries.clear()
    with guard.session("did:web:a", grants=["search"]):
        request = MADE.request(Point.PRE_TOOL_CALL, {"x": arguments}, tool=SEARCH)
        assert isinstance(MADE.decide(request), Decision)
        answer = MADE.call(request, lambda _: result, on_deny="return")
    assert LOG.entries
    for entry in LOG.entries:
        assert b"4111 1111" not in encode(entry, lambda _: "")
    if not isinstance(answer, Denied):
        # What came through is plain JSON, and so was what went in.
        assert freeze(answer) == answer


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_freezing_is_idempotent(value: Any) -> None:
    try:
        frozen = freeze(value)
    except guard.SnapshotFault:
        return
    assert freeze(frozen) == frozen
