"""Decisions that wait for a person."""

from .queue import Approval, Held, ReviewItem, ReviewQueue, ReviewState

__all__ = ["Approval", "Held", "ReviewItem", "ReviewQueue", "ReviewState"]
