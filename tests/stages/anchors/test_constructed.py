from __future__ import annotations

import numpy as np
import pytest

from stages.anchors.sources import constructed_anchors, random_anchors, simplex_anchors
from stages.classes import ClassGroups
from stages.cosines import cosine_figures, simplex_figures
from stages.errors import UsageError


@pytest.mark.parametrize(("classes", "width"), [(2, 1), (3, 2), (5, 4), (5, 64), (100, 99), (64, 512)])
def test_every_pair_of_a_simplex_has_the_same_cosine(classes: int, width: int) -> None:
    anchors = simplex_anchors(classes, width)
    assert anchors.shape == (classes, width)
    assert anchors.dtype == np.float32
    cosines = anchors.astype(np.float64) @ anchors.T
    np.testing.assert_allclose(cosines[~np.eye(classes, dtype=bool)], -1 / (classes - 1), atol=1e-6)
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 100])
def test_the_cosines_of_a_simplex_are_known_without_measuring(classes: int) -> None:
    measured = cosine_figures(simplex_anchors(classes, classes)).to_record()
    assert simplex_figures(classes).to_record() == pytest.approx(measured, abs=1e-5)


def test_a_simplex_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="6 classes do not fit a simplex in 4 dimensions; choose --dim of at least 5"):
        simplex_anchors(6, 4)
    with pytest.raises(UsageError, match="at least 2 classes"):
        simplex_anchors(1, 4)


def test_random_anchors_follow_from_the_seed() -> None:
    one = random_anchors(20, 64, seed=1)
    np.testing.assert_array_equal(one, random_anchors(20, 64, seed=1))
    assert np.abs(one - random_anchors(20, 64, seed=2)).max() > 0.1
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)
    assert one.dtype == np.float32


def test_random_directions_are_uniform_and_not_those_of_a_cube() -> None:
    anchors = random_anchors(20_000, 3, seed=0)
    # on the sphere each coordinate is uniform on [-1, 1]: mean 0, variance 1/3
    np.testing.assert_allclose(anchors.mean(0), 0, atol=0.02)
    np.testing.assert_allclose((anchors**2).mean(0), 1 / 3, atol=0.01)
    np.testing.assert_allclose((np.abs(anchors) < 0.5).mean(0), 0.5, atol=0.02)


@pytest.mark.parametrize("source", ["random", "simplex"])
def test_anchors_that_do_not_fit_the_memory_are_refused(source: str) -> None:
    names = [str(at) for at in range(5000)]
    with pytest.raises(UsageError, match="5000 anchors of width 1000000 need 19 GiB of memory; choose a smaller --dim"):
        constructed_anchors(names, ClassGroups.from_counts(5000, 5000), source, 10**6, 0)
