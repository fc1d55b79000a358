"""Decisions that wait for a person. In memory in this version: a process's end is a deny.

A review is bound to a digest of exactly what was asked (session, call, point, tool, model, target).
An approval lifts only the REVIEW verdicts it was given for, once, until it expires; the whole
pipeline runs again when the call is made again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import msgspec

from ..decision import Review
from ..errors import ReviewFault
from ..locks import renew_after_fork
from ..plain import Json

__all__ = ["Approval", "Held", "ReviewItem", "ReviewQueue", "ReviewState"]

# Reviews kept; a person answers a few a minute, so more than this is a flood: further ones deny.
REVIEWS_MAX: Final = 10_000
REVIEW_BYTES_MAX: Final = 64 * 1024 * 1024  # of all summaries together
# Results held in memory: 100 of the largest payload are 400 MB.
HELD_MAX: Final = 100
NS_PER_S: Final = 1_000_000_000


class ReviewState(StrEnum):
    """Where a review stands. Only an approved one can lift, and only once."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class ReviewItem(msgspec.Struct, frozen=True, kw_only=True):
    """One question to one queue of people; `summary` is already redacted."""

    id: str
    digest: str
    queue: str
    codes: tuple[str, ...]
    requester: str
    summary: Json
    opened_ns: int
    expires_ns: int
    state: ReviewState = ReviewState.PENDING
    decided_by: str | None = None
    size_bytes: int = 0  # of the summary
    subjects: tuple[str, ...] = ()  # pseudonyms of the data subjects whom it concerns


class Held(msgspec.Struct, frozen=True):
    """A result that waits: in the form it may go on in, and what its release is recorded with."""

    result: Json
    about: Any


Answered = Callable[[ReviewItem], None]


class Approval(msgspec.Struct, frozen=True):
    """What the reviews of one digest say together."""

    lifted: frozenset[str] = frozenset()
    rejected: bool = False
    approved_by: tuple[str, ...] = ()


