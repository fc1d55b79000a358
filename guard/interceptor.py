"""The one way through: prepare, decide, commit, record, enforce, call, and the same after.

    request ─▶ prepare ─▶ decide ─▶ commit ─▶ intent ─▶ the call, with the snapshot
               snapshot    pure      claim                  │
               path  ◀──  outcome ◀── commit ◀── decide ◀───┘ result or exception

`call` and `acall` are the two edges; all between them is shared, so that they cannot differ. Where
a framework owns the call, its adapter uses `before`, `after` and `after_error`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, TypeVar

import msgspec

from .clock import SYSTEM_CLOCK, Clock
from .commit import lift_reviews
from .conclude import conclude
from .decision import Decision, Effect, FaultNote
from .durability import Durabilities
from .errors import Denied, Outcome
from .evidence import Evidence
from .failure import governed_error, text_of
from .fleet import Fleet
from .form import formed, learned
from .permit import Checked, Permit, claim_name, is_violation
from .pii import Scanner
from .pipeline import Decided, decide, fault_note, faulted, passes_through
from .plain import DEFAULT_BOUNDS, Bounds, Json, freeze
from .policy import Engine
from .privacy import Privacy
from .recorder import OnAuditFailure, Recorder, RecordSink, failed_to_record, name_for_record
from .release import release
from .request import POST_OF, Host, ModelRef, Point, Request, ToolDeclaration, undeclared
from .review import ReviewItem, ReviewQueue
from .route import carry_out_route, is_routed
from .session import Session, current_session, in_session, new_id
from .stages import build_stages
from .trust import TrustBook

__all__ = ["Interceptor", "OnDeny"]

T = TypeVar("T")
# Findings in one value; each is rewritten and pointed at, and 5,000 take about 50 ms.
SPANS_MAX: Final = 5_000
OnDeny = Literal["raise", "return"]


class Interceptor:
    """Decides, enforces and records requests. Thread-safe; one serves a whole process."""

    def __init__(
        self,
        *,
        engine: Engine,
        sink: RecordSink,
        key: bytes,
        tools: Mapping[str, ToolDeclaration] | None = None,
        fleet: Fleet | None = None,
        models: Mapping[str, Any] | None = None,
        scanner: Scanner | None = None,
        trust: TrustBook | None = None,
        reviews: ReviewQueue | None = None,
        clock: Clock = SYSTEM_CLOCK,
        bounds: Bounds = DEFAULT_BOUNDS,
        on_deny: OnDeny = "raise",
        on_audit_failure: OnAuditFailure = "deny",
        durability: Durabilities = Durabilities(),  # noqa: B008 frozen
        privacy: Privacy | None = None,
    ) -> None:
        self.engine = engine  # a reload of the policies is one assignment
        self.tools = dict(tools or {})
        self.fleet = fleet if fleet is not None else Fleet.empty()
        self.models = dict(models or {})
        self.trust = trust if trust is not None else TrustBook()
        self.reviews = reviews if reviews is not None else ReviewQueue()
        self.clock = clock
        self.bounds = bounds
        self.on_deny: OnDeny = on_deny
        self.recorder = Recorder(
            sink, key=key, clock=clock, on_failure=on_audit_failure, privacy=privacy
        )
        if privacy is not None:
            privacy.keys.on_erased(self.reviews.purge)
        self.durability = durability
        self._conclude = partial(conclude, self.reviews, self.recorder)
        self._key = key
        self.stages = build_stages(
            scanner or Scanner(spans_max=SPANS_MAX), lambda: self.engine, key=key
        )

    def request(
        self,
        point: Point,
        target: Json,
        *,
        tool: str | ToolDeclaration | None = None,
        model: ModelRef | None = None,
        host: Host = Host(),  # noqa: B008 frozen
        call_id: str = "",
        run_id: str = "",
    ) -> Request:
        """A request of the current session. The organisation's declaration of a tool wins."""
        if isinstance(tool, str):
            tool = self.tools.get(tool) or undeclared(tool)
        elif tool is not None:
            tool = self.tools.get(tool.name, tool)
        request = Request(
            point=point,
            target=target,
            tool=tool,
            model=model,
            host=host,
            call_id=call_id,
            run_id=run_id,
            now_ns=self.clock.now_ns(),
        )
        return in_session(request)

    def decide(self, request: Request) -> Decision:
        """Answer without consequences: nothing is called, claimed or recorded."""
        return self.explain(request).decision

    def explain(self, request: Request) -> Decided:
        """The same with its evidence and every verdict."""
        _, decided = self._decide(request, current_session())
        told = msgspec.structs.replace(decided.decision, recorded=False)
        return Decided(told, decided.evidence, decided.verdicts)

    def check(self, request: Request) -> Checked:
        """Decide, record and enforce a one-sided point; raises Denied or ReviewPending."""
        now = current_session()
        request, decided, by = self._committed(*self._decide(request, now))
        decided, target = formed(request, learned(now, decided), key=self._key)
        decided, outcome, _ = self._conclude(
            request, decided, now, target, kind="decision", approved_by=by
        )
        if outcome is not None:
            raise outcome
        return Checked(decision=decided.decision, target=target)

    def call(
        self, request: Request, run: Callable[[Permit], T], *, on_deny: OnDeny | None = None
    ) -> T | Outcome:
        """Make one governed call: `run` gets the permit and uses its `target`, nothing else.

        Raises Denied or ReviewPending, or returns them where `on_deny` (or the policy) says so.
        """
        permit = self.before(request)
        if isinstance(permit, Outcome):
            return self.deliver(permit, on_deny)
        value, failure = None, None
        try:
            value = run(permit)
        except BaseException as error:  # noqa: BLE001 every end of a call is recorded
            failure = error
        return self.deliver(self.ended(permit, value, failure), on_deny)

    async def acall(
        self,
        request: Request,
        run: Callable[[Permit], Awaitable[T]],
        *,
        on_deny: OnDeny | None = None,
    ) -> T | Outcome:
        """The async twin of `call`."""
        permit = await self.abefore(request)
        if isinstance(permit, Outcome):
            return self.deliver(permit, on_deny)
        value, failure = None, None
        try:
            value = await run(permit)
        except BaseException as error:  # noqa: BLE001 every end of a call is recorded
            failure = error
        return self.deliver(self.ended(permit, value, failure), on_deny)

    def before(self, request: Request) -> Permit | Outcome:
        """Everything up to the call: a permit to make it, or the outcome instead of it."""
        permit = self._intend(request)
        if isinstance(permit, Outcome):
            return permit
        fault = self.recorder.settle(permit.number, self.durability.of(request))
        return permit if fault is None else self._not_durable(permit, fault)

    async def abefore(self, request: Request) -> Permit | Outcome:
        """The async twin of `before`: tasks that wait for the disk share its syncs."""
        permit = self._intend(request)
        if isinstance(permit, Outcome):
            return permit
        fault = await self.recorder.settle_async(permit.number, self.durability.of(request))
        return permit if fault is None else self._not_durable(permit, fault)

    def _intend(self, request: Request) -> Permit | Outcome:
        """Decide, and hand the intent over to the log."""
        now = current_session()
        request, decided, approved_by = self._committed(*self._decide(request, now))
        model_id: str | None = None
        notes: tuple[str, ...] = ()
        if is_routed(decided):
            asked = request.model.id if request.model is not None else "unnamed"
            routed = carry_out_route(
                request,
                decided,
                fleet=self.fleet,
                available=self.models.keys(),
                decide_again=lambda other: self._committed(*self._decide(other, now)),
            )
            request, decided, model_id = routed.request, routed.decided, routed.model_id
            approved_by += routed.approved_by
            notes = (f"routed_from={name_for_record(asked)}",) if model_id is not None else ()
        decided, target = formed(request, decided, key=self._key)
        decided, outcome, number = self._conclude(
            request, decided, now, target, kind="intent", approved_by=approved_by, notes=notes
        )
        if outcome is not None:
            if now is not None:
                now.path.deny()
            if is_violation(request, decided):
                self.trust.record(request.principal.id, good=False)
            return outcome
        claim = claim_name(request)
        if now is not None:
            now.path.claim(claim)
        return Permit(
            request=request,
            decided=decided,
            target=target,
            claim=claim,
            session=now,
            number=number,
            model_id=model_id,
        )

    def ended(self, permit: Permit, value: Any, failure: BaseException | None) -> Any:
        """The end of a call. Ask outside of an `except`: what is raised from inside one carries
        the original exception, with its text, as context."""
        return self.after(permit, value) if failure is None else self.after_error(permit, failure)

    def after(self, permit: Permit, value: Any, *, is_item: bool = False) -> Any:
        """The result in the form it may go on in, or the outcome that withholds it.

        An item of a stream is decided the same way; `finish` then ends the stream.
        """
        request, decided = self._decide_after(permit, value, error=None)
        return self._result(permit, request, decided, is_item=is_item)[0]

    def after_error(self, permit: Permit, error: BaseException) -> Outcome:
        """An exception is a result: scanned, decided, recorded, then raised with redacted text.

        Returns an outcome only where policy withholds it. What stops the process, the task or the
        generator is recorded and passes through as it came.
        """
        if passes_through(error):
            self._end(permit, kind="outcome", happened=None, error=type(error).__name__)
            raise error
        request, decided = self._decide_after(permit, text_of(error), error=type(error).__name__)
        result, is_withheld = self._result(permit, request, decided, is_item=False)
        if is_withheld:
            outcome: Outcome = result
            return outcome
        raise governed_error(error, request.target, result)

    def finish(self, permit: Permit, *, items: int, error: str | None = None) -> Outcome | None:
        """The end of a stream whose items went through `after`: its one outcome."""
        metrics = {"items": items}
        return self._end(permit, kind="outcome", happened=True, error=error, metrics=metrics)

    def deliver(self, value: T | Outcome, on_deny: OnDeny | None) -> T | Outcome:
        """Raise an outcome or hand it over as a value: the call's wish, policy's, the default."""
        wish = on_deny or (isinstance(value, Outcome) and value.decision.on_deny) or self.on_deny
        if isinstance(value, Outcome) and wish != "return":
            raise value
        return value

    def close(self) -> None:
        """Let go of the log, which signs what it holds. Nothing can be called after that."""
        self.recorder.close()

    def approve(self, review_id: str, *, by: str) -> ReviewItem:
        """Approve one review as the named person; raises ReviewFault, or AuditFault."""
        self.recorder.refresh()
        return self.reviews.approve(
            review_id, by=by, now_ns=self.clock.now_ns(), record=self.recorder.reviewed
        )

    def reject(self, review_id: str, *, by: str) -> ReviewItem:
        """Reject one review as the named person; raises ReviewFault, or AuditFault."""
        return self.reviews.reject(
            review_id, by=by, now_ns=self.clock.now_ns(), record=self.recorder.reviewed
        )

    def release(self, review_id: str) -> Json:
        """The result that reviews held back, once all are approved; raises ReviewFault.

        The release is recorded; where that fails it raises Denied, and the result is gone.
        """
        self.recorder.refresh()
        return release(self.reviews, self.recorder, review_id, self.clock.now_ns())

    # -- between the edges -------------------------------------------------------------------

    def _decide(
        self, request: Request, now: Session | None, evidence: Evidence | None = None
    ) -> tuple[Request, Decided]:
        """Prepare and decide. The request that comes back holds the snapshot as its target."""
        decision_id = new_id()
        try:
            request = msgspec.structs.replace(request, target=freeze(request.target, self.bounds))
            evidence = msgspec.structs.replace(
                evidence or Evidence(),
                observed=self.trust.snapshot(request.principal.id),
                **({"path": now.path.view()} if now is not None else {}),
            )
        except BaseException as error:
            if passes_through(error):
                raise
            # Without a snapshot there is nothing that could be scanned, run or stored.
            request = msgspec.structs.replace(request, target=None)
            fault = fault_note("prepare", error)
            return request, faulted(decision_id, fault, revision=self.engine.revision)
        return request, decide(
            request,
            evidence,
            self.stages,
            decision_id=decision_id,
            revision=self.engine.revision,
        )

    def _decide_after(
        self, permit: Permit, value: Any, *, error: str | None
    ) -> tuple[Request, Decided]:
        before = permit.request
        request = msgspec.structs.replace(
            before, point=POST_OF[before.point], target=value, now_ns=self.clock.now_ns()
        )
        labels = {}
        if before.tool is not None:
            labels = {
                "integrity": before.tool.returns,
                "confidentiality": before.tool.confidentiality,
                "source": f"tool:{before.tool.name}",
            }
        return self._decide(request, permit.session, Evidence(error=error, labels=labels))

    def _committed(
        self, request: Request, decided: Decided
    ) -> tuple[Request, Decided, tuple[str, ...]]:
        """(commit) Use up the approvals this request has; one that was rejected is a deny."""
        if decided.decision.effect is not Effect.REVIEW:
            return request, decided, ()
        decided, approved_by = lift_reviews(self.reviews, request, decided)
        return request, decided, approved_by

    def _result(
        self, permit: Permit, request: Request, decided: Decided, *, is_item: bool
    ) -> tuple[Any, bool]:
        """(the result or the outcome, whether it is withheld): path, form, record.

        An approval of a result releases what is held; it lets no second result through.
        """
        decided = learned(permit.session, decided)
        decided, target = formed(request, decided, key=self._key)
        if is_item and decided.decision.effect is Effect.ALLOW:
            outcome = None  # a stream is recorded once, at its end, and where an item was not plain
        else:
            about = {"kind": "item" if is_item else "outcome", "ref": permit.decision.id}
            decided, outcome, _ = self._conclude(
                request, decided, permit.session, target, happened=True, **about
            )
        if permit.session is not None and not is_item:
            permit.session.path.settle(permit.claim, happened=True)
        if not is_item and outcome is None and decided.evidence.error is None:
            self.trust.record(request.principal.id, good=True)
        return (target, False) if outcome is None else (outcome, True)

    def _not_durable(self, permit: Permit, fault: FaultNote) -> Outcome:
        """The call is not made: its intent may not outlive a power failure."""
        self._end(permit, kind="outcome", happened=False, error="AuditFault")
        return Denied(failed_to_record(permit.decided, fault).decision)

    def _end(self, permit: Permit, **record: Any) -> Outcome | None:
        """An outcome without a result to decide on: a stream's end, or a call that was stopped."""
        if permit.session is not None:
            # Whether a stopped call happened is not known, so it counts as one that did.
            permit.session.path.settle(permit.claim, happened=record["happened"] is not False)
        request = msgspec.structs.replace(
            permit.request, point=POST_OF[permit.request.point], target=None
        )
        decision = msgspec.structs.replace(
            permit.decision, id=new_id(), reasons=(), obligations=(), effect=Effect.ALLOW
        )
        decided = Decided(decision, permit.decided.evidence, ())
        fault, _ = self.recorder.record(
            request, decided, permit.session, ref=permit.decision.id, **record
        )
        return None if fault is None else Denied(failed_to_record(decided, fault).decision)
