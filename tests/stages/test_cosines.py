from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from stages import cosines
from stages.cosines import CosineFigures, cosine_figures, pooled_cosines, rank_correlation, unit_rows
from stages.errors import InputError


def rows(count: int, width: int = 16, spread: float = 1.0, seed: int = 0) -> np.ndarray:
    """Anchors about one direction; rows are not of unit length."""
    return (2 + spread * np.random.default_rng(seed).standard_normal((count, width))).astype(np.float32)


def matrix_figures(anchors: np.ndarray) -> tuple[CosineFigures, list[tuple[int, int, float]]]:
    """From the whole matrix in float64; and all near duplicates."""
    unit = unit_rows(anchors)
    matrix = unit @ unit.T
    one, two = np.triu_indices(len(unit), 1)
    pairs = matrix[one, two]
    near = [(int(i), int(j), float(c)) for i, j, c in zip(one, two, pairs, strict=True) if c > cosines.NEAR_DUPLICATE]
    near.sort(key=lambda pair: -pair[2])
    return CosineFigures(float(pairs.mean()), float(pairs.min()), float(pairs.max())), near


def test_the_figures_of_known_vectors() -> None:
    half = np.sqrt(0.5)
    expected = {"mean_cosine": 2 * half / 3, "min_cosine": 0, "max_cosine": half, "smallest_angle_degrees": 45}
    assert cosine_figures(np.array([[2.0, 0], [0, 3], [1, 1]])).to_record() == pytest.approx(expected)


def test_a_single_anchor_has_no_pair() -> None:
    assert cosine_figures(np.ones((1, 3))) == CosineFigures(1.0, 1.0, 1.0)


@pytest.mark.parametrize("count", [2, 6, 7, 8, 13, 14, 15, 40])
@pytest.mark.parametrize("spread", [0.1, 0.4, 3.0])
def test_blocks_give_the_figures_of_the_whole_matrix(count: int, spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosines, "BLOCK", 7)
    anchors = rows(count, spread=spread)
    whole, near = matrix_figures(anchors)
    found = cosine_figures(anchors)
    assert found.to_record() == pytest.approx(whole.to_record(), abs=1e-7)
    assert found.near_duplicate_count == len(near)
    assert [pair[:2] for pair in found.near_duplicates] == [pair[:2] for pair in near]
    np.testing.assert_allclose([pair[2] for pair in found.near_duplicates], [pair[2] for pair in near], atol=1e-12)


def test_of_very_many_near_duplicates_the_nearest_are_kept_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosines, "BLOCK", 7)
    monkeypatch.setattr(cosines, "KEPT_PAIRS", 5)
    anchors = rows(30, spread=0.1)
    _, near = matrix_figures(anchors)
    found = cosine_figures(anchors)
    assert found.near_duplicate_count == len(near) == 30 * 29 // 2
    assert [pair[:2] for pair in found.near_duplicates] == [pair[:2] for pair in near[:5]]


def test_equal_anchors() -> None:
    found = cosine_figures(np.ones((60, 3)))
    assert (found.low, found.high, found.near_duplicate_count) == (pytest.approx(1), pytest.approx(1), 60 * 59 // 2)
    assert found.high <= 1


def test_the_cosines_of_the_extreme_pairs_are_float64() -> None:
    # float32 has no number between 1 - 6e-8 and 1
    found = cosine_figures(np.array([[1, 0], [1, 1e-4], [0, 1], [-1, 1e-4]]))
    assert found.high == pytest.approx(1 - 5e-9, abs=1e-15)
    assert found.low == pytest.approx(-1 + 5e-9, abs=1e-7)


def test_progress_ends_at_all_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosines, "BLOCK", 7)
    seen: list[tuple[int, int]] = []
    cosine_figures(rows(20), lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(1, 7)]


def test_a_matrix_of_few_anchors_is_that_of_all_pairs() -> None:
    anchors = rows(9)
    matrix, mean = pooled_cosines(anchors, 9)
    np.testing.assert_allclose(matrix, unit_rows(anchors) @ unit_rows(anchors).T, atol=1e-12)
    assert mean == pytest.approx(matrix_figures(anchors)[0].mean)


def test_a_matrix_of_more_anchors_has_the_means_of_runs_of_classes() -> None:
    anchors = rows(10)
    matrix, mean = pooled_cosines(anchors, 4)  # runs of 3, 3, 2 and 2
    whole = unit_rows(anchors) @ unit_rows(anchors).T
    assert matrix.shape == (4, 4)
    assert matrix[0, 1] == pytest.approx(whole[:3, 3:6].mean())
    assert matrix[3, 2] == pytest.approx(whole[8:, 6:8].mean())
    assert mean == pytest.approx(matrix_figures(anchors)[0].mean)


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_a_row_without_direction_is_refused(value: float) -> None:
    anchors = rows(3)
    anchors[1] = value
    with pytest.raises(InputError, match="zero or not finite"):
        cosine_figures(anchors)


def pairs_of(anchors: np.ndarray) -> np.ndarray:
    unit = unit_rows(anchors)
    return (unit @ unit.T)[np.triu_indices(len(unit), 1)]


def test_the_rank_correlation_is_spearmans() -> None:
    one, other = rows(20), rows(20, 9, seed=1) + np.repeat(rows(10, 9, seed=2), 2, axis=0)
    expected = spearmanr(pairs_of(one).round(5), pairs_of(other).round(5)).statistic
    assert rank_correlation(one, other) == pytest.approx(expected, abs=1e-12)
    assert rank_correlation(one, one * np.linspace(1, 9, 20)[:, None]) == pytest.approx(1)


def test_ties_have_the_mean_of_their_ranks() -> None:
    # many cosines are 0, some half and some 1
    one = np.repeat(np.eye(3), [4, 3, 2], axis=0)
    other = np.concatenate((np.eye(4)[[0, 1, 1, 2]], rows(5, 4)))
    expected = spearmanr(pairs_of(one), pairs_of(other).round(5)).statistic
    assert rank_correlation(one, other) == pytest.approx(expected, abs=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [4, 9, 65])  # in float32 the cosines of a simplex of 65 are on both sides of a rounding
def test_cosines_that_are_all_the_same_have_no_rank_correlation(count: int) -> None:
    simplex = unit_rows(np.eye(count) - 1 / count).astype(np.float32)
    assert rank_correlation(simplex, rows(count)) is None
    assert rank_correlation(rows(count), simplex) is None


def test_two_classes_have_no_rank_correlation() -> None:
    assert rank_correlation(rows(2), rows(2)) is None


def test_of_very_many_classes_evenly_spaced_ones_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosines, "RANKED_CLASSES", 5)
    one, other = rows(17), rows(17, seed=1)
    taken = [0, 4, 8, 12, 16]
    assert rank_correlation(one, other) == rank_correlation(one[taken], other[taken])
