"""LangChain through real agents: what used to slip past a decision, one test for each way."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from guard_langchain import Governance, StoppedDenied, govern
from guard_langchain.testing import ScriptedChatModel, call
from guard_langchain.tool import governed_tool
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.tools import BaseTool, tool
from langgraph.types import Command, Send
from pydantic import BaseModel, Field

import guard
from guard import ToolDeclaration, testing
from guard.fleet import Fleet, Model

CARD = "4111 1111 1111 1111"
SAID = f"your card is {CARD}"
CLERK = "did:web:agents.example:clerk"
TOOLS = ("look", "query")
MODES = ("invoke", "stream")
FLEET = Fleet(
    {
        "scripted": Model(
            id="scripted",
            provider="scripted",
            context_window_tokens=100_000,
            price_in_micros_per_mtok=1,
            price_out_micros_per_mtok=1,
            status="active",
        )
    }
)
# Denies the table `payroll`, and every answer that names it.
PAYROLL = """# METADATA
# scope: package
# title: payroll
# description: For this test.
# custom:
#   points: [pre_tool_call]
package guard.rules.payroll

import rego.v1

verdicts contains {
	"effect": "deny",
	"code": "payroll.no",
	"message": "no payroll",
} if {
	input.args.table == "payroll"
}
"""


class World:
    """One interceptor, one tool `look` whose result a test may set, and all that came out."""

    def __init__(self, **options: Any) -> None:
        self.interceptor, self.log = testing.interceptor(
            tools=[ToolDeclaration(name=name, effects=("read",)) for name in TOOLS],
            fleet=FLEET,
            **options,
        )
        self.ran: list[Any] = []
        self.result: Any = "ok"
        self.emitted = ""

        @tool
        def look(q: str) -> Any:
            """Look."""
            self.ran.append(q)
            return self.result

        self.look = look

    def run(self, *script: str | AIMessage, mode: str = "invoke", **options: Any) -> Any:
        model = options.pop("model", None) or ScriptedChatModel(script=script, model="scripted")
        tools = options.pop("tools", [self.look])
        agent = create_agent(model, tools, middleware=[Governance(self.interceptor)], **options)
        given = {"messages": [HumanMessage("hi")]}
        with guard.session(CLERK, grants=TOOLS):
            if mode == "invoke":
                return agent.invoke(given)
            seen = list(agent.stream(given, stream_mode=["messages", "values"]))
            self.emitted = repr(seen)
            return [state for kind, state in seen if kind == "values"][-1]

    def effects(self, point: str) -> list[str]:
        return [e.effect for e in self.log.entries if e.point == point]


@pytest.fixture
def world() -> World:
    return World()


def broken(content: str, args: str = "{bad") -> AIMessage:
    return AIMessage(
        content, invalid_tool_calls=[{"name": "look", "args": args, "id": "x", "error": None}]
    )


class Streaming(ScriptedChatModel):
    """Streams its turn with the tool calls as the provider wrote them, broken ones too."""

    def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        message = self._turn(messages, kwargs)
        chunks = [
            tool_call_chunk(name=one["name"], args=one["args"], id=one["id"], index=index)
            for index, one in enumerate(message.invalid_tool_calls)
        ]
        yield ChatGenerationChunk(
            message=AIMessageChunk(content=message.content, tool_call_chunks=chunks)
        )


# -- the answer --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("args", ["{bad", "[1"])
def test_an_answer_beside_a_broken_tool_call_passes_output(
    world: World, mode: str, args: str
) -> None:
    model = Streaming(script=[broken(SAID, args), "end"], model="scripted")
    state = world.run(model=model, mode=mode)
    assert CARD not in repr(state) + world.emitted
    assert "<CREDIT_CARD>" in repr(state["messages"][1].content)
    assert world.effects("output")[0] == "redact"


class Answer(BaseModel):
    """The answer."""

    text: str


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_structured_answer_beside_another_call_passes_output(
    world: World, mode: str, is_first: bool
) -> None:
    asked = [
        {"name": "Answer", "args": {"text": SAID}, "id": "1"},
        {"name": "look", "args": {"q": CARD}, "id": "2"},
    ]
    turn = AIMessage("", tool_calls=asked if is_first else asked[::-1])
    state = world.run(turn, "end", mode=mode, response_format=ToolStrategy(Answer))
    assert state["structured_response"] == Answer(text="your card is <CREDIT_CARD>")
    assert SAID not in repr(state) + world.emitted
    assert world.effects("output")[0] == "redact"
    # What the tool gets was decided for the tool: here policy lets the number pass.
    assert len(world.ran) == 1


@pytest.mark.parametrize("mode", MODES)
def test_text_beside_a_tool_call_passes_output_before_it_is_shown(world: World, mode: str) -> None:
    turn = AIMessage(SAID, tool_calls=[{"name": "look", "args": {"q": "x"}, "id": "1"}])
    state = world.run(turn, "end", mode=mode)
    assert CARD not in repr(state) + world.emitted
    assert state["messages"][1].content == "your card is <CREDIT_CARD>"
    assert world.ran == ["x"]
    assert world.effects("output") == ["redact", "allow"]


@pytest.mark.parametrize("mode", MODES)
def test_reasoning_beside_a_tool_call_passes_output_and_the_call_is_kept(
    world: World, mode: str
) -> None:
    class Thinking(ScriptedChatModel):
        def _turn(self, messages: Any, options: Any) -> AIMessage:
            message = super()._turn(messages, options)
            message.additional_kwargs = {"reasoning_content": SAID}
            return message

        def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

    Thinking._stream = ScriptedChatModel.__base__._stream  # type: ignore[method-assign]
    model = Thinking(script=[call("look", q="x"), "end"], model="scripted")
    state = world.run(model=model, mode=mode)
    assert CARD not in repr(state) + world.emitted
    assert world.ran == ["x"]


def test_a_turn_that_only_calls_tools_is_no_answer(world: World) -> None:
    world.run(call("look", q="x"), "end")
    assert world.effects("output") == ["allow"]


# -- what tools hand over ----------------------------------------------------------------------


class Person(BaseModel):
    name: str
    card: str = Field(exclude=True)


@dataclasses.dataclass
class Row:
    name: str

    def __str__(self) -> str:
        return f"{self.name} {CARD}"


@pytest.mark.parametrize(
    "result",
    [Person(name="jane", card=CARD), [Person(name="jane", card=CARD)], Row("jane")],
    ids=["object", "list", "dataclass"],
)
def test_a_field_that_was_not_scanned_does_not_leave(world: World, result: Any) -> None:
    world.result = result
    state = world.run(call("look", q="x"), "end")
    assert CARD not in repr(state)
    assert "jane" in repr(state["messages"][2].content)


@pytest.mark.parametrize("is_many", [True, False])
def test_what_a_command_sends_to_a_node_is_redacted(world: World, is_many: bool) -> None:
    send = Send("n", {"card": CARD})
    world.result = Command(goto=["m", send] if is_many else send, update={"note": CARD})
    with guard.session(CLERK, grants=TOOLS):
        got = governed_tool(world.look, world.interceptor, source=None).invoke({"q": "x"})
    sent = Send("n", {"card": "<CREDIT_CARD>"})
    assert got.goto == (["m", sent] if is_many else sent)
    assert got.update == {"note": "<CREDIT_CARD>"}
    assert send.arg == {"card": CARD}


def test_a_command_that_only_names_a_node_is_kept(world: World) -> None:
    world.result = Command(goto="n", graph=Command.PARENT)
    with guard.session(CLERK, grants=TOOLS):
        got = governed_tool(world.look, world.interceptor, source=None).invoke({"q": "x"})
    assert got == world.result


class Unreadable(BaseModel):
    def model_dump(self, **asked: Any) -> Any:
        raise ValueError(CARD)


@pytest.mark.parametrize(
    "result", [{1: {"x": CARD}, "1": "ok"}, Unreadable()], ids=["keys", "dump"]
)
def test_a_result_that_cannot_be_read_is_denied_and_recorded(world: World, result: Any) -> None:
    world.result = result
    state = world.run(call("look", q="x"), "end")
    (message,) = [m for m in state["messages"] if isinstance(m, ToolMessage)]
    assert "withheld" in str(message.content)
    assert CARD not in repr(state)
    assert world.effects("post_tool_call") == ["deny"]


# -- what models hand over ---------------------------------------------------------------------


class Deep(ScriptedChatModel):
    """Calls a tool with arguments that nest 600 deep."""

    def _turn(self, messages: Any, options: Any) -> AIMessage:
        deep: Any = CARD
        for _ in range(600):
            deep = {"a": deep}
        turn = call("look")
        turn.tool_calls[0]["args"] = {"q": deep}
        return turn

    def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        args_text = json.dumps(self._turn(messages, {}).tool_calls[0]["args"])
        chunk = tool_call_chunk(name="look", args=args_text, id="1", index=0)
        yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[chunk]))


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_that_nests_too_deep_is_denied_and_recorded(world: World, mode: str) -> None:
    state = world.run(model=Deep(script=["x"], model="scripted"), mode=mode)
    assert "withheld" in str(state["messages"][-1].content)
    assert world.effects("post_model_call") == ["deny"]
    assert world.ran == []


def test_an_answer_that_cannot_be_read_is_denied_and_recorded(world: World) -> None:
    class Broken(ScriptedChatModel):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            return ChatResult.model_construct(generations=[object()], llm_output=None)

    with guard.session(CLERK), pytest.raises(StoppedDenied):
        govern(Broken(script=["x"], model="scripted"), world.interceptor).invoke("hi")
    assert [(e.kind, e.effect) for e in world.log.entries] == [
        ("intent", "allow"), ("outcome", "deny"),
    ]  # fmt: skip


# -- arguments nobody wrote --------------------------------------------------------------------


@pytest.fixture
def strict(tmp_path: Path) -> World:
    folder = tmp_path / "rules" / "payroll"
    folder.mkdir(parents=True)
    (folder / "payroll.rego").write_text(PAYROLL)
    return World(policies=[tmp_path])


@tool
def query(columns: list[str], table: str = "payroll", limit: int | None = None) -> str:
    """Query."""
    return f"rows of {table} {limit}"


class Query(BaseTool):
    """A tool without a schema of its own."""

    name: str = "query"
    description: str = "Query."

    def _run(self, columns: list[str], table: str = "payroll", limit: int | None = None) -> str:
        return f"rows of {table} {limit}"


class Arguments(BaseModel):
    columns: list[str]
    table_name: str = Field("payroll", alias="table")


@tool(args_schema=Arguments)
def aliased(columns: list[str], table_name: str) -> str:
    """Query."""
    return f"rows of {table_name} None"


@tool(args_schema={"type": "object", "properties": {"table": {"default": "payroll"}}})
def described(columns: list[str], table: str = "payroll") -> str:
    """Query."""
    return f"rows of {table} None"


KINDS = [query, Query(), aliased, described]


@pytest.mark.parametrize("kind", KINDS, ids=["tool", "class", "alias", "json_schema"])
def test_a_default_of_a_tool_is_an_argument_that_policy_sees(strict: World, kind: Any) -> None:
    odd = kind.model_copy(update={"name": "query"})
    state = strict.run(call("query", columns=["a"]), "end", tools=[odd])
    assert "payroll.no" in str(state["messages"][2].content)
    assert strict.effects("pre_tool_call") == ["deny"]


@pytest.mark.parametrize("kind", KINDS, ids=["tool", "class", "alias", "json_schema"])
def test_an_argument_that_was_given_comes_before_its_default(strict: World, kind: Any) -> None:
    odd = kind.model_copy(update={"name": "query"})
    state = strict.run(call("query", columns=["a"], table="cars"), "end", tools=[odd])
    assert state["messages"][2].content == "rows of cars None"


def test_a_tool_runs_with_the_defaults_that_were_decided(world: World) -> None:
    state = world.run(call("query", columns=["a"]), "end", tools=[query])
    assert state["messages"][2].content == "rows of payroll None"
    (asked,) = [e.input for e in world.log.entries if e.point == "pre_tool_call"]
    assert asked == {"columns": ["a"], "table": "payroll", "limit": None}


def test_a_default_beside_an_argument_given_as_text_is_seen_too(strict: World) -> None:
    @tool("query")
    def single(q: str, table: str = "payroll") -> str:
        """Query."""
        return table

    with guard.session(CLERK, grants=TOOLS), pytest.raises(StoppedDenied):
        governed_tool(single, strict.interceptor, source=None).invoke("x")


@pytest.mark.parametrize("mode", MODES)
def test_a_broken_call_is_not_mended_after_it_was_decided(world: World, mode: str) -> None:
    class Whole(ScriptedChatModel):
        """Does not stream: its whole answer becomes the one chunk of a stream."""

    Whole._stream = BaseChatModel._stream  # type: ignore[method-assign]
    turn = broken("", '{"text": "4111\\u00201111 1111 1111"')
    turn.invalid_tool_calls[0]["name"] = "Answer"
    model = Whole(script=[turn, "end"], model="scripted")
    state = world.run(model=model, mode=mode, response_format=ToolStrategy(Answer))
    assert state.get("structured_response") is None
    assert CARD not in repr(state) + world.emitted


def test_a_default_without_a_json_form_does_not_stop_the_call(world: World) -> None:
    @tool("query")
    def odd(q: str, most: float = float("inf"), key: Any = object) -> str:
        """Query."""
        world.ran.append((q, most, key))
        return "ok"

    world.run(call("query", q="x"), "end", tools=[odd])
    assert world.ran == [("x", float("inf"), object)]
