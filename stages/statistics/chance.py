"""Whether an accuracy is above chance, at chance, or collapsed. No torch."""

from __future__ import annotations

from typing import Literal

import numpy as np

from stages.statistics.intervals import NO_SPREAD, Estimate

Verdict = Literal["above chance", "at chance", "collapsed", "too few", "one candidate"]
LEGEND: dict[str, str] = {
    "at chance": "the interval contains chance",
    "collapsed": "the interval is below chance, or every prediction is the same class",
    "too few": "too few images or episodes: the interval contains chance and is wider than half the range from chance to 100 %",
    "one candidate": "a single candidate class is always right: nothing is measured",
}


def verdict(found: Estimate, chance: float, *, one_class: bool = False) -> Verdict:
    """What an accuracy says about a model.

    Args:
        found: the accuracy with its interval.
        chance: 1 / number of candidates.
        one_class: see `predicts_one_class`.

    Returns:
        'above chance': the interval is above chance.
        'at chance': the interval contains chance.
        'collapsed': the interval is below chance, or every prediction is the same class.
        'too few': the interval contains chance and is wider than (1 - chance) / 2: too few images or episodes to tell.
        'one candidate': chance is 1.
    """
    if chance == 1:
        return "one candidate"
    contains = found.low - NO_SPREAD <= chance <= found.high + NO_SPREAD
    if contains and found.high - found.low > (1 - chance) / 2:
        return "too few"
    if one_class or found.high < chance - NO_SPREAD:
        return "collapsed"
    return "at chance" if contains else "above chance"


def predicts_one_class(predicted: np.ndarray, labels: np.ndarray, episodes: int = 0) -> bool:
    """Whether all predictions (P,) are the same class although the `labels` (P,) are not; with episodes, in each of them."""
    heads = max(1, episodes)
    one_prediction, one_label = (
        (column == column[:, :1]).all(axis=1) for column in (predicted.reshape(heads, -1), labels.reshape(heads, -1))
    )
    return not one_label.all() and bool(one_prediction[~one_label].all())
