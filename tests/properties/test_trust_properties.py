"""The trust score moves one way only with each observation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guard.trust import score

COUNTS = st.integers(min_value=0, max_value=10**9)
PRIORS = st.floats(min_value=1.0, max_value=100.0)


@given(COUNTS, COUNTS, PRIORS, PRIORS)
def test_the_lower_bound_is_at_most_the_score_and_both_are_shares(
    good: int, bad: int, prior_good: float, prior_bad: float
) -> None:
    view = score(good, bad, prior_good=prior_good, prior_bad=prior_bad)
    assert 0.0 <= view.lower <= view.score <= 1.0
    assert view.observations == good + bad


@given(COUNTS, COUNTS, st.integers(min_value=1, max_value=1_000), PRIORS, PRIORS)
def test_a_good_step_never_lowers_trust(
    good: int, bad: int, more: int, prior_good: float, prior_bad: float
) -> None:
    before = score(good, bad, prior_good=prior_good, prior_bad=prior_bad)
    after = score(good + more, bad, prior_good=prior_good, prior_bad=prior_bad)
    assert after.score >= before.score
    assert after.lower >= before.lower


@given(COUNTS, COUNTS, st.integers(min_value=1, max_value=1_000), PRIORS, PRIORS)
def test_a_violation_never_raises_trust(
    good: int, bad: int, more: int, prior_good: float, prior_bad: float
) -> None:
    before = score(good, bad, prior_good=prior_good, prior_bad=prior_bad)
    after = score(good, bad + more, prior_good=prior_good, prior_bad=prior_bad)
    assert after.score <= before.score
    assert after.lower <= before.lower
