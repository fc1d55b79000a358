"""`guard decide` and `guard explain`: ask about one request without making it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, TextIO

import click
import msgspec

from ..assemble import bundle_of
from ..audit import Durability, Entry
from ..clock import SYSTEM_CLOCK, SystemClock
from ..config import load_config, load_tools
from ..decision import Decision, Effect
from ..errors import AuditFault, ConfigError
from ..evidence import Evidence
from ..fleet import Fleet
from ..interceptor import Interceptor
from ..pipeline import Decided
from ..plain import Json
from ..policy import Bundle, EmbeddedEngine
from ..request import Host, ModelRef, Point, Request, ToolDeclaration
from ..session import session

__all__ = ["decide", "explain"]

_FILE = click.argument("file", type=click.File("r"), default="-")
_CONFIG = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="guard.toml; default: here."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")

REQUEST_CHARS_MAX: Final = 64 * 1024 * 1024


class _Tool(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A tool with its declaration, where tools.toml has none."""

    name: str
    effects: tuple[str, ...]
    destinations: tuple[str, ...] = ()
    payloads: tuple[str, ...] = ()
    returns: str = "untrusted"
    confidentiality: str = "internal"


class _Asked(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The file's form: what a session would say beside what an agent would do."""

    point: Point
    target: Json = None
    tool: str | _Tool | None = None
    model: ModelRef | None = None
    host: Host = Host(can_route=True)
    principal: str = "anonymous"
    roles: tuple[str, ...] = ()
    tenant: str | None = None
    purpose: str | None = None
    jurisdiction: str | None = None
    grants: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    now_ns: int | None = None  # ask about another time than now


class _At(SystemClock):
    """The clock of a question about another time."""

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns


@click.command()
@_FILE
@_CONFIG
@_JSON
def decide(file: TextIO, config_file: Path | None, *, as_json: bool) -> None:
    """Decide one request from FILE, or stdin: the decision and its reasons. Nothing is recorded.

    \b
    Example:
      echo '{"point": "pre_tool_call", "target": {"amount": 900, "to": "ops"},
             "tool": {"name": "wire", "effects": ["pay"]},
             "principal": "did:web:clerk", "grants": ["wire"]}' | guard decide

    Exit codes: 0 permitted, 1 denied or to be reviewed, 2 the request is malformed.
    """
    decision = _ask(file, config_file).decided.decision
    if as_json:
        click.echo(msgspec.json.encode(decision))
    else:
        _print_decision(decision)
    sys.exit(0 if decision.is_permitted else 1)


@click.command()
@_FILE
@_CONFIG
@_JSON
def explain(file: TextIO, config_file: Path | None, *, as_json: bool) -> None:
    """Like `decide`, with every stage: rules in scope, which fired, and the evidence.

    Exit codes as for decide.
    """
    asked = _ask(file, config_file)
    decision, evidence = asked.decided.decision, asked.decided.evidence
    tool = asked.request.tool.name if asked.request.tool is not None else None
    rules = asked.bundle.scope(asked.request.point, tool).rules
    fired = {verdict.code.split(".")[0] for verdict in asked.decided.verdicts}
    if as_json:
        told = {
            "decision": decision,
            "rules": {rule: rule in fired for rule in rules},
            "verdicts": asked.decided.verdicts,
            "evidence": evidence,
        }
        click.echo(msgspec.json.encode(told))
    else:
        _print_decision(decision)
        _print_evidence(evidence)
        click.echo("rules in scope")
        for rule in rules:
            mark = "fired" if rule in fired else "-"
            click.echo(f"  {rule:22} {mark:6} {asked.bundle.rules[rule].metadata.title}")
    sys.exit(0 if decision.is_permitted else 1)


class _Answer(msgspec.Struct, frozen=True):
    request: Request
    decided: Decided
    bundle: Bundle


class _Nowhere:
    """The sink of an interceptor that is only asked."""

    def append(self, entry: Entry) -> int:
        raise AuditFault("guard decide records nothing")

    def wait(self, number: int, durability: Durability) -> None:
        """Nothing was recorded."""

    async def wait_async(self, number: int, durability: Durability) -> None:
        """Nothing was recorded."""

    def checkpoint(self) -> str:
        """Nothing was recorded."""
        return ""

    def close(self) -> None:
        """Nothing is open."""


def _ask(file: TextIO, config_file: Path | None) -> _Answer:
    asked = _read(file)
    config = load_config(config_file)
    fleet = Fleet.load(config.path(config.fleet_file)) if config.fleet_file else Fleet.empty()
    bundle = bundle_of(config, fleet)
    interceptor = Interceptor(
        engine=EmbeddedEngine(bundle),
        sink=_Nowhere(),
        key=os.urandom(32),
        tools=load_tools(config.path(config.tools_file)) if config.tools_file else {},
        fleet=fleet,
        bounds=config.limits.bounds(),
        clock=_At(asked.now_ns) if asked.now_ns is not None else SYSTEM_CLOCK,
    )
    with session(
        asked.principal,
        roles=asked.roles,
        tenant=asked.tenant,
        purpose=asked.purpose,
        jurisdiction=asked.jurisdiction,
        grants=asked.grants,
    ) as now:
        now.path.add_facts(asked.facts)
        request = interceptor.request(
            asked.point,
            asked.target,
            tool=asked.tool if isinstance(asked.tool, str) else _declared(asked.tool),
            model=asked.model,
            host=asked.host,
        )
        return _Answer(request, interceptor.explain(request), bundle)


def _read(file: TextIO) -> _Asked:
    text = file.read(REQUEST_CHARS_MAX + 1)
    if len(text) > REQUEST_CHARS_MAX:
        raise ConfigError(f"the request is longer than {REQUEST_CHARS_MAX} characters")
    try:
        return msgspec.json.decode(text, type=_Asked)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise ConfigError(
            f"not a request: {error}; see `guard decide --help` for an example"
        ) from None


def _declared(tool: _Tool | None) -> ToolDeclaration | None:
    if tool is None:
        return None
    return ToolDeclaration(**{name: getattr(tool, name) for name in tool.__struct_fields__})


def _print_decision(decision: Decision) -> None:
    click.secho(decision.effect.value.upper(), fg=_COLOURS[decision.effect], bold=True)
    for reason in decision.reasons:
        where = f"  {', '.join(reason.pointers)}" if reason.pointers else ""
        click.echo(f"  {reason.effect.value:7}{reason.code}: {reason.message}{_plain(where)}")
    for fault in decision.faults:
        click.echo(f"  fault  {fault.code}: {fault.message}")
    click.echo(f"  by policies {decision.revision[:16] or 'none'}")


def _print_evidence(evidence: Evidence) -> None:
    found = [f"{span.entity} at {span.pointer or '/'}" for span in evidence.pii + evidence.secrets]
    capability, trust = evidence.capability, evidence.trust
    rows = {
        "scan": ", ".join(found) or ("nothing found" if evidence.is_scanned else "not completed"),
        "unscanned": ", ".join(evidence.unscanned) or "nothing",
        "capability": capability.why,
        "trust": f"{trust.score:.2f}, at least {trust.lower:.2f}, of {trust.observations} outcomes",
        "path": f"{evidence.path.length} calls, facts: {', '.join(evidence.path.facts) or 'none'}",
    }
    for name, text in rows.items():
        click.echo(f"{name:12}{_plain(text)}")


def _plain(text: str) -> str:
    # Pointers hold keys that an attacker may have chosen: nothing of them may steer a terminal.
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


_COLOURS: Final = {
    Effect.ALLOW: "green",
    Effect.REDACT: "cyan",
    Effect.ROUTE: "blue",
    Effect.REVIEW: "yellow",
    Effect.DENY: "red",
}
