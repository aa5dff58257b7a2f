from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.errors import InputError
from stages.expand.paper import PaperExpansion
from tests.stages.plane_rotations import expand_by_rotations, rotation_to_first_axis
from tests.where import GOLDEN

examples = settings(deadline=None, max_examples=40)


def crowded(seed: int, count: int, width: int, spread: float) -> np.ndarray:
    """Anchors scattered about one direction, as text features are; rows are not of unit length."""
    generator = np.random.default_rng(seed)
    return generator.standard_normal(width) * 3 + spread * generator.standard_normal((count, width))


cones = st.builds(
    crowded,
    seed=st.integers(0, 10**6),
    count=st.integers(3, 12),
    width=st.integers(3, 20),
    spread=st.floats(0.05, 3.0),
)


def degrees_from(centre: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip(anchors @ centre, -1, 1)))


@pytest.mark.parametrize("width", [3, 8, 16, 24])
@pytest.mark.parametrize("spread", [0.1, 1.0, 2.5])
def test_the_closed_form_is_the_construction_by_plane_rotations(width: int, spread: float) -> None:
    anchors = crowded(width, 10, width, spread)
    found = PaperExpansion.fit(anchors[:7]).apply(anchors)
    np.testing.assert_allclose(found, expand_by_rotations(anchors[:7], anchors), atol=1e-10, rtol=0)


def test_the_rotation_of_the_reference_is_one() -> None:
    centre = crowded(0, 1, 12, 1.0)[0]
    centre /= np.linalg.norm(centre)
    rotation = rotation_to_first_axis(centre)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(12), atol=1e-12)
    np.testing.assert_allclose(rotation @ centre, np.eye(12)[0], atol=1e-12)


def test_a_plane_worked_by_hand() -> None:
    # three seen anchors at -30, 0 and 30 degrees: the centre is at 0, theta_max is 30, angles are tripled
    def at(*degrees: float) -> np.ndarray:
        return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)

    fitted = PaperExpansion.fit(at(-30, 0, 30))
    assert np.degrees(fitted.theta_max) == pytest.approx(30)
    np.testing.assert_allclose(fitted.centre, [1, 0], atol=1e-15)
    np.testing.assert_allclose(fitted.apply(at(-30, 0, 10, 45)), at(-90, 0, 30, 135), atol=1e-12)


@examples
@given(cones)
def test_rows_have_unit_length_and_are_finite(anchors: np.ndarray) -> None:
    moved = PaperExpansion.fit(anchors[:2]).apply(anchors)
    assert np.isfinite(moved).all()
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-12)


