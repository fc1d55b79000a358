"""Behaviour score: a Beta reputation, and a bounded book of who did what.

The score is the mean of Beta(prior_good + good, prior_bad + VIOLATION_WEIGHT * bad), the Beta
reputation system of Josang and Ismail (15th Bled Electronic Commerce Conference, 2002) with
weighted feedback: a violation counts three times, so that trust is slow to gain and quick to lose.

The prior Beta(7, 3) says "seven of ten go well": a new principal has score 0.70 and lower bound
0.52, over the default floor of 0.3. Five violations out of ten bring the lower bound to 0.29.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import Final

from ..evidence import TrustView
from ..locks import renew_after_fork

__all__ = ["PRINCIPALS_MAX", "TrustBook", "score"]

PRIOR_GOOD: Final = 7.0
PRIOR_BAD: Final = 3.0
VIOLATION_WEIGHT: Final = 3.0
PRINCIPALS_MAX: Final = 10_000  # about 2 MB
# 0.90 quantile of the standard normal distribution: the bound is one-sided, 90 %.
_Z: Final = 1.2815515655446004


def score(
    good: int, bad: int, *, prior_good: float = PRIOR_GOOD, prior_bad: float = PRIOR_BAD
) -> TrustView:
    """Score after `good` steps and `bad` violations, both 0 or more.

    `lower` is the normal approximation of the 10 % quantile of the Beta posterior, not below 0.0
    (Gelman et al., Bayesian Data Analysis, 3rd edition, section 4.1). Both rise with `good` and
    fall with `bad` for priors of 1 or more.
    """
    alpha = prior_good + good
    beta = prior_bad + VIOLATION_WEIGHT * bad
    total = alpha + beta
    mean = alpha / total
    deviation = math.sqrt(mean * (1.0 - mean) / (total + 1.0))
    return TrustView(mean, max(0.0, mean - _Z * deviation), good + bad)


class TrustBook:
    """Good steps and violations by principal; safe to share between threads, bounded.

    When it is full the principal that was recorded least recently is forgotten, and always one
    without violations while there is any: a violator must not become new again by waiting. Only
    when all of `principals_max` have violations the oldest of them goes, and `forgotten_count`
    says so.
    """

    lock: threading.RLock

    def __init__(self, *, principals_max: int = PRINCIPALS_MAX) -> None:
        self.principals_max = principals_max
        self.forgotten_count = 0  # of principals with violations
        renew_after_fork(self)
        self._clean: OrderedDict[str, int] = OrderedDict()
        self._violators: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def record(self, principal_id: str, *, good: bool) -> None:
        """Note one step of a principal: a good one or a violation."""
        with self.lock:
            known = self._violators.get(principal_id)
            if known is None and good:
                self._clean[principal_id] = self._clean.get(principal_id, 0) + 1
                self._clean.move_to_end(principal_id)
            else:
                good_count, bad_count = known or (self._clean.pop(principal_id, 0), 0)
                if good:
                    good_count += 1
                else:
                    bad_count += 1
                self._violators[principal_id] = (good_count, bad_count)
                self._violators.move_to_end(principal_id)
            if len(self._clean) + len(self._violators) > self.principals_max:
                if self._clean:
                    self._clean.popitem(last=False)
                else:
                    self._violators.popitem(last=False)
                    self.forgotten_count += 1

    def snapshot(self, principal_id: str) -> tuple[int, int]:
        """(good, bad) of a principal; (0, 0) if never seen or forgotten."""
        with self.lock:
            return self._violators.get(principal_id) or (self._clean.get(principal_id, 0), 0)
