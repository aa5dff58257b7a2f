"""Two models on the same images or episodes: the interval of the difference of their accuracies, and a test of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.statistics.intervals import NO_SPREAD, alike, wilson_share


@dataclass(frozen=True)
class Paired:
    """The difference of two accuracies, the second minus the first, its 95 % interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p: float


def paired_images(first: np.ndarray, second: np.ndarray) -> Paired:
    """From the correct images of each, (P,) bool: Newcombe interval, exact McNemar test."""
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    low, high = newcombe(both, only_first, only_second, neither)
    return Paired((only_second - only_first) / len(first), low, high, mcnemar(only_first, only_second))


def paired_episodes(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> Paired:
    """From the accuracies of each per episode, (E,): Student t of the differences.

    With one episode the interval is [-1, 1] and p is 1. Raises ValueError without an episode.
    """
    values = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    if values.size < 1:
        raise ValueError("a difference needs at least one episode")
    mean = float(values.mean())
    if values.size == 1:
        return Paired(mean, -1.0, 1.0, 1.0)
    from scipy.special import stdtr, stdtrit

    error = float(values.std(ddof=1)) / math.sqrt(values.size)
    half = float(stdtrit(values.size - 1, 0.975)) * error
    p = float(2 * stdtr(values.size - 1, -abs(mean) / error)) if error else float(mean == 0)
    return Paired(mean, max(-1.0, mean - half), min(1.0, mean + half), p)


def paired_runs(first: np.ndarray, second: np.ndarray) -> Paired | None:
    """From the decisions of pairs of training runs on the same units: the interval for new runs on new units; None where
    no spread over either is seen.

    Args:
        first, second: (R, U), R pairs of runs with the accuracy of each run on each of U images or episodes.

    Runs and units are both taken as drawn at random. With several pairs and units that is the multi-reader multi-case analysis
    of Dorfman, Berbaum and Metz (Investigative Radiology 27, 1992, 723-731) with the degrees of freedom of S. L. Hillis
    (Statistics in Medicine 26, 2007, 596-619), runs being the readers. One unit gives Student t over the pairs of runs.

    Raises ValueError for fewer than two pairs.
    """
    values = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    runs, units = values.shape
    if runs < 2:
        raise ValueError("an interval over training runs needs at least two pairs")
    by_run, by_unit, mean = values.mean(1), values.mean(0), float(values.mean())
    if units < 2:
        return None if alike(by_run) else paired_episodes(np.zeros(runs), by_run)
    from scipy.special import stdtr, stdtrit

    rest = values - by_run[:, None] - by_unit[None, :] + mean
    own = 0.0 if alike(by_run) else float(by_run.var(ddof=1)) / runs
    crossed = float((rest**2).sum()) / ((runs - 1) * (units - 1)) / (runs * units)
    variance = own + max(0.0, float(by_unit.var(ddof=1)) / units - crossed)
    if variance <= NO_SPREAD**2:
        return None
    freedom = min((runs - 1) * (variance / own) ** 2, 1e9) if own else 1e9  # beyond that it is the normal distribution
    error = math.sqrt(variance)
    half = float(stdtrit(freedom, 0.975)) * error
    return Paired(mean, max(-1.0, mean - half), min(1.0, mean + half), float(2 * stdtr(freedom, -abs(mean) / error)))


def paired_classes(first: np.ndarray, second: np.ndarray, label: np.ndarray) -> Paired | None:
    """From decisions on the same points: the mean difference of the classes, with its interval for other classes, drawn like
    these; None of one class or where all differ alike.

    Intervals over images or episodes are for new images of the same classes. A difference between models that recognise new
    classes can come from a few of them, which only the spread over classes shows.

    Args:
        first, second: (R, P) bool, R pairs of training runs with their decisions at P points.
        label: (P,) the class of each point. Each class counts alike.

    Student t over the differences of the classes; with several pairs of runs the interval is for new runs too (`paired_runs`).
    """
    _, of = np.unique(label, return_inverse=True)
    count = np.bincount(of)
    sides = [np.stack([np.bincount(of, run) / count for run in side]) for side in (first, second)]
    if len(count) < 2 or alike((sides[1] - sides[0]).mean(0)):
        return None
    return paired_episodes(sides[0][0], sides[1][0]) if len(first) == 1 else paired_runs(sides[0], sides[1])


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value of McNemar's test (Psychometrika 1947): a sign test of what only one got right."""
    from scipy.special import bdtr

    total = only_first + only_second
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), total, 0.5))) if total else 1.0


def newcombe(both: float, only_first: float, only_second: float, neither: float) -> tuple[float, float]:
    """The 95 % interval of the difference (second minus first) of paired proportions, from counts that may be fractional.

    Two Wilson intervals, combined according to their correlation (R. G. Newcombe, Statistics in Medicine 17, 1998,
    2635-2650, method 10): inside [-1, 1] and valid for few images.
    """
    total = both + only_first + only_second + neither
    right = {"second": both + only_second, "first": both + only_first}
    (share, low, high), (other, other_low, other_high) = ((n / total, *wilson_share(n / total, total)) for n in right.values())
    product = right["first"] * (total - right["first"]) * right["second"] * (total - right["second"])
    cross = both * neither - only_first * only_second
    cross = max(cross - total / 2, 0.0) if cross > 0 else cross
    correlation = cross / math.sqrt(product) if product else 0.0

    def reach(mine: float, others: float) -> float:
        return math.sqrt(max(0.0, mine**2 - 2 * correlation * mine * others + others**2))

    difference = (only_second - only_first) / total
    return (
        max(-1.0, difference - reach(share - low, other_high - other)),
        min(1.0, difference + reach(high - share, other - other_low)),
    )
