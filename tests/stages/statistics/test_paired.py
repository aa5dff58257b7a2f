from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp, ttest_rel

from stages.statistics.intervals import wilson
from stages.statistics.paired import mcnemar, newcombe, paired_classes, paired_episodes, paired_images, paired_runs


@given(one=st.integers(0, 300), other=st.integers(0, 300))
def test_mcnemar_is_the_exact_binomial_test(one: int, other: int) -> None:
    expected = binomtest(one, one + other).pvalue if one + other else 1.0
    assert mcnemar(one, other) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(one, other) == mcnemar(other, one)


def test_newcombe_of_proportions_without_correlation_is_two_wilson_intervals_squared_and_added() -> None:
    # 20 of 40 and 10 of 40, independent: both 5, only first 15, only second 5, neither 15
    (low, high), (other_low, other_high) = wilson(20, 40), wilson(10, 40)
    below = np.hypot(0.25 - other_low, high - 0.5)
    above = np.hypot(other_high - 0.25, 0.5 - low)
    assert newcombe(5, 15, 5, 15) == pytest.approx((-0.25 - below, -0.25 + above))


def test_newcombe_against_known_values() -> None:
    assert newcombe(36, 2, 12, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert newcombe(20, 2, 12, 16) == pytest.approx((0.0562, 0.3292), abs=5e-5)


@given(counts=st.lists(st.integers(0, 500), min_size=4, max_size=4).filter(any))
def test_newcombe_holds_the_difference_and_mirrors(counts: list[int]) -> None:
    both, first, second, neither = counts
    low, high = newcombe(*counts)
    difference = (second - first) / sum(counts)
    assert -1 <= low <= difference + 1e-12
    assert difference - 1e-12 <= high <= 1
    assert newcombe(both, second, first, neither) == pytest.approx((-high, -low))


def test_newcombe_covers_the_true_difference_95_times_in_100() -> None:
    generator = np.random.default_rng(0)
    shares = [0.3, 0.15, 0.08, 0.47]
    drawn = generator.multinomial(120, shares, size=4000)
    inside = [low <= shares[2] - shares[1] <= high for low, high in (newcombe(*row) for row in drawn.tolist())]
    assert 0.94 <= np.mean(inside) <= 0.97


def test_images_one_by_one() -> None:
    first = np.repeat([True, True, False, False], [20, 2, 12, 16])
    second = np.repeat([True, False, True, False], [20, 2, 12, 16])
    found = paired_images(first, second)
    assert found.difference == pytest.approx(0.2)
    assert found.p == pytest.approx(binomtest(2, 14).pvalue)
    assert (found.low, found.high) == newcombe(20, 2, 12, 16)
    same = paired_images(first, first)
    assert (same.difference, same.p) == (0, 1)
    assert same.low <= 0 <= same.high


def test_episodes_against_another_implementation() -> None:
    generator = np.random.default_rng(1)
    first = generator.uniform(0.2, 0.6, 60)
    second = np.clip(first + generator.normal(0.02, 0.05, 60), 0, 1)
    found = paired_episodes(first, second)
    assert found.p == pytest.approx(ttest_rel(second, first).pvalue)
    interval = ttest_1samp(second - first, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx((second - first).mean())


def test_episodes_at_their_ends() -> None:
    assert paired_episodes([0.2], [0.5]).p == 1
    assert (paired_episodes([0.2], [0.5]).low, paired_episodes([0.2], [0.5]).high) == (-1, 1)
    same = paired_episodes([0.2, 0.4], [0.2, 0.4])
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    always = paired_episodes([0.25, 0.5], [0.5, 0.75])
    assert (always.difference, always.low, always.high, always.p) == (0.25, 0.25, 0.25, 0)
    with pytest.raises(ValueError, match="at least one episode"):
        paired_episodes([], [])


def test_classes_are_the_units_and_count_alike() -> None:
    label = np.repeat([4, 7, 9], [10, 20, 30])
    first = np.zeros((1, 60), dtype=bool)
    second = first.copy()
    second[0, label == 7] = True  # one class alone makes the difference
    found = paired_classes(first, second, label)
    assert found == paired_episodes([0, 0, 0], [0, 1, 0])
    assert found is not None
    assert found.low < 0
    assert paired_images(first[0], second[0]).low > 0.2
    runs = np.concatenate([first, first]), np.concatenate([second, first])
    assert paired_classes(*runs, label) == paired_runs(np.zeros((2, 3)), np.array([[0, 1, 0], [0, 0, 0]]))
    assert paired_classes(first[:, :10], second[:, :10], label[:10]) is None


def test_the_interval_for_other_classes_covers_what_that_over_images_does_not() -> None:
    # 20 classes drawn from many whose true differences have mean 0.05 and deviation 0.1, 100 images of each
    generator = np.random.default_rng(0)
    label = np.repeat(np.arange(20), 100)
    inside = {"images": 0, "classes": 0}
    for _ in range(400):
        effect = generator.normal(0.05, 0.1, 20)[label]
        first, second = generator.uniform(size=2000) < 0.4, generator.uniform(size=2000) < 0.4 + effect
        found = {"images": paired_images(first, second), "classes": paired_classes(first[None], second[None], label)}
        for name, one in found.items():
            assert one is not None
            inside[name] += one.low <= 0.05 <= one.high
    assert 0.92 <= inside["classes"] / 400 <= 0.98
    assert inside["images"] / 400 < 0.85
