"""How a principal has behaved, as a score with a lower bound. Trust alone permits nothing."""

from .score import TrustBook, score

__all__ = ["TrustBook", "score"]
