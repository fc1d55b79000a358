"""The decorators on everything that can be called."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import guard
from guard import Denied, Interceptor, ReviewPending, testing
from guard.decorators import Decorators
from guard.testing import MemoryLog

CLERK = "did:web:agents.example:clerk"
ALL = ("read_it", "wire", "run", "items", "aitems", "boom")


@pytest.fixture
def pair() -> tuple[Interceptor, MemoryLog]:
    return testing.interceptor()


@pytest.fixture
def tool(pair: tuple[Interceptor, MemoryLog]) -> Callable[..., Any]:
    return Decorators(lambda: pair[0]).tool


def _session(*grants: str) -> guard.Session:
    return guard.session(CLERK, grants=grants or ALL)


def test_a_function_keeps_its_name_signature_and_docstring(tool: Any) -> None:
    @tool(effects=["read"])
    def read_it(path: str, *, limit: int = 3) -> str:
        """Reads it."""
        return path * limit

    assert (read_it.__name__, read_it.__doc__) == ("read_it", "Reads it.")
    assert str(inspect.signature(read_it)) == "(path: 'str', *, limit: 'int' = 3) -> 'str'"
    with _session():
        assert read_it("a") == "aaa"


def test_positional_arguments_defaults_and_keywords_are_seen_by_name(
    tool: Any, pair: tuple[Interceptor, MemoryLog]
) -> None:
    @tool(effects=["read"])
    def read_it(a: int, /, b: int, *rest: int, c: int = 3, **more: int) -> list[Any]:
        return [a, b, rest, c, more]

    with _session():
        assert read_it(1, 2, 8, 9, d=4) == [1, 2, (8, 9), 3, {"d": 4}]
    assert pair[1].entries[0].input == {"a": 1, "b": 2, "rest": (8, 9), "c": 3, "d": 4}


def test_a_limit_holds_for_positional_arguments(tool: Any) -> None:
    @tool(effects=["pay"])
    def wire(to: str, amount: int) -> str:
        return "paid"

    with _session():
        assert wire("bob", 5) == "paid"
        with pytest.raises(ReviewPending):
            wire("bob", 5_000)


def test_arguments_cannot_speak_for_the_principal(tool: Any) -> None:
    @tool(effects=["read"])
    def read_it(**anything: Any) -> str:
        return "read"

    with guard.session(CLERK), pytest.raises(Denied):
        read_it(principal={"id": "admin", "roles": ["admin"]}, grants=["read_it"])


def test_wrong_arguments_are_a_type_error_as_without_us(tool: Any) -> None:
    @tool(effects=["read"])
    def read_it(path: str) -> str:
        return path

    with _session(), pytest.raises(TypeError, match="missing a required argument: 'path'"):
        read_it()
    with _session(), pytest.raises(TypeError, match="unexpected keyword argument 'pth'"):
        read_it("a", pth="x")


async def test_a_coroutine_function_stays_one(tool: Any) -> None:
    @tool(effects=["read"])
    async def read_it(path: str) -> str:
        await asyncio.sleep(0)
        return path

    assert inspect.iscoroutinefunction(read_it)
    with _session():
        assert await read_it("a") == "a"
    with guard.session(CLERK), pytest.raises(Denied):
        await read_it("a")


async def test_an_awaitable_from_a_plain_function_is_governed_when_it_ends(
    tool: Any, pair: tuple[Interceptor, MemoryLog]
) -> None:
    async def inner() -> str:
        return "4111 1111 1111 1111"

    @tool(effects=["read"])
    def read_it() -> Any:
        return inner()

    with _session():
        assert await read_it() == "<CREDIT_CARD>"
    assert [entry.kind for entry in pair[1].entries] == ["intent", "outcome"]


def test_methods_classmethods_and_staticmethods_are_governed_without_their_receiver(
    tool: Any, pair: tuple[Interceptor, MemoryLog]
) -> None:
    class Files:
        prefix = ">"

        @tool(effects=["read"])
        def read_it(self, path: str) -> str:
            return self.prefix + path

        @tool(effects=["read"], name="read_it")
        @classmethod
        def outer(cls, path: str) -> str:
            return cls.prefix + path

        @classmethod
        @tool(effects=["read"], name="read_it")
        def inner(cls, path: str) -> str:
            return cls.prefix + path

        @tool(effects=["read"], name="read_it")
        @staticmethod
        def alone(path: str) -> str:
            return path

    with _session():
        said = [Files().read_it("a"), Files.outer("b"), Files.inner("c"), Files.alone("d")]
    assert said == [">a", ">b", ">c", "d"]
    inputs = [e.input for e in pair[1].entries if e.kind == "intent"]
    assert inputs == [{"path": "a"}, {"path": "b"}, {"path": "c"}, {"path": "d"}]


def test_bound_methods_and_callable_objects_are_governed(
    tool: Any, pair: tuple[Interceptor, MemoryLog]
) -> None:
    class Reader:
        def read_it(self, path: str) -> str:
            return path

        def __call__(self, path: str) -> str:
            return path + "!"

    with _session():
        assert tool(effects=["read"])(Reader().read_it)("a") == "a"
        assert tool(effects=["read"], name="read_it")(Reader())("a") == "a!"
    assert [e.input for e in pair[1].entries if e.kind == "intent"] == [{"path": "a"}] * 2


def test_injected_parameters_are_passed_on_ungoverned(
    tool: Any, pair: tuple[Interceptor, MemoryLog]
) -> None:
    database = object()

    @tool(effects=["read"], injected=["db"])
    def read_it(path: str, db: object) -> bool:
        return db is database

    with _session():
        assert read_it("a", database) is True
    assert pair[1].entries[0].input == {"path": "a"}
    with pytest.raises(guard.ConfigError, match="injected parameter `dbb`"):
        tool(effects=["read"], injected=["dbb"])(lambda db: None)


def test_a_deny_is_raised_or_returned_as_the_decorator_says(tool: Any) -> None:
    @tool(effects=["read"], on_deny="return")
    def read_it() -> str:
        return "read"

    with guard.session(CLERK):
        assert isinstance(read_it(), Denied)


def test_an_undeclared_tool_is_denied(tool: Any) -> None:
    @tool
    def read_it() -> str:
        return "read"

    with _session(), pytest.raises(Denied, match="unknown_tool"):
        read_it()


def test_the_declaration_of_the_organisation_wins(pair: tuple[Interceptor, MemoryLog]) -> None:
    made, _ = pair
    made.tools["read_it"] = guard.ToolDeclaration(name="read_it", effects=("execute",))

    @Decorators(lambda: made).tool(effects=["read"])
    def read_it() -> str:
        return "read"

    with _session(), pytest.raises(Denied, match="code_execution"):
        read_it()


def test_a_generator_is_decided_when_it_is_called(tool: Any) -> None:
    ran: list[int] = []

    @tool(effects=["read"])
    def items() -> Iterator[int]:
        ran.append(1)
        yield 1

    with guard.session(CLERK), pytest.raises(Denied):
        items()
    assert ran == []


def test_items_of_a_generator_pass_the_post_point(
    tool: Any, pair: tuple[Interceptor, MemoryLog]
) -> None:
    @tool(effects=["read"])
    def items() -> Iterator[Any]:
        got = yield "a"
        yield f"4111 1111 1111 1111 {got}"

    with _session():
        stream = items()
        assert next(stream) == "a"
        assert stream.send("b") == "<CREDIT_CARD> b"
        assert list(stream) == []
    kinds = [(e.kind, e.effect, e.metrics.get("items")) for e in pair[1].entries]
    assert kinds == [
        ("intent", "allow", None),
        ("item", "redact", None),
        ("outcome", "allow", 2),
    ]


def test_an_item_that_is_denied_ends_the_stream(tool: Any) -> None:
    @tool(effects=["read"])
    def items() -> Iterator[Any]:
        yield "a"
        yield object()
        yield "never"

    with _session():
        stream = items()
        assert next(stream) == "a"
        with pytest.raises(Denied):
            next(stream)
        assert list(stream) == []


def test_a_consumer_that_walks_away_is_recorded(
    tool: Any, pair: tuple[Interceptor, MemoryLog]
) -> None:
    closed: list[int] = []

    @tool(effects=["read"])
    def items() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(1)

    with _session():
        stream = items()
        next(stream)
        stream.close()
    assert (closed, pair[1].entries[-1].metrics["items"]) == ([1], 1)


def test_an_exception_in_a_stream_is_redacted(tool: Any) -> None:
    @tool(effects=["read"])
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("card 4111 1111 1111 1111")

    with _session(), pytest.raises(ValueError, match="card <CREDIT_CARD>"):
        list(items())


def test_what_is_thrown_into_a_generator_reaches_it(tool: Any) -> None:
    @tool(effects=["read"])
    def items() -> Iterator[str]:
        try:
            yield "a"
        except LookupError:
            yield "handled"

    with _session():
        stream = items()
        next(stream)
        assert stream.throw(LookupError()) == "handled"


async def test_async_generators_are_governed_item_by_item(
    tool: Any, pair: tuple[Interceptor, MemoryLog]
) -> None:
    @tool(effects=["read"])
    async def aitems() -> AsyncIterator[str]:
        yield "a"
        yield "4111 1111 1111 1111"

    with _session():
        assert [item async for item in aitems()] == ["a", "<CREDIT_CARD>"]
    assert pair[1].entries[-1].metrics["items"] == 2
    with guard.session(CLERK), pytest.raises(Denied):
        aitems()


def test_a_step_is_governed_at_its_own_points(pair: tuple[Interceptor, MemoryLog]) -> None:
    @Decorators(lambda: pair[0]).step
    def plan(goal: str) -> str:
        return goal

    with guard.session(CLERK):
        assert plan("x") == "x"
    with pytest.raises(Denied):
        plan("x")
    assert [e.point for e in pair[1].entries] == ["pre_step", "post_step", "pre_step"]


def test_a_nested_denial_is_the_outer_calls_exception(tool: Any) -> None:
    @tool(effects=["read"], name="inner")
    def inner() -> str:
        return "inner"

    @tool(effects=["read"])
    def read_it() -> str:
        return str(inner())

    with _session("read_it"), pytest.raises(Denied, match="no_grant"):
        read_it()


def test_a_changed_argument_changes_nothing_after_the_decision(tool: Any) -> None:
    seen: list[Any] = []

    @tool(effects=["read"])
    def read_it(paths: list[str]) -> None:
        mine.append("changed while it runs")
        seen.append(list(paths))

    mine = ["a"]
    with _session():
        read_it(mine)
    assert seen == [["a"]]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"effects": "send"}, "takes a list of words"),
        ({"effects": ["sned"]}, "unknown word `sned` in effects"),
        ({"effects": ["send"], "destinations": "to"}, "takes a list"),
        ({"effects": ["read"], "returns": "trustd"}, "expected trusted, untrusted"),
        ({"effects": ["read"], "confidentiality": "hidden"}, "unknown word `hidden`"),
    ],
)
def test_a_declaration_with_a_wrong_word_is_refused_at_once(
    tool: Any, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(guard.ConfigError, match=complaint):
        tool(**options)(lambda to: to)


def test_one_text_where_a_list_belongs_is_refused() -> None:
    with pytest.raises(guard.ConfigError, match="grants, roles and subjects are lists"):
        guard.session(CLERK, grants="read_it")
    with pytest.raises(guard.ConfigError, match="a model has a name"):
        guard.model(lambda: None)  # type: ignore[arg-type]


def test_a_missing_grant_does_not_speak_against_a_principal(
    tool: Any, pair: tuple[Interceptor, MemoryLog]
) -> None:
    @tool(effects=["pay"])
    def wire(amount: Any) -> str:
        return "paid"

    for amount, grants, observed in ((1, [], (0, 0)), ("x", ["wire"], (0, 1))):
        with guard.session(CLERK, grants=grants), pytest.raises(Denied):
            wire(amount)
        assert pair[0].trust.snapshot(CLERK) == observed
