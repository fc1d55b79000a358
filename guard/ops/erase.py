"""Erasing a data subject: everywhere, for good, with a certificate, and every proof still holds.

(1) certificates of earlier erasures that did not get into the log go there first;
(2) what is in memory and concerns the subject is purged: reviews, held results, vaults, caches;
(3) its key, salt and id are destroyed, unless a legal hold forbids it, and with them every sealed
    value, token and commitment that is made with them, wherever a copy is;
(4) the certificate goes into the log.

A crash between (3) and (4) loses nothing: the certificate waits beside the destroyed keys. Nothing
is kept by which an id could be told to have been erased: asked again by its id, the answer is that
there is no key of it. Ask by the pseudonym for the certificate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Protocol

import msgspec

from ..audit.entry import Entry, timestamp_of
from ..clock import SYSTEM_CLOCK, Clock
from ..keys.subjects import SubjectKeys
from .records import Appends, record, words

__all__ = ["Erasure", "Purgeable", "erase", "is_decidable"]

_REMAINS: Final = (
    "entries with their hashes and the tree; sealed values, tokens and commitments that nobody can "
    "open or compare"
)


class Purgeable(Protocol):
    """What keeps something of data subjects in memory, such as `guard.review.ReviewQueue`."""

    def purge(self, pseudonym: str) -> Mapping[str, int]:
        """Drop what concerns a data subject; how many of what."""
        ...


class Erasure(msgspec.Struct, frozen=True):
    """What came of it. `unknown`: no key is here, never was one or it is erased; nothing done."""

    state: Literal["erased", "already_erased", "unknown"]
    certificate: dict[str, Any] | None = None


def erase(
    subject: str,
    *,
    keys: SubjectKeys,
    log: Appends,
    by: str,
    authority: str,
    reason: str,
    purge: Iterable[Purgeable] = (),
    clock: Clock = SYSTEM_CLOCK,
) -> Erasure:
    """Erase the data subject of this id or pseudonym.

    Raises OnHold with nothing done, ConfigError for words that cannot be kept, and PrivacyFault or
    AuditFault when it could not be finished: doing it again finishes it.
    """
    authority = words("authority", authority, without=subject)
    reason = words("reason", reason, without=subject)
    by = words("by", by, without=subject)
    _finish(keys, log, clock)  # (1)
    pseudonym = keys.find(subject)
    if pseudonym is None:
        if not keys.is_erased(subject):
            return Erasure("unknown")
        known = keys.certificate(subject)  # what expired has none
        return Erasure("already_erased", msgspec.json.decode(known) if known else None)
    keys.holds.refuse((pseudonym,))
    purged: dict[str, int] = {}
    for place in purge:  # (2)
        for name, count in place.purge(pseudonym).items():
            purged[name] = purged.get(name, 0) + count

    def certify(pseudonym: str, generation: int) -> bytes:
        return msgspec.json.encode(
            {
                "pseudonym": pseudonym,
                "erased_at": timestamp_of(clock.now_ns()),
                "by": by,
                "authority": authority,
                "reason": reason,
                "destroyed": {"keys": 1, "salts": 1, "ids": 1, **purged},
                "key_store_generation": generation,
                "remains": _REMAINS,
            }
        )

    erased = keys.erase((pseudonym,), certify)  # (3)
    _finish(keys, log, clock)  # (4)
    certificate = keys.certificate(pseudonym)
    assert certificate is not None  # noqa: S101 it was kept with the erasure
    return Erasure(
        "erased" if erased else "already_erased",  # another process may have been faster
        msgspec.json.decode(certificate),
    )


def is_decidable(entry: Entry, keys: SubjectKeys) -> bool:
    """Whether the payload of an entry can still be had, to decide it anew."""
    if entry.commitment is not None:
        return False
    return not entry.sealed or not any(keys.is_erased(subject) for subject in entry.subjects)


def _finish(keys: SubjectKeys, log: Appends, clock: Clock) -> None:
    """End what was begun: no remains in the file, and every certificate in the log."""
    keys.scrub()
    for pseudonym in keys.unrecorded():
        certificate = msgspec.json.decode(keys.certificate(pseudonym) or b"{}")
        record(
            log, "erasure", certificate, by=str(certificate.get("by", "guard")), clock=clock,
            subjects=(pseudonym,),
        )  # fmt: skip
        keys.note_recorded(pseudonym)
