"""Accuracies with their confidence intervals, 95 % by default."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# below it, what a spread of accuracies shows is rounding
NO_SPREAD = 1e-12


def alike(values: np.ndarray) -> bool:
    """Whether several values show no spread, which is not to say that there is none."""
    return len(values) > 1 and float(np.ptp(values)) <= NO_SPREAD


def wilson(correct: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion (E. B. Wilson, JASA 1927), inside [0, 1] also at 0 and at `total`.

    Raises ValueError unless 0 <= correct <= total and total >= 1.
    """
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"{correct} of {total} is not a proportion")
    return wilson_share(correct / total, total, level)


def wilson_share(share: float, total: float, level: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a `share` in [0, 1] that is as certain as one among `total` (> 0), not always whole."""
    from scipy.special import ndtri

    z = float(ndtri(0.5 + level / 2))
    centre = share + z * z / (2 * total)
    half = z * math.sqrt(max(0.0, share * (1 - share)) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    # at the ends the exact bound is the share itself; rounding must not put it outside
    return max(0.0, min(share, (centre - half) / scale)), min(1.0, max(share, (centre + half) / scale))


def student_t(values: Sequence[float] | np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The Student t interval of the mean of `values` (one accuracy an episode), cut to [0, 1].

    One value says nothing about the spread: its interval is [0, 1]. Raises ValueError for no value.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size < 1:
        raise ValueError("an interval needs at least one value")
    if sample.size == 1:
        return 0.0, 1.0
    from scipy.special import stdtrit

    mean = float(sample.mean())
    half = float(stdtrit(sample.size - 1, 0.5 + level / 2)) * float(sample.std(ddof=1)) / math.sqrt(sample.size)
    return max(0.0, mean - half), min(1.0, mean + half)


@dataclass(frozen=True)
class Estimate:
    """An accuracy and its 95 % interval, as fractions of 1."""

    accuracy: float
    low: float
    high: float

    def to_record(self) -> dict[str, float]:
        """As a JSON-able record."""
        return {"accuracy": self.accuracy, "low": self.low, "high": self.high}


def estimate(correct: np.ndarray, episodes: int = 0) -> Estimate:
    """The accuracy of `correct` (P,) bool: over images (Wilson), or over `episodes` equal runs (Student t).

    Where several episodes are all alike it is Wilson over the decisions.
    """
    accuracy = float(correct.mean())
    if episodes:
        each = correct.reshape(episodes, -1).mean(axis=1)
        if not alike(each):
            return Estimate(accuracy, *student_t(each))
    return Estimate(accuracy, *wilson(int(correct.sum()), len(correct)))
