"""Figures over training runs, against scipy and against an analysis of variance written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stages.statistics.over_runs import over_runs
from stages.statistics.paired import paired_runs


def test_mean_deviation_and_interval() -> None:
    values = [0.42, 0.47, 0.44, 0.5]
    found = over_runs(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.mean, found.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)), rel=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.values == tuple(values)


def test_one_run_and_runs_that_are_alike_have_no_interval() -> None:
    one, same = over_runs([0.3]), over_runs([0.3, 0.3, 0.3])
    assert (one.mean, one.sd, one.low, one.high) == (0.3, None, None, None)
    assert (same.sd, same.low, same.high) == (0.0, None, None)
    wide = over_runs([0.0, 0.4])
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_without_units_it_is_the_paired_t_test() -> None:
    first, second = np.array([0.31, 0.35, 0.29]), np.array([0.36, 0.37, 0.33])
    found, expected = paired_runs(first[:, None], second[:, None]), stats.ttest_rel(second, first)
    ends = expected.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((ends.low, ends.high, expected.pvalue), rel=1e-9)


def test_runs_and_units_are_both_drawn_at_random() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.random((3, 40)) < 0.4, draw.random((3, 40)) < 0.6
    d = second.astype(float) - first
    runs, units = d.shape
    # the two-way table without replication: mean squares of runs, units and rest
    ms_run = units * sum((d[r].mean() - d.mean()) ** 2 for r in range(runs)) / (runs - 1)
    ms_unit = runs * sum((d[:, u].mean() - d.mean()) ** 2 for u in range(units)) / (units - 1)
    rest = [d[r, u] - d[r].mean() - d[:, u].mean() + d.mean() for r in range(runs) for u in range(units)]
    ms_rest = sum(one**2 for one in rest) / (runs - 1) / (units - 1)
    total = ms_run + max(ms_unit - ms_rest, 0)
    freedom = total**2 / (ms_run**2 / (runs - 1))
    half = stats.t.ppf(0.975, freedom) * np.sqrt(total / runs / units)
    found = paired_runs(first, second)
    assert (found.low, found.high) == pytest.approx((d.mean() - half, d.mean() + half), rel=1e-9)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(d.mean()) / np.sqrt(total / runs / units), freedom), rel=1e-9)


@pytest.mark.parametrize(("of_run", "of_unit"), [(0.05, 0.3), (0.0, 0.3), (0.1, 0.05)])
def test_the_interval_holds_for_new_runs_on_new_units(of_run: float, of_unit: float) -> None:
    draw, inside, times = np.random.default_rng(1), 0, 400
    for _ in range(times):
        truth = of_run * draw.standard_normal((3, 1)) + of_unit * draw.standard_normal((1, 50))
        found = paired_runs(np.zeros((3, 50)), truth + 0.2 * draw.standard_normal((3, 50)))
        inside += found.low <= 0 <= found.high
    assert inside / times >= 0.93


def test_no_spread_and_one_pair() -> None:
    assert paired_runs(np.zeros((3, 4)), np.zeros((3, 4))) is None
    # alike but for rounding, of one unit and of several
    assert paired_runs(np.array([[0.5], [0.4]]), np.array([[0.52], [0.42]])) is None
    crossed = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])
    assert paired_runs(np.zeros((2, 4)), crossed) is None
    with pytest.raises(ValueError, match="at least two pairs"):
        paired_runs(np.zeros((1, 4)), np.ones((1, 4)))
    # the images alone differ
    same = np.tile(np.array([0.0, 1, 1, 0, 1, 0]), (2, 1))
    found = paired_runs(np.zeros((2, 6)), same)
    assert found is not None
    assert found.low > -1
