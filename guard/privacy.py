"""What of a payload the log may keep about a person, and in which form.

(1) whom it concerns is found; where that fails, no payload is stored;
(2) without a completed scan no payload is stored, only a commitment;
(3) values to keep are taken out, to be sealed for all of its data subjects;
(4) what the scan found becomes `<ENTITY:hmac>`, an id of a subject `<SUBJECT:pseudonym>`;
(5) what was taken out is sealed, bound to its place in its entry.

Every HMAC is under the salts of the subjects, or of the month where there are none: all of them
can be destroyed.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from .decision import FaultNote
from .errors import ConfigError, Fault
from .evidence import Evidence, Span
from .keys.subjects import SubjectKeys
from .pii.redact import HASH_HEX_CHARS, mask_for_record
from .plain import Json, escape
from .request import Request
from .subjects import Subjects, folded, spans_of

__all__ = ["Privacy", "Protected", "month_of"]

# Fields and pointers to keep; a schema of personal data names far fewer.
KEPT_MAX: Final = 256
_S_PER_DAY: Final = 86_400
_NS_PER_DAY: Final = _S_PER_DAY * 1_000_000_000
_encode: Final = msgspec.json.Encoder().encode


class Protected(msgspec.Struct, frozen=True, kw_only=True):
    """A payload as the log may keep it. Pointers are into the entry, such as `/input/to`.

    `fault` says why there is a commitment in the place of the payload; `names` holds what stands
    for each id.
    """

    payload: Json = None
    masked: list[str] = []
    sealed: list[str] = []
    subjects: list[str] = []
    commitment: str | None = None
    fault: FaultNote | None = None
    names: dict[str, str] = {}

    def without_ids(self, text: str) -> str:
        """A text of the entry, such as `on_behalf_of`, with `<SUBJECT:pseudonym>` for every id."""
        for subject_id in sorted(self.names, key=len, reverse=True):
            text = text.replace(subject_id, self.names[subject_id])
        return text


class Privacy:
    """Protects payloads. `keep` are field names, or JSON pointers with `*` for any list index."""

    def __init__(
        self, keys: SubjectKeys, *, subjects: Subjects | None = None, keep: Iterable[str] = ()
    ) -> None:
        self.keys = keys
        self.subjects = subjects if subjects is not None else Subjects()
        # One attribute to look at where nothing is configured.
        self.is_configured = self.subjects.is_configured
        kept = tuple(keep)
        if len(kept) > KEPT_MAX:
            raise ConfigError(f"at most {KEPT_MAX} fields can be kept sealed, got {len(kept)}")
        self._names = frozenset(folded(one) for one in kept if not one.startswith("/"))
        self._patterns = frozenset(tuple(one.split("/")[1:]) for one in kept if one[:1] == "/")
        if "" in self._names or ("",) in self._patterns:
            raise ConfigError("a field to keep is a name or a JSON pointer, such as `/customer/*`")

    def protect(
        self, request: Request, evidence: Evidence, *, decision_id: str, now_ns: int
    ) -> Protected:
        """The payload of `request` for the entry `decision_id`.

        Raises PrivacyFault where not even a commitment can be made: then nothing may be recorded
        as if it had been, and the decision is a deny.
        """
        target = request.target
        pseudonyms: tuple[str, ...] = ()
        names: dict[str, str] = {}
        try:
            named = self.pseudonyms(request)  # (1)
            pseudonyms = tuple(sorted(named.values()))
            names = {one: f"<SUBJECT:{pseudonym}>" for one, pseudonym in named.items()}
            if evidence.is_scanned:  # (2)
                prefix = "/result" if request.point.is_post else "/input"
                return self._kept(
                    target, evidence, names, pseudonyms, (prefix, decision_id, now_ns)
                )
            note = None
        except Fault as fault:
            note = FaultNote("audit.privacy", "audit", str(fault))
        return Protected(
            commitment=(
                self.commit(_encode(target), pseudonyms, now_ns) if target is not None else None
            ),
            subjects=list(pseudonyms),
            fault=note,
            names=names,
        )

    def pseudonyms(self, request: Request) -> dict[str, str]:
        """Pseudonyms of whom a request concerns, by id; raises PrivacyFault."""
        return self.keys.pseudonyms(self.subjects.of(request))

    def commit(self, data: bytes, pseudonyms: Iterable[str], now_ns: int) -> str:
        """HMAC-SHA256 of `data` in hex, under a salt that goes when one of the subjects goes."""
        return hmac.digest(self._salt(pseudonyms, now_ns), data, "sha256").hex()

    def _salt(self, pseudonyms: Iterable[str], now_ns: int) -> bytes:
        salts = [self.keys.salt(pseudonym) for pseudonym in pseudonyms]
        return b"".join(salts) or self.keys.month_salt(month_of(now_ns))

    def _kept(
        self,
        target: Json,
        evidence: Evidence,
        names: Mapping[str, str],
        pseudonyms: tuple[str, ...],
        place: tuple[str, str, int],
    ) -> Protected:
        prefix, decision_id, now_ns = place
        places = _Places(self._names, self._patterns, evidence.secrets)
        if pseudonyms and (self._names or self._patterns):
            target = places.taken_out(target, (), "")  # (3)
        found = tuple(span for span in evidence.pii if not places.cover(span))
        labels = {one: name[1:-1] for one, name in names.items()}
        ids = spans_of(self.subjects, target, labels) if names else ()
        copy: Json = target
        masked: tuple[str, ...] = ()
        unscanned = [one for one in evidence.unscanned if not places.cover_pointer(one)]
        if found or evidence.secrets or ids or unscanned:
            salt = self._salt(pseudonyms, now_ns) if found else b""
            tokens = [_with_token(span, target, salt) for span in found]  # (4)
            copy, masked = mask_for_record(
                target, (*tokens, *evidence.secrets, *ids), key=b"", unscanned=unscanned
            )
        sealed: list[str] = []
        if places.holes:
            for pointer, hole, value in places.filled(copy, prefix):  # (5)
                aad = f"{decision_id} {pointer}"
                hole["$sealed"] = self.keys.seal(_encode(value), pseudonyms, aad)
                hole["subjects"] = list(pseudonyms)
                sealed.append(pointer)
        return Protected(
            payload=copy,
            masked=[f"{prefix}{pointer}" for pointer in masked],
            sealed=sealed,
            subjects=list(pseudonyms),
            names=dict(names),
        )


class _Places:
    """The places of one target whose values are kept, each with a hole where its value was."""

    def __init__(
        self, names: frozenset[str], patterns: frozenset[tuple[str, ...]], secrets: Iterable[Span]
    ) -> None:
        self._names = names
        self._patterns = patterns
        self._secrets = [span.pointer for span in secrets]
        self._pointers: list[str] = []
        self.holes: dict[int, tuple[dict[str, Any], Json]] = {}

    def taken_out(self, item: Json, path: tuple[str, ...], pointer: str) -> Json:
        """A copy of `item` with a hole at each place to keep, the outermost only."""
        kind = type(item)
        if kind is dict:
            return {
                key: self._below(
                    value, folded(key), (*path, escape(key)), f"{pointer}/{escape(key)}"
                )
                for key, value in item.items()
            }
        if kind is list or kind is tuple:
            return [
                self._below(value, None, (*path, "*"), f"{pointer}/{index}")
                for index, value in enumerate(item)
            ]
        return item

    def _below(self, value: Json, name: str | None, path: tuple[str, ...], pointer: str) -> Json:
        if name not in self._names and path not in self._patterns:
            return self.taken_out(value, path, pointer)
        # A credential is nobody's personal data: it is masked, and its field with it not kept.
        if any(one == pointer or one.startswith(f"{pointer}/") for one in self._secrets):
            return value
        hole: dict[str, Any] = {}
        self.holes[id(hole)] = (hole, value)
        self._pointers.append(pointer)
        return hole

    def cover(self, span: Span) -> bool:
        """Whether a span lies in a value that was taken out; the name of its field does not."""
        return self.cover_pointer(span.pointer, is_key=span.in_key)

    def cover_pointer(self, pointer: str, *, is_key: bool = False) -> bool:
        """The same for a pointer."""
        return any(
            pointer.startswith(f"{one}/") or (pointer == one and not is_key)
            for one in self._pointers
        )

    def filled(self, copy: Json, prefix: str) -> list[tuple[str, dict[str, Any], Json]]:
        """Pointer, hole and value of each, as they are in `copy`: masking may rename keys."""
        found: list[tuple[str, dict[str, Any], Json]] = []
        waiting: list[tuple[str, Json]] = [(prefix, copy)]
        while waiting:
            pointer, item = waiting.pop()
            kind = type(item)
            if kind is dict:
                if id(item) in self.holes:
                    found.append((pointer, *self.holes[id(item)]))
                waiting += [(f"{pointer}/{escape(key)}", value) for key, value in item.items()]
            elif kind is list:
                waiting += [(f"{pointer}/{index}", value) for index, value in enumerate(item)]
        return sorted(found, key=lambda one: one[0])


def month_of(moment_ns: int) -> str:
    """The month whose salt is for values of that moment, such as `2026_11` (UTC)."""
    return _month(moment_ns // _NS_PER_DAY)


@lru_cache(maxsize=32)
def _month(day: int) -> str:
    return f"{datetime.fromtimestamp(day * _S_PER_DAY, UTC):%Y_%m}"


def _with_token(span: Span, target: Json, salt: bytes) -> Span:
    """The span with an HMAC of its text in the name that will stand there."""
    if span.in_key:
        return span  # pointers in reasons name such a key by its entity alone
    item = target
    for token in span.pointer.split("/")[1:]:
        if type(item) is dict:
            item = item[token.replace("~1", "/").replace("~0", "~")]
        else:
            item = item[int(token)]
    text = item[span.start : span.end] if type(item) is str else str(int(item))
    token = hmac.digest(salt, text.encode(), "sha256").hex()[:HASH_HEX_CHARS]
    return msgspec.structs.replace(span, entity=f"{span.entity}:{token}")
