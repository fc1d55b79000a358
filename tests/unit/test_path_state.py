"""The path: constant size, one moment in each view, and no count that loosens."""

from __future__ import annotations

import threading

import pytest

from guard.errors import PolicyFault
from guard.evidence import PathView
from guard.path import Path


def test_a_new_path_is_empty() -> None:
    assert Path().view() == PathView()


def test_a_claim_counts_at_once_and_is_pending_until_it_is_settled() -> None:
    path = Path()
    assert path.claim("search") == 1
    assert path.claim("search") == 2
    assert path.view() == PathView(2, {}, {"search": 2}, {"search": 2}, ("search", "search"))
    path.settle("search", happened=True)
    assert path.view().pending == {"search": 1}
    path.settle("search", happened=True)
    assert path.view() == PathView(2, {}, {}, {"search": 2}, ("search", "search"))


def test_a_step_that_did_not_happen_gives_its_count_back_and_keeps_the_length() -> None:
    path = Path()
    path.claim("pay")
    path.settle("pay", happened=False)
    assert path.view() == PathView(1, {}, {}, {"pay": 0}, ("pay",))


def test_a_step_cannot_be_settled_twice() -> None:
    path = Path()
    path.claim("pay")
    path.settle("pay", happened=False)
    with pytest.raises(PolicyFault, match="not in flight"):
        path.settle("pay", happened=False)
    assert path.view().counts == {"pay": 0}


def test_the_last_eight_steps_are_kept() -> None:
    path = Path()
    for number in range(10):
        path.claim(f"t{number}")
    assert path.view().recent == tuple(f"t{number}" for number in range(2, 10))


def test_a_denial_is_counted() -> None:
    path = Path()
    path.deny()
    path.deny()
    assert path.view() == PathView(2, {}, {}, {"denied": 2}, ())


def test_names_over_the_bound_count_together_and_settle_there() -> None:
    path = Path()
    path.deny()
    for number in range(1_024):
        path.claim(f"t{number}")
        path.settle(f"t{number}", happened=number % 2 == 0)
    path.claim("late")
    path.claim("x" * 200)
    view = path.view()
    assert len(view.counts) == 1_024 + 2
    assert view.counts["other"] == 2
    assert view.pending == {"other": 2}
    assert view.recent[-2:] == ("late", "other")
    path.settle("late", happened=False)
    path.settle("x" * 200, happened=True)
    assert path.view().counts["other"] == 1


def test_facts_are_only_ever_added() -> None:
    path = Path()
    path.add_facts(["read:confidential", "read:untrusted"])
    path.add_facts(["read:untrusted"])
    assert path.view().facts == {"read:confidential": True, "read:untrusted": True}


@pytest.mark.parametrize("fact", ["", "x" * 129])
def test_a_fact_that_cannot_be_kept_is_a_fault_and_the_others_are_kept(fact: str) -> None:
    path = Path()
    with pytest.raises(PolicyFault, match="a fact cannot be kept"):
        path.add_facts([fact, "read:confidential"])
    assert path.view().facts == {"read:confidential": True}


def test_facts_over_the_bound_are_a_fault_and_known_ones_are_not() -> None:
    path = Path()
    path.add_facts(f"f{number}" for number in range(4_096))
    path.add_facts(["f0"])
    with pytest.raises(PolicyFault, match="at most 4096 facts"):
        path.add_facts(["one more"])


def test_a_view_is_the_same_object_until_something_changes_and_never_changes_itself() -> None:
    path = Path()
    path.claim("a")
    before = path.view()
    assert path.view() is before
    path.add_facts(["f"])
    path.claim("a")
    path.deny()
    assert before == PathView(1, {}, {"a": 1}, {"a": 1}, ("a",))
    assert path.view() == PathView(3, {"f": True}, {"a": 2}, {"a": 2, "denied": 1}, ("a", "a"))


def test_claims_from_many_threads_are_all_counted() -> None:
    path = Path()
    lengths: list[int] = []

    def run() -> None:
        for _ in range(500):
            lengths.append(path.claim("t"))
            path.view()
            path.settle("t", happened=True)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lengths) == list(range(1, 2_001))
    assert path.view() == PathView(2_000, {}, {}, {"t": 2_000}, ("t",) * 8)
