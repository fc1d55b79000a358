"""Personal data and secrets: what stands where in a target, and what is put in its place."""

from .detectors import ENTITIES
from .redact import OPERATORS, mask_for_record, mask_text, rewrite
from .scan import Scan, Scanner
from .secrets import SECRETS

__all__ = [
    "ENTITIES",
    "OPERATORS",
    "SECRETS",
    "Scan",
    "Scanner",
    "mask_for_record",
    "mask_text",
    "rewrite",
]
