from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from stages.statistics.intervals import Estimate, estimate, student_t, wilson


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.2775328),  # z^2 / (n + z^2)
        (10, 10, 0.7224672, 1.0),
        (5, 10, 0.2365931, 0.7634069),
        (1, 1, 0.2065493, 1.0),
    ],
)
def test_wilson_against_known_values(correct: int, total: int, low: float, high: float) -> None:
    assert wilson(correct, total) == pytest.approx((low, high), abs=1e-6)


def test_wilson_against_published_values_and_another_implementation() -> None:
    # R. G. Newcombe, Statistics in Medicine 1998, Table I
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    other = binomtest(37, 113).proportion_ci(0.95, method="wilson")
    assert wilson(37, 113) == pytest.approx((other.low, other.high), abs=1e-12)


@given(total=st.integers(1, 10**6), share=st.floats(0, 1))
def test_wilson_holds_the_share_and_stays_in_range(total: int, share: float) -> None:
    correct = round(share * total)
    low, high = wilson(correct, total)
    assert 0 <= low <= correct / total <= high <= 1


def test_student_t_against_known_values() -> None:
    # five values, mean 0.5, sample deviation 0.1581139, t(4, 0.975) = 2.7764451
    assert student_t([0.3, 0.4, 0.5, 0.6, 0.7]) == pytest.approx((0.3036757, 0.6963243), abs=1e-6)


def test_student_t_at_its_ends() -> None:
    assert student_t([0.4]) == (0.0, 1.0)
    assert student_t([0.4, 0.4, 0.4]) == pytest.approx((0.4, 0.4))
    assert student_t([0.0, 1.0]) == (0.0, 1.0)
    assert student_t(np.zeros(10)) == (0.0, 0.0)


def test_episodes_that_are_all_alike_show_no_spread_and_are_not_certain() -> None:
    alike = np.tile([True, True, False, True, False], 4)
    assert estimate(alike, 4) == Estimate(0.6, *wilson(12, 20))
    assert estimate(np.ones(20, dtype=bool), 4).low < 0.9
    unlike = alike.copy()
    unlike[0] = False
    assert (estimate(unlike, 4).low, estimate(unlike, 4).high) == student_t([0.4, 0.6, 0.6, 0.6])


def test_nothing_measured_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        student_t([])
    for correct, total in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="not a proportion"):
            wilson(correct, total)
