"""Every exception that leaves guard, as one tree.

GuardError
├── ToolFailed               tool_failed  a governed call raised; its text was redacted
├── Outcome                  the answer was not "go ahead"; nothing is broken
│   ├── Denied               denied
│   └── ReviewPending        review_pending
└── Fault                    something is broken; where it touched a decision, the decision is DENY
    ├── ConfigError          config
    ├── SnapshotFault        snapshot     the target is not bounded plain JSON
    ├── PolicyFault          policy       a policy did not load, or gave no well-formed answer
    │   └── PolicyLoadError  policy_load
    ├── CapabilityFault      capability
    ├── FleetFault           fleet
    ├── ReviewFault          review
    └── AuditFault           audit        the record could not be written or read
        ├── EntryRefused     entry_refused  the entry itself cannot be stored: too large
        ├── LogCorrupt       log_corrupt
        └── PrivacyFault     privacy      the keys of data subjects are away, or forbid it
            ├── SubjectErased  subject_erased
            └── OnHold       on_hold      a legal hold forbids the erasure

Messages are one line, lower case, and never contain payload text: it may be the secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .decision import Decision

__all__ = [
    "AuditFault",
    "CapabilityFault",
    "ConfigError",
    "Denied",
    "EntryRefused",
    "Fault",
    "FleetFault",
    "GuardError",
    "LogCorrupt",
    "OnHold",
    "Outcome",
    "PolicyFault",
    "PolicyLoadError",
    "PrivacyFault",
    "ReviewFault",
    "ReviewPending",
    "SnapshotFault",
    "SubjectErased",
    "ToolFailed",
]


class GuardError(Exception):
    """Base of all exceptions of guard."""

    code: ClassVar[str] = "guard"


class Outcome(GuardError):
    """The decision was carried out, and it was not "go ahead". Carries the `decision`."""

    code: ClassVar[str] = "outcome"

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        super().__init__(decision.summary())

    def __reduce__(self) -> tuple[type[Outcome], tuple[Any, ...]]:
        return type(self), (self.decision,)


class Denied(Outcome):
    """The request was denied: before the call, or its result is withheld after it."""

    code: ClassVar[str] = "denied"


class ReviewPending(Outcome):
    """A person must approve first: each of `review_ids`; `review_id` is the first of them."""

    code: ClassVar[str] = "review_pending"

    def __init__(self, decision: Decision, review_ids: tuple[str, ...]) -> None:
        super().__init__(decision)
        self.review_ids = review_ids

    @property
    def review_id(self) -> str:
        """The first review to approve; most decisions need one."""
        return self.review_ids[0]

    def __reduce__(self) -> tuple[type[Outcome], tuple[Any, ...]]:
        return type(self), (self.decision, self.review_ids)


class ToolFailed(GuardError):
    """A governed call raised, and its text was redacted: stands in for the original exception."""

    code: ClassVar[str] = "tool_failed"


class Fault(GuardError):
    """Something is broken or malformed. A fault in any stage of a decision is a DENY."""

    code: ClassVar[str] = "fault"


class ConfigError(Fault):
    """The configuration is wrong: the message names the file, the key and the mend."""

    code: ClassVar[str] = "config"


class SnapshotFault(Fault):
    """The target is not bounded plain JSON. `reason` is a stable code such as `snapshot.cyclic`."""

    code: ClassVar[str] = "snapshot"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[SnapshotFault], tuple[str, str]]:
        return type(self), (self.reason, str(self))


class PolicyFault(Fault):
    """A policy gave no well-formed answer."""

    code: ClassVar[str] = "policy"


class PolicyLoadError(PolicyFault):
    """A bundle was refused when it was loaded: the message names file, line and the mend."""

    code: ClassVar[str] = "policy_load"


class CapabilityFault(Fault):
    """A grant is malformed."""

    code: ClassVar[str] = "capability"


class FleetFault(Fault):
    """The fleet file is wrong, or a model object is missing."""

    code: ClassVar[str] = "fleet"


class ReviewFault(Fault):
    """A review is unknown, expired or already decided."""

    code: ClassVar[str] = "review"


class AuditFault(Fault):
    """The record could not be written or read."""

    code: ClassVar[str] = "audit"


class EntryRefused(AuditFault):
    """An entry that no log could hold, such as one over the size bound without its payload."""

    code: ClassVar[str] = "entry_refused"


class LogCorrupt(AuditFault):
    """The log contradicts itself or its checkpoint: it was changed, and it is not opened."""

    code: ClassVar[str] = "log_corrupt"


class PrivacyFault(AuditFault):
    """The store of subject keys cannot be used, or does not allow what was asked."""

    code: ClassVar[str] = "privacy"


class SubjectErased(PrivacyFault):
    """The key was destroyed with its data subject, or when it expired: nobody can open it."""

    code: ClassVar[str] = "subject_erased"


class OnHold(PrivacyFault):
    """A legal hold forbids what would destroy evidence."""

    code: ClassVar[str] = "on_hold"
