"""Key material: one place for it. So far the log's signing key and the key of commitments."""

from __future__ import annotations

from .signing import Mac, Signer, Verifier

__all__ = ["Mac", "Signer", "Verifier"]
