"""guard: runtime governance for AI agents, in process.

    import guard

    @guard.tool(effects=["pay"], destinations=["to"])
    def wire(to: str, amount: int) -> str: ...

    with guard.session("did:web:agents.example:clerk", grants=["wire"]):
        wire("ops@corp.example", 900)       # raises guard.ReviewPending: over the limit

`guard.init()` reads guard.toml; without it the first governed call does, with the defaults that are
embedded. What this package names here is public; everything else may change.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .decision import Decision, Effect, Reason, Redact, Review, Route, Verdict
from .decorators import Decorators
from .errors import (
    AuditFault,
    CapabilityFault,
    ConfigError,
    Denied,
    EntryRefused,
    Fault,
    FleetFault,
    GuardError,
    LogCorrupt,
    Outcome,
    PolicyFault,
    PolicyLoadError,
    ReviewFault,
    ReviewPending,
    SnapshotFault,
    ToolFailed,
)
from .interceptor import Interceptor
from .permit import Checked, Permit
from .request import (
    Context,
    Grant,
    Host,
    ModelRef,
    Point,
    Principal,
    Request,
    ToolDeclaration,
)
from .session import Session, current_session, session

if TYPE_CHECKING:
    from .config import Config

__version__ = "0.1.0"

__all__ = [
    # governing
    "init",
    "interceptor",
    "model",
    "session",
    "step",
    "tool",
    "use",
    "Interceptor",
    "Session",
    "current_session",
    # asking
    "Context",
    "Grant",
    "Host",
    "ModelRef",
    "Point",
    "Principal",
    "Request",
    "ToolDeclaration",
    # answers
    "Checked",
    "Decision",
    "Effect",
    "Permit",
    "Reason",
    "Redact",
    "Review",
    "Route",
    "Verdict",
    # outcomes and faults
    "GuardError",
    "Outcome",
    "Denied",
    "ReviewPending",
    "ToolFailed",
    "Fault",
    "AuditFault",
    "CapabilityFault",
    "ConfigError",
    "EntryRefused",
    "FleetFault",
    "LogCorrupt",
    "PolicyFault",
    "PolicyLoadError",
    "ReviewFault",
    "SnapshotFault",
]

_lock = threading.RLock()
_default: Interceptor | None = None


def init(
    config: Config | Path | str | None = None, *, models: Mapping[str, Any] | None = None
) -> Interceptor:
    """Make the interceptor of this process from `guard.toml` here, a file, or a Config.

    `models` are the model objects that a ROUTE decision may call, by their id in the fleet.
    Raises ConfigError, PolicyLoadError, FleetFault or AuditFault with what to mend.
    """
    from .assemble import assemble  # configuration pulls in pydantic: not before it is needed

    made = assemble(config, models=models)
    return use(made)


def use(made: Interceptor) -> Interceptor:
    """Make `made` the interceptor of this process."""
    global _default
    with _lock:
        _default = made
    return made


def interceptor() -> Interceptor:
    """The interceptor of this process; made by `init()` with its defaults if there is none yet."""
    if _default is None:
        from .assemble import assemble

        with _lock:
            if _default is None:
                globals()["_default"] = assemble()
    found: Interceptor | None = _default
    if found is None:
        raise ConfigError("there is no interceptor: call guard.init()")
    return found


_decorators = Decorators(interceptor)
tool = _decorators.tool
step = _decorators.step
model = _decorators.model
