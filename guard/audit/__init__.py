"""The audit log: append-only, tamper-evident, redacted before it is stored."""

from .entry import Entry
from .log import AuditLog, Durability

__all__ = ["AuditLog", "Durability", "Entry"]