@examples
@given(cones, st.randoms(use_true_random=False))
def test_the_order_of_the_seen_classes_does_not_matter(anchors: np.ndarray, random: object) -> None:
    order = list(range(len(anchors)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one, two = PaperExpansion.fit(anchors), PaperExpansion.fit(anchors[order])
    assert one.theta_max == pytest.approx(two.theta_max, abs=1e-9)
    np.testing.assert_allclose(one.apply(anchors)[order], two.apply(anchors[order]), atol=1e-8)


@examples
@given(cones)
def test_the_farthest_seen_anchor_becomes_orthogonal_to_the_centre(anchors: np.ndarray) -> None:
    fitted = PaperExpansion.fit(anchors)
    after = degrees_from(fitted.centre, fitted.apply(anchors))
    assert after.max() == pytest.approx(90, abs=1e-6)
    assert int(np.argmax(after)) == int(np.argmax(fitted.angles(anchors)))


@examples
@given(cones)
def test_anchors_move_along_their_great_circle_in_proportion(anchors: np.ndarray) -> None:
    fitted = PaperExpansion.fit(anchors)
    moved = fitted.apply(anchors)
    before = fitted.angles(anchors)
    np.testing.assert_allclose(fitted.angles(moved), before * (np.pi / 2) / fitted.theta_max, atol=1e-7)
    # the part of the moved anchor off the centre points where the part of the anchor did
    unit = anchors / np.linalg.norm(anchors, axis=1, keepdims=True)
    off, moved_off = (a - np.outer(a @ fitted.centre, fitted.centre) for a in (unit, moved))
    np.testing.assert_allclose(
        (off * moved_off).sum(1), np.linalg.norm(off, axis=1) * np.linalg.norm(moved_off, axis=1), atol=1e-9
    )


@examples
@given(cones, st.integers(0, 10**6))
def test_the_map_is_fixed_by_the_seen_classes_alone(anchors: np.ndarray, seed: int) -> None:
    fitted = PaperExpansion.fit(anchors)
    novel = np.random.default_rng(seed).standard_normal((4, anchors.shape[1]))
    alone, together = fitted.apply(anchors), fitted.apply(np.concatenate((novel, anchors)))
    np.testing.assert_allclose(together[4:], alone, atol=1e-12)


def test_the_length_of_the_features_does_not_matter() -> None:
    anchors = crowded(1, 6, 8, 1.0)
    lengths = np.array([[0.01], [1], [7], [100], [1e6], [3]])
    one, two = PaperExpansion.fit(anchors * lengths), PaperExpansion.fit(anchors)
    np.testing.assert_allclose(one.apply(anchors), two.apply(anchors * lengths), atol=1e-12)


def test_a_cone_wider_than_90_degrees_is_narrowed() -> None:
    anchors = np.array([[1.0, 0.1, 0], [1, -0.1, 0.1], [1, 0, -0.1], [-0.3, 0.1, 0.2]])
    fitted = PaperExpansion.fit(anchors)
    assert np.degrees(fitted.theta_max) > 90
    assert degrees_from(fitted.centre, fitted.apply(anchors)).max() == pytest.approx(90)


def test_an_anchor_at_the_centre_stays_there() -> None:
    fitted = PaperExpansion.fit(crowded(2, 5, 6, 1.0))
    np.testing.assert_allclose(fitted.apply(fitted.centre[None]), fitted.centre[None], atol=1e-15)
    # and rounding it to float32 does not throw it far
    near = fitted.centre.astype(np.float32)[None]
    np.testing.assert_allclose(fitted.apply(near), fitted.centre[None], atol=1e-5)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_an_anchor_opposite_to_the_centre_is_refused(kind: type) -> None:
    fitted = PaperExpansion.fit(crowded(2, 5, 6, 1.0))
    both = np.stack((fitted.centre, -fitted.centre)).astype(kind)
    with pytest.raises(InputError, match="anchor 2 is opposite to the centre"):
        fitted.apply(both)


def test_one_anchor_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 seen anchors, and has 1"):
        PaperExpansion.fit(np.ones((1, 4)))


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_identical_anchors_are_refused(kind: type) -> None:
    one = crowded(3, 1, 64, 1.0).astype(kind)
    with pytest.raises(InputError, match="one direction"):
        PaperExpansion.fit(np.repeat(one, 5, axis=0) * np.arange(1, 6, dtype=kind)[:, None])


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_anchors_that_cancel_out_are_refused(kind: type) -> None:
    one = crowded(3, 2, 64, 1.0).astype(kind)
    with pytest.raises(InputError, match="mean is zero"):
        PaperExpansion.fit(np.concatenate((one, -one)))


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_zero_and_non_finite_anchors_are_refused(bad: float) -> None:
    anchors = crowded(4, 4, 5, 1.0)
    fitted = PaperExpansion.fit(anchors)
    anchors[2] = bad
    with pytest.raises(InputError, match="zero or not finite"):
        PaperExpansion.fit(anchors)
    with pytest.raises(InputError, match="zero or not finite"):
        fitted.apply(anchors)


def test_another_width_is_refused() -> None:
    with pytest.raises(InputError, match="width 5 and the fitted expansion 4"):
        PaperExpansion.fit(crowded(0, 3, 4, 1.0)).apply(np.ones((2, 5)))


def test_golden_expansion() -> None:
    golden = json.loads((GOLDEN / "expansion.json").read_text(encoding="utf-8"))
    anchors = np.array(golden["anchors"])
    fitted = PaperExpansion.fit(anchors[: golden["seen"]])
    assert fitted.theta_max == pytest.approx(golden["theta_max"], abs=1e-13)
    np.testing.assert_allclose(fitted.apply(anchors), golden["expanded"], atol=1e-13)
