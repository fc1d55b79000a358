"""Decisions that wait for a person."""

from .queue import Approval, ReviewItem, ReviewQueue, ReviewState

__all__ = ["Approval", "ReviewItem", "ReviewQueue", "ReviewState"]
