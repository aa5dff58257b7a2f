"""Accuracies with their confidence intervals, 95 % by default."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from typing_extensions import Self

from stages.files.records import STRICT, Share

# a smaller spread of accuracies is rounding
NO_SPREAD = 1e-12


def alike(values: np.ndarray) -> bool:
    """Whether several values have no spread in this sample."""
    return len(values) > 1 and float(np.ptp(values)) <= NO_SPREAD


def wilson(correct: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion (E. B. Wilson, JASA 1927), inside [0, 1] also at 0 and at `total`.

    Raises ValueError unless 0 <= correct <= total and total >= 1.
    """
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"{correct} of {total} is not a proportion")
    return wilson_share(correct / total, total, level)


def wilson_share(share: float, total: float, level: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a `share` in [0, 1] of `total` > 0 samples; `total` may be fractional."""
    from scipy.special import ndtri

    z = float(ndtri(0.5 + level / 2))
    centre = share + z * z / (2 * total)
    half = z * math.sqrt(max(0.0, share * (1 - share)) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    # at 0 and 1 the exact bound is the share itself; rounding must not exclude it
    return max(0.0, min(share, (centre - half) / scale)), min(1.0, max(share, (centre + half) / scale))


def student_t(values: Sequence[float] | np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The Student t interval of the mean of `values` (one accuracy per episode), clipped to [0, 1].

    The interval of a single value is [0, 1]. Raises ValueError without a value.
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


@dataclass(frozen=True, config=STRICT)
class Estimate:
    """An accuracy and its 95 % interval, as fractions of 1."""

    accuracy: Share
    low: Share
    high: Share

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_inside("accuracy", self.accuracy, self.low, self.high)
        return self


def check_inside(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless `value` lies in its interval."""
    if not low - NO_SPREAD <= value <= high + NO_SPREAD:
        raise ValueError(f"{name} {value} is outside its interval, {low} to {high}")


def estimate(correct: np.ndarray, episodes: int = 0) -> Estimate:
    """The accuracy of `correct` (P,) bool: over images (Wilson), or over `episodes` of equal size (Student t).

    If all episodes have the same accuracy, the interval is Wilson over the decisions.
    """
    accuracy = float(correct.mean())
    if episodes:
        each = correct.reshape(episodes, -1).mean(axis=1)
        if not alike(each):
            return Estimate(accuracy, *student_t(each))
    return Estimate(accuracy, *wilson(int(correct.sum()), len(correct)))
