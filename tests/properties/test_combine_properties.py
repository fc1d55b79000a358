"""Combining verdicts: order-free, and a restriction never loosens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guard.decision import Effect, FaultNote, Redact, Review, Route, Verdict, combine

_OBLIGATIONS = st.one_of(
    st.none(),
    st.builds(Redact, operator=st.sampled_from(["remove", "replace", "hash", "mask"])),
    st.builds(Route, models=st.lists(st.sampled_from("abc"), max_size=3).map(tuple)),
    st.builds(Review, queue=st.sampled_from(["finance", "legal"])),
)
VERDICTS = st.builds(
    Verdict,
    effect=st.sampled_from(Effect),
    code=st.sampled_from(["r.one", "r.two", "r.three"]),
    message=st.just("why"),
    stage=st.sampled_from(["policy", "trust"]),
    obligation=_OBLIGATIONS,
)
RESTRICTIONS = VERDICTS.filter(lambda verdict: verdict.effect is not Effect.ALLOW)
FAULTS = st.builds(FaultNote, code=st.just("f"), stage=st.just("s"), message=st.just("m"))


@given(st.lists(VERDICTS, max_size=6), st.randoms())
def test_the_order_of_verdicts_does_not_matter(verdicts: list[Verdict], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(verdicts)
    random.shuffle(shuffled)
    assert combine(shuffled) == combine(verdicts)


@given(st.lists(VERDICTS, max_size=6), RESTRICTIONS)
def test_adding_a_restriction_never_loosens(verdicts: list[Verdict], more: Verdict) -> None:
    before, after = combine(verdicts), combine([*verdicts, more])
    assert after.effect.rank >= before.effect.rank
    if after.effect is not Effect.DENY:
        kept = {duty for duty in before.obligations if not isinstance(duty, Route)}
        assert kept <= set(after.obligations)
        routes = [d for d in before.obligations if isinstance(d, Route)]
        narrowed = [d for d in after.obligations if isinstance(d, Route)]
        assert all(set(n.models) <= set(r.models) for r in routes for n in narrowed)
        assert len(narrowed) >= len(routes)


@given(st.lists(VERDICTS, max_size=6), FAULTS)
def test_a_fault_is_a_deny(verdicts: list[Verdict], fault: FaultNote) -> None:
    assert combine(verdicts, [fault]).effect is Effect.DENY


@given(st.lists(VERDICTS.filter(lambda v: v.stage != "policy" or v.effect is not Effect.ALLOW)))
def test_without_a_permit_of_the_policy_stage_it_is_a_deny(verdicts: list[Verdict]) -> None:
    assert combine(verdicts).effect is Effect.DENY


def test_two_routes_without_a_common_model_are_a_deny() -> None:
    allow = Verdict(effect=Effect.ALLOW, code="r.a", message="m")
    one = Verdict(effect=Effect.ROUTE, code="r.b", message="m", obligation=Route(models=("a",)))
    two = Verdict(effect=Effect.ROUTE, code="r.c", message="m", obligation=Route(models=("b",)))
    combined = combine([allow, one, two])
    assert (combined.effect, combined.reasons[0].code) == (Effect.DENY, "route.no_common_model")
