"""The scenes of the demo: a real LangChain agent over real files. `guard demo` shows them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from langchain.agents import create_agent
from langchain_core.messages import ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

import guard

from ..middleware import Governance
from ..testing import ScriptedChatModel
from .scripts import ANSWER, ASTRAY, LOOK, OUTSIDER, PAY, PLAN, SCRIPTS
from .tools import LEDGER, OUTBOX, clerk_tools, make_ledger

__all__ = ["main"]

CLERK: Final = "did:web:corp.example:agents:clerk"
PLANNER: Final = "did:web:corp.example:agents:planner"
REVIEWER: Final = "ann@finance"
GRANTS: Final = (
    "list_mail", "read_mail", "find_customer", "invoices", "pay_invoice", "send_mail", "run_python",
)  # fmt: skip
CARD: Final = "4111111111111111"
IBAN: Final = "DE89370400440532013000"
INVOICE: Final = "INV-2031"
MARTA: Final = "marta.klein@corp.example"
APPROVAL: Final = {"decisions": [{"type": "approve"}], "by": REVIEWER}

Scene = dict[str, Any]


def main(directory: Path) -> Iterator[Scene]:
    """Play the scenes in `directory`, with their files and the audit log in it.

    Each scene is {title, story, session, answer, facts}: facts are looked up where they would
    show (the ledger, the outbox, the disk, what the model was sent), and all must be true.
    """
    shutil.copytree(Path(__file__).parent / "files", directory, dirs_exist_ok=True)
    make_ledger(directory)
    stage = _Stage(directory)
    try:
        for play in (stage.route, stage.redact, stage.review, stage.deny, stage.plan):
            scene = play()
            # Within a second it is in the log anyway; who watches wants to see it now.
            stage.interceptor.recorder.checkpoint()
            yield scene
    finally:
        stage.interceptor.close()


class _Stage:
    """The agents, and where to look whether a thing really happened."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.approved = ScriptedChatModel(script=SCRIPTS, model="assistant-2026")
        self.retired = ScriptedChatModel(script=SCRIPTS, model="assistant-2023")
        self.interceptor = guard.init(
            directory / "guard.toml", models={"assistant-2026": self.approved}
        )
        self.tools = clerk_tools(directory)

    def agent(self, model: ScriptedChatModel) -> Any:
        """The one line: middleware=[Governance(...)]."""
        return create_agent(
            model,
            self.tools,
            middleware=[Governance(self.interceptor)],
            checkpointer=InMemorySaver(),
        )

    def route(self) -> Scene:
        state = self._run(self.agent(self.retired), LOOK, "mailbox")
        return _scene(
            "An agent asks for a retired model",
            "Its configuration still names assistant-2023. The fleet has retired it, so each call "
            "goes to the approved assistant-2026, with the tools bound again.",
            "mailbox",
            state,
            {
                "the retired model was never called": not self.retired.seen,
                "the approved model answered": len(self.approved.seen) == 2,
                "the mailbox was read": "Halden" in _result(state, "list_mail"),
            },
        )

    def redact(self) -> Scene:
        state = self._run(self.agent(self.approved), ANSWER, "card")
        seen = repr(self.approved.seen)
        return _scene(
            "A customer asks about her card",
            "The customer table holds her card and her bank account. The model gets the row with "
            "both replaced: it can answer, and has nothing to give away.",
            "card",
            state,
            {
                "the model saw that there is a card": "<CREDIT_CARD>" in seen,
                "the model never saw the number": CARD not in seen,
                "nor the bank account": IBAN not in seen,
            },
        )

    def review(self) -> Scene:
        agent = self.agent(self.approved)
        waiting = self._run(agent, PAY, "invoice")
        before = self._payments()
        (pause,) = waiting["__interrupt__"]
        state = self._run(agent, Command(resume=APPROVAL), "invoice")
        return _scene(
            "A payment over the limit waits for a person",
            f"EUR 1840 is over the limit of 500. The run stops before it pays, {REVIEWER} approves "
            "exactly this payment, the whole decision is made again, and the run goes on.",
            "invoice",
            state,
            {
                "it waited for the finance queue": pause.value["queue"] == "finance",
                "nothing was paid while it waited": before == 0,
                "the ledger shows exactly one payment": self._payments() == 1,
                "the mail to a colleague was sent": self._recipients() == [MARTA],
            },
        )

    def deny(self) -> Scene:
        state = self._run(self.agent(self.approved), ASTRAY, "injection")
        sent, ran = _result(state, "send_mail"), _result(state, "run_python")
        return _scene(
            "A mail tells the agent to steal the customer table",
            "Mail 05 carries orders for the model, and the model obeys: it reads all customers, "
            "mails them to a stranger, and runs the stranger's code.",
            "injection",
            state,
            {
                "the model did try to send it": _asked(state, "send_mail"),
                "the mail was denied": "confidential_egress.outside" in sent,
                "no mail to the stranger was sent": OUTSIDER not in self._recipients(),
                "the code was denied": "code_execution.not_a_role" in ran,
                "the code did not run": not (self.directory / "cleaned.txt").exists(),
            },
        )

    def plan(self) -> Scene:
        calls_before = len(self.approved.seen)
        state = self._run(self.agent(self.approved), PLAN, "plan", who=PLANNER, grants=())
        return _scene(
            "A planner may think and touch nothing",
            "It has an identity and no grants. It may call the model; no tool is open to it.",
            "plan",
            state,
            {
                "the planner could think": len(self.approved.seen) > calls_before,
                "its tool call was denied": "tool_granted.no_grant" in _result(state, "list_mail"),
            },
        )

    def _run(
        self, agent: Any, given: Any, name: str, *, who: str = CLERK, grants: Any = GRANTS
    ) -> Any:
        if isinstance(given, str):
            given = {"messages": [("user", given)]}
        with guard.session(who, grants=grants, id=name):
            return agent.invoke(given, {"configurable": {"thread_id": name}})

    def _payments(self) -> int:
        with closing(sqlite3.connect(self.directory / LEDGER)) as ledger:
            asked = ledger.execute("SELECT payments FROM invoices WHERE number = ?", (INVOICE,))
            return int(asked.fetchone()[0])

    def _recipients(self) -> list[str]:
        mails = sorted((self.directory / OUTBOX).glob("*.eml"))
        lines = [line for mail in mails for line in mail.read_text().splitlines()]
        return [line.removeprefix("To: ") for line in lines if line.startswith("To: ")]


def _scene(title: str, story: str, session: str, state: Any, facts: dict[str, bool]) -> Scene:
    answer = str(state["messages"][-1].content)
    return {
        "title": title, "story": story, "session": session, "answer": answer, "facts": facts,
    }  # fmt: skip


def _result(state: Any, tool: str) -> str:
    found = [m for m in state["messages"] if isinstance(m, ToolMessage) and m.name == tool]
    return str(found[-1].content) if found else ""


def _asked(state: Any, tool: str) -> bool:
    return any(
        asked["name"] == tool
        for message in state["messages"]
        for asked in getattr(message, "tool_calls", ())
    )
