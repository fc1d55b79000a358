"""The work that is measured: one tool call of about 200 characters, 25 rules in scope, N others.

The same rules are written for us in Rego and for the peer in its own language: 25 about the tool
that is called, which all reach their second condition, and N about a tool of its own each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from guard import Interceptor, Point, Request, Session, ToolDeclaration, session
from guard.audit import AuditLog
from guard.durability import Durabilities
from guard.keys import Mac, Signer
from guard.policy import Bundle, EmbeddedEngine, load_bundle

__all__ = [
    "ARGUMENTS",
    "TOOL",
    "bundle",
    "interceptor",
    "peer_policy",
    "request",
    "run",
]

IN_SCOPE = 25
TOOL = ToolDeclaration(name="transfer", effects=("read",), returns="trusted")
ARGUMENTS: dict[str, Any] = {
    "to": "operations",
    "amount": 50,
    "memo": "quarterly settlement of the accounts payable, as agreed with the team on Monday, "
    "to be booked before the end of the month and reported to the controller by mail",
    "tags": ["books", "payables"],
    "urgent": False,
}

_RULE = """# METADATA
# scope: package
# title: {title}
# description: A rule of the benchmark.
# custom:
#   points: [pre_tool_call]{tools}
package guard.rules.{name}

import rego.v1

verdicts contains {{
	"effect": "deny",
	"code": "{name}.over",
	"message": "the amount is over the limit",
	"pointers": ["/args/amount"],
}} if {{
	input.tool.name == "{tool}"
	input.args.amount > {limit}
}}
"""
_PERMIT = """# METADATA
# scope: package
# title: Permit
# description: Permits, so that the call is made.
# custom:
#   points: [pre_tool_call, post_tool_call]
package guard.rules.permit

import rego.v1

verdicts contains {"effect": "allow", "code": "permit.all", "message": "permitted"}
"""


def bundle(directory: Path, others: int) -> Bundle:
    """25 rules in scope of TOOL, a permit, and `others` rules about other tools."""
    for index in range(IN_SCOPE):
        _write(directory, f"scope_{index}", tool=TOOL.name, tools="", limit=100_000 + index)
    for index in range(others):
        tool = f"other_{index}"
        _write(directory, tool, tool=tool, tools=f"\n#   tools: [{tool}]", limit=100_000 + index)
    folder = directory / "rules" / "permit"
    folder.mkdir(parents=True)
    (folder / "permit.rego").write_text(_PERMIT)
    return load_bundle([directory])


def _write(directory: Path, name: str, *, tool: str, tools: str, limit: int) -> None:
    folder = directory / "rules" / name
    folder.mkdir(parents=True)
    text = _RULE.format(title=name, name=name, tool=tool, tools=tools, limit=limit)
    (folder / f"{name}.rego").write_text(text)


RELAXED = Durabilities("relaxed", "relaxed")


@contextmanager
def place() -> Iterator[Path]:
    """A directory for one measurement; the logs in it are closed before it goes."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        _OPEN.append(stack)
        yield Path(name)
        _OPEN.remove(stack)


_OPEN: list[ExitStack] = []


def interceptor(
    directory: Path, others: int, durability: Durabilities = RELAXED, *, is_sequencer: bool = True
) -> Interceptor:
    """With a real log on disk, handed to the operating system before each call is made."""
    signer = Signer.load_or_create(directory / "keys" / "log.key", name="guard/audit")
    policies = bundle(directory / "policies", others)
    mac = Mac.load_or_create(directory / "keys" / "commitment.key")
    log = AuditLog.open(
        directory / "audit",
        signer=signer if is_sequencer else None,
        mac=mac,
    )
    made = Interceptor(
        engine=EmbeddedEngine(policies), sink=log, key=mac.key, durability=durability
    )
    _OPEN[-1].callback(made.close)
    return made


def agent() -> Session:
    """The session in which everything is measured."""
    return session("did:web:agents.example:clerk", roles=["clerk"], grants=[TOOL.name])


def request(made: Interceptor) -> Request:
    """The request of one tool call."""
    return made.request(Point.PRE_TOOL_CALL, ARGUMENTS, tool=TOOL)


def run(_: Any) -> str:
    """The tool: what it does costs nothing, so that only governance is measured."""
    return "transferred"


def peer_policy(others: int) -> str:
    """The same rules in the language of agent-governance-toolkit."""
    names = [TOOL.name] * IN_SCOPE + [f"other_{index}" for index in range(others)]
    rules = "".join(
        f"  - name: rule-{index}\n"
        f"    condition: \"action.type == '{tool}' and amount.value > {100_000 + index}\"\n"
        f"    action: deny\n"
        for index, tool in enumerate(names)
    )
    return (
        "apiVersion: governance.toolkit/v1\nname: bench\nagents: ['*']\n"
        f"default_action: allow\nrules:\n{rules}"
    )
