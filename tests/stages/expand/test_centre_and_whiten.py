from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from stages.cosines import unit_rows
from stages.errors import UsageError
from stages.expand.centre import Centring
from stages.expand.whiten import Whitening
from tests.stages.expand.test_paper import cones, crowded, examples


@examples
@given(cones)
def test_the_seen_mean_becomes_zero(anchors: np.ndarray) -> None:
    fitted, unit = Centring.fit(anchors), unit_rows(anchors)
    lengths = np.linalg.norm(unit - fitted.centre, axis=1, keepdims=True)
    # the anchors are normalised after it: undo that
    np.testing.assert_allclose((fitted.apply(anchors) * lengths).mean(axis=0), 0, atol=1e-12)


def test_centring_a_plane_worked_by_hand() -> None:
    fitted = Centring.fit(np.array([[1.0, 0], [0, 1]]))
    moved = fitted.apply(np.array([[2.0, 0], [0, 3], [1, 1], [-1, 0]]))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(
        moved, [[half, -half], [-half, half], [half, half], [-1.5 / 2.5**0.5, -0.5 / 2.5**0.5]], atol=1e-15
    )


def test_anchors_that_are_centred_already_stay() -> None:
    simplex = np.eye(4) - 0.25
    np.testing.assert_allclose(Centring.fit(simplex).apply(simplex), unit_rows(simplex), atol=1e-15)


@pytest.mark.parametrize(("count", "width"), [(40, 6), (5, 12)], ids=["more anchors", "more dimensions"])
def test_without_shrinkage_the_covariance_is_the_identity(count: int, width: int) -> None:
    anchors = crowded(1, count, width, 1.0)
    fitted = Whitening.fit(anchors, shrinkage=0.0)
    rank = min(count - 1, width)
    assert fitted.directions.shape == (rank, width)
    found = (unit_rows(anchors) - fitted.centre) @ fitted.directions.T / np.sqrt(fitted.variances)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.T @ found / count, np.eye(rank), atol=1e-10)


def test_fewer_anchors_than_dimensions_become_a_simplex_without_shrinkage() -> None:
    moved = Whitening.fit(crowded(2, 7, 20, 1.0), shrinkage=0.0).apply(crowded(2, 7, 20, 1.0))
    np.testing.assert_allclose(moved @ moved.T, np.eye(7) * 7 / 6 - 1 / 6, atol=1e-10)


def test_full_shrinkage_is_centring_in_the_span() -> None:
    anchors = crowded(3, 7, 20, 1.0)
    seen = Whitening.fit(anchors, shrinkage=1.0)
    np.testing.assert_allclose(seen.apply(anchors), Centring.fit(anchors).apply(anchors), atol=1e-12)
    np.testing.assert_allclose(seen.kept_shares(anchors), 1, atol=1e-12)
    novel = crowded(4, 9, 20, 1.0)
    assert (seen.kept_shares(novel) < 0.9).all()
    wide = Whitening.fit(crowded(3, 30, 20, 1.0), shrinkage=1.0)
    np.testing.assert_allclose(wide.kept_shares(novel), 1, atol=1e-12)


def test_the_components_of_most_variance_are_kept() -> None:
    anchors = crowded(5, 30, 6, 1.0)
    whole, three = Whitening.fit(anchors), Whitening.fit(anchors, components=3)
    assert (np.diff(whole.variances) < 0).all()
    np.testing.assert_array_equal(three.variances, whole.variances[:3])
    np.testing.assert_allclose(whole.variances.sum(), unit_rows(anchors).var(axis=0).sum(), rtol=1e-12)
    with pytest.raises(UsageError, match="--components is 7, and the 30 seen anchors differ in 6 directions"):
        Whitening.fit(anchors, components=7)


def test_directions_of_rounding_are_no_components() -> None:
    # two classes with the same anchor, and a direction that only the rounding to float32 fills
    flat = np.concatenate((crowded(6, 6, 4, 1.0), np.zeros((6, 1))), axis=1)
    turned = unit_rows(flat @ np.linalg.qr(crowded(7, 5, 5, 1.0))[0]).astype(np.float32)
    assert len(Whitening.fit(turned).variances) == 4
    assert len(Whitening.fit(turned[[0, 1, 2, 2]]).variances) == 2


def test_components_that_end_between_equal_ones_are_refused() -> None:
    simplex = np.eye(5)
    assert len(Whitening.fit(simplex).variances) == 4
    with pytest.raises(UsageError, match="--components 2 ends between two components of the same variance"):
        Whitening.fit(simplex, components=2)
