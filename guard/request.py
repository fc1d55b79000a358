"""What is asked: one thing an agent is about to do, or has just got back."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from .plain import Json

__all__ = [
    "ANONYMOUS",
    "CONFIDENTIALITIES",
    "Context",
    "Grant",
    "Host",
    "ModelRef",
    "POST_OF",
    "Point",
    "Principal",
    "Request",
    "ToolDeclaration",
    "TARGET_KEY",
    "TOOL_EFFECTS",
    "undeclared",
]


class Point(StrEnum):
    """Where guard is asked: the eight points of AGENT-HOOKS-0.1 and four of our own."""

    AGENT_STARTUP = "agent_startup"
    INPUT = "input"
    PRE_MODEL_CALL = "pre_model_call"
    POST_MODEL_CALL = "post_model_call"
    PRE_TOOL_CALL = "pre_tool_call"
    POST_TOOL_CALL = "post_tool_call"
    OUTPUT = "output"
    AGENT_SHUTDOWN = "agent_shutdown"
    PRE_STEP = "pre_step"
    POST_STEP = "post_step"
    PRE_HANDOFF = "pre_handoff"
    POST_HANDOFF = "post_handoff"

    @property
    def is_post(self) -> bool:
        """True where the effect has already happened and its result is asked about."""
        return self in _POST_POINTS


POST_OF: Final = {
    Point.PRE_MODEL_CALL: Point.POST_MODEL_CALL,
    Point.PRE_TOOL_CALL: Point.POST_TOOL_CALL,
    Point.PRE_STEP: Point.POST_STEP,
    Point.PRE_HANDOFF: Point.POST_HANDOFF,
}
_POST_POINTS: Final = frozenset(POST_OF.values())

# The key under which the target stands in the policy input. Everything untrusted lives below it.
TARGET_KEY: Final = {
    Point.AGENT_STARTUP: "args",
    Point.INPUT: "messages",
    Point.PRE_MODEL_CALL: "messages",
    Point.POST_MODEL_CALL: "result",
    Point.PRE_TOOL_CALL: "args",
    Point.POST_TOOL_CALL: "result",
    Point.OUTPUT: "result",
    Point.AGENT_SHUTDOWN: "args",
    Point.PRE_STEP: "args",
    Point.POST_STEP: "result",
    Point.PRE_HANDOFF: "args",
    Point.POST_HANDOFF: "result",
}


class Principal(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Who acts. `id` is a DID where the agent has one."""

    id: str
    roles: tuple[str, ...] = ()
    on_behalf_of: str | None = None
    delegation: tuple[str, ...] = ()  # ids from the root to this principal's delegator


ANONYMOUS: Final = Principal(id="anonymous")


class Grant(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Permission in principle to use one tool; policy must still permit the call.

    `arguments` maps an argument name to the values it may have (any JSON scalars);
    `expires_ns` is wall time. A signed, attenuable form (Biscuit) takes this place later.
    """

    tool: str
    arguments: dict[str, tuple[str | int | float | bool | None, ...]] = {}
    expires_ns: int | None = None


class ToolDeclaration(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a tool does and returns. An undeclared tool counts as doing everything."""

    name: str
    effects: tuple[str, ...] = ()  # read, write, pay, send, delete, publish, execute, admin
    destinations: tuple[str, ...] = ()  # names of the arguments that say where to
    payloads: tuple[str, ...] = ()  # names of the arguments that say what
    returns: str = "untrusted"  # integrity of the result: trusted or untrusted
    confidentiality: str = "internal"  # of the result: public, internal, confidential, secret
    is_declared: bool = True


CONFIDENTIALITIES: Final = ("public", "internal", "confidential", "secret")
TOOL_EFFECTS: Final = ("read", "write", "pay", "send", "delete", "publish", "execute", "admin")


def undeclared(name: str) -> ToolDeclaration:
    """What is assumed of a tool without declaration: it does all, and returns untrusted secrets."""
    return ToolDeclaration(
        name=name, effects=TOOL_EFFECTS, confidentiality="secret", is_declared=False
    )


class ModelRef(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A model as it is about to be called. Approval is of all three fields together."""

    id: str
    provider: str | None = None
    endpoint: str | None = None


class Context(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The organisational side of a request, set by the session and by nobody else."""

    tenant: str | None = None
    purpose: str | None = None
    jurisdiction: str | None = None
    tags: tuple[str, ...] = ()
    constraints: dict[str, Json] = {}
    # Ids of the data subjects whom all of it concerns. Only the log's keys read them, no policy.
    subjects: tuple[str, ...] = ()


class Host(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the host can honour at this point. What it cannot honour becomes DENY, never ALLOW."""

    framework: str = "python"
    can_rewrite: bool = True
    can_route: bool = False
    can_pause: bool = True


class Request(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One thing to decide. `target` is the only value that a decision may rewrite."""

    point: Point
    target: Json
    principal: Principal = ANONYMOUS
    context: Context = Context()
    tool: ToolDeclaration | None = None
    model: ModelRef | None = None
    grants: tuple[Grant, ...] = ()
    host: Host = Host()
    session_id: str = ""
    run_id: str = ""
    call_id: str = ""
    trace_id: str = ""
    now_ns: int = 0
