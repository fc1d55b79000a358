"""The current principal and path: who acts now, for whom, and what has happened on the way.

A session lives in a ContextVar, so it follows tasks, and `asyncio.to_thread`. A thread of one's
own starts without any: there the principal is anonymous and policy denies, until the thread enters
the session (`with session:`). Sessions nest; what the inner one does not say it takes from the
outer, except grants, and it walks the same path: a fact learned in the outer one still holds.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Final

import msgspec

from .errors import ConfigError
from .locks import renew_after_fork
from .path.state import Path
from .plain import Json, freeze
from .request import ANONYMOUS, Context, Grant, Principal, Request

__all__ = ["Sequence", "Session", "current_session", "forget_runs", "in_session", "session"]

# Runs with an id that are remembered; the one resumed least recently is forgotten first.
RUNS_MAX: Final = 10_000

_STACK: Final[ContextVar[tuple[Session, ...]]] = ContextVar("guard_session", default=())


class Sequence:
    """The number of the next record of a session: dense from 0, so that a gap means a loss.

    Whoever records holds `lock` while it writes, and takes the number only if that succeeded.
    """

    __slots__ = ("__weakref__", "lock", "next")

    lock: threading.RLock

    def __init__(self) -> None:
        renew_after_fork(self)
        self.next = 0


class _Runs:
    """The path and the numbers of every run that was given an id, so that it can be resumed."""

    lock: threading.RLock

    def __init__(self) -> None:
        renew_after_fork(self)
        self._known: OrderedDict[str, tuple[Path, Sequence, str]] = OrderedDict()

    def forget(self) -> None:
        """Every run begins anew."""
        with self.lock:
            self._known.clear()

    def resume(self, run_id: str, path: Path | None) -> tuple[Path, Sequence, str]:
        """What is known of a run. Inside another session both walk that one's path from here."""
        with self.lock:
            known, sequence, trace_id = self._known.get(run_id) or (Path(), Sequence(), new_id())
            if path is not None and path is not known:
                path.add_facts(known.view().facts)
                known = path
            self._known[run_id] = (known, sequence, trace_id)
            self._known.move_to_end(run_id)
            if len(self._known) > RUNS_MAX:
                self._known.popitem(last=False)
            return known, sequence, trace_id


