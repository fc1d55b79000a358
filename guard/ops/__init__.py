"""What spans the rooms: erasing a data subject, retention, opening sealed values."""

from __future__ import annotations

from .erase import Erasure, erase, is_decidable
from .open_sealed import Opened, open_sealed
from .retention import Archive, Expired, Gap, Retention, Segment, expire, lift_hold, place_hold

__all__ = [
    "Archive",
    "Erasure",
    "Expired",
    "Gap",
    "Opened",
    "Retention",
    "Segment",
    "erase",
    "expire",
    "is_decidable",
    "lift_hold",
    "open_sealed",
    "place_hold",
]