class ReviewQueue:
    """Thread-safe store of reviews, and of results that are held until they are approved."""

    lock: threading.RLock

    def __init__(self) -> None:
        renew_after_fork(self)
        self._bytes = 0
        self._items: OrderedDict[str, ReviewItem] = OrderedDict()
        self._by_digest: dict[tuple[str, str], str] = {}
        self._held: dict[tuple[str, ...], Held] = {}

    def open(
        self,
        digest: str,
        duty: Review,
        *,
        codes: tuple[str, ...],
        requester: str,
        summary: Json,
        review_id: str,
        now_ns: int,
        subjects: tuple[str, ...] = (),
    ) -> ReviewItem:
        """The pending review of this digest and queue, opened now unless it already is."""
        with self.lock:
            self._expire(now_ns)
            known = self._items.get(self._by_digest.get((digest, duty.queue), ""))
            if known is not None and known.codes == codes:
                return known
            size_bytes = len(msgspec.json.encode(summary))
            if len(self._items) >= REVIEWS_MAX or self._bytes + size_bytes > REVIEW_BYTES_MAX:
                raise ReviewFault(
                    f"{len(self._items)} reviews are open: decide some before asking for more"
                )
            self._bytes += size_bytes
            item = ReviewItem(
                id=review_id,
                digest=digest,
                queue=duty.queue,
                codes=codes,
                requester=requester,
                summary=summary,
                opened_ns=now_ns,
                expires_ns=now_ns + duty.ttl_s * NS_PER_S,
                size_bytes=size_bytes,
                subjects=subjects,
            )
            self._items[item.id] = item
            self._by_digest[digest, duty.queue] = item.id
            return item

    def pending(self, now_ns: int) -> tuple[ReviewItem, ...]:
        """What waits, oldest first."""
        with self.lock:
            self._expire(now_ns)
            return tuple(i for i in self._items.values() if i.state is ReviewState.PENDING)

    def approve(
        self, review_id: str, *, by: str, now_ns: int, record: Answered = lambda item: None
    ) -> ReviewItem:
        """Take it that `by` approves; raises ReviewFault for a requester's own or a late answer.

        `record` gets the answered review first; what it raises leaves the review as it was.
        """
        return self._answer(review_id, ReviewState.APPROVED, by, now_ns, record)

    def reject(
        self, review_id: str, *, by: str, now_ns: int, record: Answered = lambda item: None
    ) -> ReviewItem:
        """Take it that `by` says no: the same call is denied until the review expires."""
        return self._answer(review_id, ReviewState.REJECTED, by, now_ns, record)

    def consume(self, digest: str, queues: tuple[str, ...], now_ns: int) -> Approval:
        """Use up the answers for this digest. Nothing is used unless every queue has answered."""
        with self.lock:
            self._expire(now_ns)
            items = [self._items.get(self._by_digest.get((digest, q), "")) for q in queues]
            if any(item is not None and item.state is ReviewState.REJECTED for item in items):
                # Kept until it expires: asking the same again must not ask the person again.
                return Approval(rejected=True)
            answered = [i for i in items if i is not None and i.state is ReviewState.APPROVED]
            if not queues or len(answered) < len(queues):
                return Approval()
            self._drop(answered)
            return Approval(
                lifted=frozenset(code for item in answered for code in item.codes),
                approved_by=tuple(sorted({str(item.decided_by) for item in answered})),
            )

    def hold(self, reviews: tuple[ReviewItem, ...], held: Held) -> None:
        """Keep a result until all of these reviews are approved; any of their ids releases it."""
        with self.lock:
            if len(self._held) >= HELD_MAX:
                raise ReviewFault(f"{HELD_MAX} results are held already: release or reject some")
            self._held[tuple(item.id for item in reviews)] = held

    def release(self, review_id: str, now_ns: int) -> tuple[Held, tuple[str, ...]]:
        """What was held and who approved it, once; raises ReviewFault until all have approved."""
        with self.lock:
            self._expire(now_ns)
            group = next((ids for ids in self._held if review_id in ids), None)
            if group is None:
                raise ReviewFault(f"review `{review_id}` holds no result: expired or released")
            items = [self._items[one] for one in group]
            for item in items:
                if item.state is not ReviewState.APPROVED:
                    raise ReviewFault(
                        f"review `{item.id}` of queue `{item.queue}` is {item.state.value}, "
                        "not approved"
                    )
            held = self._held[group]
            self._drop(items)
            return held, tuple(sorted({str(item.decided_by) for item in items}))

    def purge(self, pseudonym: str) -> dict[str, int]:
        """Drop every review and held result that concerns a data subject; how many of each."""
        with self.lock:
            gone = [item for item in self._items.values() if pseudonym in item.subjects]
            held_before = len(self._held)
            self._drop(gone)
            return {"reviews": len(gone), "held_results": held_before - len(self._held)}

    def _answer(
        self, review_id: str, state: ReviewState, by: str, now_ns: int, record: Answered
    ) -> ReviewItem:
        with self.lock:
            self._expire(now_ns)
            item = self._items.get(review_id)
            if item is None:
                raise ReviewFault(f"review `{review_id}` is unknown or expired: list what waits")
            if item.state is not ReviewState.PENDING:
                raise ReviewFault(f"review `{review_id}` is already {item.state.value}")
            if by == item.requester or not by:
                raise ReviewFault("a review is answered by a named person, never by its requester")
            answered = msgspec.structs.replace(item, state=state, decided_by=by)
            record(answered)
            self._items[review_id] = answered
            return answered

    def _expire(self, now_ns: int) -> None:
        late = [item for item in self._items.values() if item.expires_ns <= now_ns]
        self._drop(late)

    def _drop(self, items: list[ReviewItem]) -> None:
        for item in items:
            gone = self._items.pop(item.id, None)
            self._bytes -= gone.size_bytes if gone is not None else 0
            for group in [ids for ids in self._held if item.id in ids]:
                del self._held[group]
            if self._by_digest.get((item.digest, item.queue)) == item.id:
                del self._by_digest[item.digest, item.queue]
