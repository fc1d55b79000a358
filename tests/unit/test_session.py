"""Who acts now: nesting, inheritance, and what is never inherited."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import guard
from guard import Principal


def test_without_a_session_there_is_none() -> None:
    assert guard.current_session() is None


def test_an_inner_session_inherits_context_and_path_and_no_grants() -> None:
    with guard.session(
        "did:web:planner", tenant="acme", purpose="billing", jurisdiction="eu", tags=["x"],
        grants=["search"],
    ) as outer:  # fmt: skip
        with guard.session("did:web:worker", roles=["clerk"]) as inner:
            assert guard.current_session() is inner
            assert inner.principal == Principal(
                id="did:web:worker", roles=("clerk",), delegation=("did:web:planner",)
            )
            assert inner.context == outer.context
            assert (inner.grants, inner.id, inner.trace_id) == ((), outer.id, outer.trace_id)
            assert inner.path is outer.path
            assert inner.sequence is outer.sequence
        assert guard.current_session() is outer
    assert guard.current_session() is None


def test_a_session_for_the_same_principal_delegates_nothing() -> None:
    outer = guard.session("did:web:a", on_behalf_of="user-7", roles=["clerk"])
    with outer, guard.session("did:web:a", grants=["search"]) as inner:
        assert inner.principal == Principal(id="did:web:a", roles=("clerk",), on_behalf_of="user-7")


def test_a_session_of_another_id_has_numbers_of_its_own() -> None:
    with guard.session("did:web:a") as outer, guard.session("did:web:a", id="other") as inner:
        assert (inner.id, inner.sequence is outer.sequence) == ("other", False)


def test_a_generator_that_is_closed_out_of_order_leaves_the_right_session() -> None:
    def inside() -> Iterator[None]:
        with guard.session("did:web:inner"):
            yield

    with guard.session("did:web:outer") as outer:
        generator = inside()
        next(generator)
        with guard.session("did:web:later") as later:
            generator.close()  # type: ignore[attr-defined]
            assert guard.current_session() is later
        assert guard.current_session() is outer


async def test_a_task_has_the_session_in_which_it_was_made() -> None:
    async def who() -> str:
        await asyncio.sleep(0)
        now = guard.current_session()
        return now.principal.id if now is not None else "nobody"

    with guard.session("did:web:a"):
        task = asyncio.create_task(who())
    assert (await task, await who()) == ("did:web:a", "nobody")


async def test_to_thread_carries_the_session() -> None:
    with guard.session("did:web:a") as now:
        assert await asyncio.to_thread(guard.current_session) is now
