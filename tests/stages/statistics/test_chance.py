from __future__ import annotations

import numpy as np
import pytest

from stages.statistics.chance import predicts_one_class, verdict
from stages.statistics.intervals import Estimate, estimate


def right(count: int, total: int) -> Estimate:
    return estimate(np.arange(total) < count)


@pytest.mark.parametrize(
    ("count", "total", "ways", "says"),
    [
        (250, 1000, 5, "above chance"),
        (220, 1000, 5, "at chance"),
        (200, 1000, 5, "at chance"),
        (0, 1000, 5, "collapsed"),
        (150, 1000, 5, "collapsed"),
        # 26.9 ± 5.6 where chance is 25.0
        (65, 242, 4, "at chance"),
        # so few that the interval reaches from chance to far above it
        (3, 6, 2, "too few"),
        (3, 3, 2, "too few"),
        (0, 2, 5, "too few"),
        (0, 2, 2, "too few"),
        (0, 5, 5, "too few"),
        (50, 100, 2, "at chance"),
        (6, 6, 2, "above chance"),
        (9, 9, 1, "one candidate"),
    ],
)
def test_the_interval_decides(count: int, total: int, ways: int, says: str) -> None:
    assert verdict(right(count, total), 1 / ways) == says


def test_one_class_for_everything_is_a_collapse_even_where_that_class_is_frequent() -> None:
    labels = np.array([0] * 60 + [1] * 20 + [2] * 20)
    always, mostly = np.zeros(100, int), np.array([0] * 99 + [2])
    assert predicts_one_class(always, labels)
    assert not predicts_one_class(mostly, labels)
    assert not predicts_one_class(always[:60], labels[:60])  # only that class was shown
    for predicted, says in ((always, "collapsed"), (mostly, "above chance")):
        found = estimate(predicted == labels)
        assert verdict(found, 1 / 3, one_class=predicts_one_class(predicted, labels)) == says


def test_in_episodes_the_class_may_differ_from_episode_to_episode() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    assert predicts_one_class(np.array([1, 1, 1, 1, 2, 2, 2, 2]), labels, episodes=2)
    assert not predicts_one_class(np.array([1, 1, 1, 1, 2, 2, 2, 3]), labels, episodes=2)


def test_a_single_episode_says_nothing() -> None:
    assert verdict(estimate(np.array([True] * 10), 1), 0.2) == "too few"