class Session:
    """One run of an agent: principal, context, grants, path, and the order of its records.

    Enter it with `with`, also in several threads at once. Immutable but for its path.
    """

    __slots__ = ("context", "grants", "id", "path", "principal", "sequence", "trace_id")

    def __init__(
        self,
        principal: Principal,
        context: Context,
        grants: tuple[Grant, ...],
        *,
        path: Path | None = None,
        id: str | None = None,  # noqa: A002 the word of the domain
        trace_id: str | None = None,
        sequence: Sequence | None = None,
    ) -> None:
        self.principal = principal
        self.context = context
        self.grants = grants
        self.path = path if path is not None else Path()
        self.id = id or new_id()
        self.trace_id = trace_id or new_id()
        self.sequence = sequence if sequence is not None else Sequence()

    def __enter__(self) -> Session:
        _STACK.set((*_STACK.get(), self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The last entry of this session, wherever it is: a generator may be closed out of order.
        stack = _STACK.get()
        for index in range(len(stack) - 1, -1, -1):
            if stack[index] is self:
                _STACK.set(stack[:index] + stack[index + 1 :])
                return


def session(
    principal: str | Principal | None = None,
    *,
    roles: Iterable[str] = (),
    on_behalf_of: str | None = None,
    tenant: str | None = None,
    purpose: str | None = None,
    jurisdiction: str | None = None,
    tags: Iterable[str] | None = None,
    constraints: Mapping[str, Json] | None = None,
    subjects: Iterable[str] = (),
    grants: Iterable[Grant | str] = (),
    id: str | None = None,  # noqa: A002 the word of the domain
) -> Session:
    """A session to enter with `with`: who acts, in which context, with which grants.

    `id` names the run: a later session of the same id in this process resumes it.
    `principal` is an agent id (a DID where it has one); a grant given as a string covers the tool
    of that name with any arguments. `subjects` are ids of the persons whom it concerns, by which
    they can be erased. Inside another session this one narrows or replaces it: what is not given
    is inherited, grants never are, and subjects are added to the outer ones.
    """
    if isinstance(grants, str) or isinstance(roles, str) or isinstance(subjects, str):
        raise ConfigError('grants, roles and subjects are lists, such as grants=["search"]')
    outer = current_session()
    path = outer.path if outer is not None else None
    sequence = outer.sequence if outer is not None else None
    trace_id = outer.trace_id if outer is not None else None
    if id is not None and (outer is None or id != outer.id):
        # A run that is resumed by its id goes on where it was: a fact once true stays true, and a
        # gap in the numbers still means a loss.
        path, sequence, run_trace_id = _RUNS.resume(id, path)
        trace_id = trace_id or run_trace_id
    context = outer.context if outer is not None else Context()
    inherited = outer.principal if outer is not None else ANONYMOUS
    return Session(
        _principal(principal, tuple(roles), on_behalf_of, inherited),
        Context(
            tenant=tenant if tenant is not None else context.tenant,
            purpose=purpose if purpose is not None else context.purpose,
            jurisdiction=jurisdiction if jurisdiction is not None else context.jurisdiction,
            tags=tuple(tags) if tags is not None else context.tags,
            constraints=freeze(dict(constraints)) if constraints else context.constraints,
            subjects=tuple(dict.fromkeys((*context.subjects, *subjects))),
        ),
        tuple(Grant(tool=grant) if isinstance(grant, str) else grant for grant in grants),
        path=path,
        id=id or (outer.id if outer is not None else None),
        trace_id=trace_id,
        sequence=sequence,
    )


def current_session() -> Session | None:
    """The innermost session of this task or thread, or None."""
    stack = _STACK.get()
    return stack[-1] if stack else None


def in_session(request: Request) -> Request:
    """The request as the innermost session makes it, if there is one."""
    now = current_session()
    if now is None:
        return request
    return msgspec.structs.replace(
        request,
        principal=now.principal,
        context=now.context,
        grants=now.grants,
        session_id=now.id,
        trace_id=now.trace_id,
    )


def new_id() -> str:
    """128 random bits as 32 hex digits: a decision, trace or session id.

    They are drawn many at a time: each drawing lets go of the interpreter, and while another thread
    waits for it that costs more than all the rest of an id.
    """
    try:
        return _ids.pop()
    except IndexError:
        drawn = os.urandom(_ID_BYTES * _IDS_AT_ONCE).hex()
        more = [drawn[at : at + 2 * _ID_BYTES] for at in range(0, len(drawn), 2 * _ID_BYTES)]
        own = more.pop()
        _ids.extend(more)
        return own


_ID_BYTES: Final = 16
_IDS_AT_ONCE: Final = 256
_ids: Final[list[str]] = []
os.register_at_fork(after_in_child=_ids.clear)  # a child draws its own


_RUNS: Final = _Runs()


def forget_runs() -> None:
    """Forget every run with an id, as a restart does: between tests, never in production."""
    _RUNS.forget()


def _principal(
    given: str | Principal | None,
    roles: tuple[str, ...],
    on_behalf_of: str | None,
    outer: Principal,
) -> Principal:
    if isinstance(given, Principal):
        return given
    if given is None or given == outer.id:
        if not roles and on_behalf_of is None:
            return outer
        return Principal(
            id=outer.id,
            roles=roles or outer.roles,
            on_behalf_of=on_behalf_of or outer.on_behalf_of,
            delegation=outer.delegation,
        )
    delegation = (*outer.delegation, outer.id) if outer is not ANONYMOUS else ()
    return Principal(
        id=given,
        roles=roles,
        on_behalf_of=on_behalf_of or outer.on_behalf_of,
        delegation=delegation,
    )
