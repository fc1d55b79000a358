"""Trust: where a principal starts, how fast it falls, and that the book forgets no violator."""

from __future__ import annotations

import threading

import pytest

from guard.evidence import TrustView
from guard.trust import TrustBook, score

FLOOR = 0.3  # the default of policies/guard/data.json


def test_a_new_principal_starts_at_seven_tenths_and_over_the_floor() -> None:
    view = score(0, 0)
    assert view == TrustView(0.7, pytest.approx(0.5230, abs=1e-4), 0)


def test_five_violations_out_of_ten_fall_below_the_floor() -> None:
    view = score(5, 5)
    assert view == TrustView(0.4, pytest.approx(0.2872, abs=1e-4), 10)
    assert view.lower < FLOOR < score(7, 3).lower


def test_trust_is_lost_faster_than_it_is_gained() -> None:
    assert score(1, 1).score < score(0, 0).score


def test_another_prior_gives_another_start() -> None:
    assert score(0, 0, prior_good=1.0, prior_bad=1.0).score == 0.5


def test_the_book_counts_by_principal() -> None:
    book = TrustBook()
    for good in (True, True, False, True):
        book.record("a", good=good)
    book.record("b", good=True)
    assert [book.snapshot(name) for name in ("a", "b", "never seen")] == [(3, 1), (1, 0), (0, 0)]


def test_a_full_book_forgets_the_one_recorded_least_recently() -> None:
    book = TrustBook(principals_max=2)
    for name in ("a", "b", "a", "c"):
        book.record(name, good=True)
    assert [book.snapshot(name) for name in "abc"] == [(2, 0), (0, 0), (1, 0)]


def test_a_principal_with_violations_is_never_forgotten_before_a_clean_one() -> None:
    book = TrustBook(principals_max=3)
    book.record("violator", good=False)
    for number in range(100):
        book.record(f"clean {number}", good=True)
    assert book.snapshot("violator") == (0, 1)
    assert book.forgotten_count == 0


def test_where_all_have_violations_the_oldest_goes_and_the_book_says_so() -> None:
    book = TrustBook(principals_max=2)
    for name in "abc":
        book.record(name, good=False)
    book.record("clean", good=True)
    assert [book.snapshot(name) for name in ("a", "b", "c", "clean")] == [
        (0, 0),
        (0, 1),
        (0, 1),
        (0, 0),
    ]
    assert book.forgotten_count == 1


def test_records_from_many_threads_are_all_counted() -> None:
    book = TrustBook()

    def run() -> None:
        for number in range(1_000):
            book.record("a", good=number % 4 != 0)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert book.snapshot("a") == (3_000, 1_000)
