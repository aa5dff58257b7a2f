"""The accuracies of several training runs: mean, standard deviation, and the interval of the mean over runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.statistics.intervals import alike, student_t

OVER_RUNS = "Student t 95 % of the mean over training runs, on these images"


@dataclass(frozen=True)
class OverRuns:
    """Accuracies of training runs that differ in the seed.

    Attributes:
        mean: of the runs.
        sd: sample standard deviation (n - 1) over runs; None for one run.
        low, high: Student t 95 % interval of the mean, clipped to [0, 1]; None for one run, and where all runs are alike.
        values: one accuracy a run.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    values: tuple[float, ...]


def over_runs(values: Sequence[float]) -> OverRuns:
    """Summarise the accuracies of R >= 1 runs."""
    each = np.asarray(values, dtype=np.float64)
    mean, given = float(each.mean()), tuple(float(one) for one in each)
    if len(each) < 2 or alike(each):
        return OverRuns(mean, 0.0 if len(each) > 1 else None, None, None, given)
    low, high = student_t(each)
    return OverRuns(mean, float(each.std(ddof=1)), low, high, given)
