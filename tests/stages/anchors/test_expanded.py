from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.bundled import bundled_classes
from stages.anchors.expanded import expand_anchors
from stages.anchors.sources import imported_anchors
from stages.classes import ClassGroups
from stages.errors import InputError
from tests.where import SHARED

PUBLISHED = SHARED / "anchors"
needs_shared = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs ../shared")


def on_a_circle(*degrees: float, seen: int | None = None) -> AnchorSet:
    angles = np.radians(degrees)
    vectors = np.stack((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)
    names = tuple(f"at {value:g}" for value in degrees)
    return AnchorSet(vectors, names, ClassGroups.from_counts(len(names), seen), {"source": "text", "model": "letters"})


def test_only_the_seen_classes_shape_the_map() -> None:
    # seen at -20, 0, 20; the novel ones at 10 and 30 would make it another
    moved, figures = expand_anchors(on_a_circle(-20, 0, 20, 10, 30, seen=3))
    expected = on_a_circle(-90, 0, 90, 45, 135).vectors
    np.testing.assert_allclose(moved.vectors, expected, atol=1e-6)
    assert moved.vectors.dtype == np.float32
    assert figures.fitted.cone() == pytest.approx((20, 90), abs=1e-5)


def test_novel_classes_outside_the_cone_are_reported_farthest_first() -> None:
    _, figures = expand_anchors(on_a_circle(-20, 0, 20, 19, 25, -40, seen=3))
    assert [name for name, _ in figures.outside] == ["at -40", "at 25"]
    assert [angle for _, angle in figures.outside] == pytest.approx([180, 112.5], abs=1e-3)
    record = figures.to_record()
    assert record["outside_the_cone"][0]["class"] == "at -40"
    assert record["before"]["smallest_angle_degrees"] == pytest.approx(1, abs=1e-3)
    assert record["after"]["smallest_angle_degrees"] == pytest.approx(4.5, abs=1e-3)


def test_the_map_travels_with_the_anchors() -> None:
    anchors = on_a_circle(-20, 0, 20, 30, seen=3)
    moved, _ = expand_anchors(anchors)
    assert moved.expansion is not None
    np.testing.assert_allclose(moved.expansion.apply(anchors.vectors), moved.vectors, atol=1e-6)
    assert (moved.classes, moved.groups, moved.origin) == (anchors.classes, anchors.groups, anchors.origin)


def test_a_fitted_map_moves_new_classes() -> None:
    like, _ = expand_anchors(on_a_circle(-20, 0, 20))
    moved, figures = expand_anchors(on_a_circle(5, 15, 40), like)
    np.testing.assert_allclose(moved.vectors, on_a_circle(22.5, 67.5, 180).vectors, atol=1e-5)
    assert moved.expansion is like.expansion
    # all of them are checked against the borrowed cone, seen or not
    assert [name for name, _ in figures.outside] == ["at 40"]


def test_one_new_class_can_be_moved_by_a_fitted_map() -> None:
    like, _ = expand_anchors(on_a_circle(-20, 0, 20))
    moved, figures = expand_anchors(on_a_circle(10), like)
    np.testing.assert_allclose(moved.vectors, on_a_circle(45).vectors, atol=1e-5)
    assert figures.after.mean == 1


def test_what_cannot_be_expanded() -> None:
    raw = on_a_circle(-20, 0, 20)
    moved, _ = expand_anchors(raw)
    with pytest.raises(InputError, match="expanded already"):
        expand_anchors(moved)
    with pytest.raises(InputError, match="have no fitted expansion"):
        expand_anchors(raw, raw)
    with pytest.raises(InputError, match="and has 1"):
        expand_anchors(on_a_circle(0, 20, seen=1))
    with pytest.raises(InputError, match="one direction"):
        expand_anchors(on_a_circle(7, 7, 30, seen=2))
    with pytest.raises(InputError, match="mean is zero"):
        expand_anchors(on_a_circle(0, 180))
    with pytest.raises(InputError, match="the anchor of 'at 180' is opposite to the centre"):
        expand_anchors(on_a_circle(-20, 0, 20, 180, seen=3))


@pytest.mark.parametrize("key", ["model", "weights_sha256", "config_sha256", "activation"])
def test_a_map_of_another_encoder_is_refused(key: str) -> None:
    whole = on_a_circle(-20, 0, 20)
    like, _ = expand_anchors(replace(whole, origin={**whole.origin, "config_sha256": "1" * 64}))
    other = replace(on_a_circle(5, 15), origin={"source": "text", "model": "letters", key: "other"})
    with pytest.raises(InputError, match=f"another encoder: {key} is .* and 'other' here"):
        expand_anchors(other, like)


def test_a_map_of_another_width_is_refused() -> None:
    like, _ = expand_anchors(on_a_circle(-20, 0, 20))
    wide = replace(on_a_circle(5, 15), vectors=np.eye(2, 3, dtype=np.float32))
    with pytest.raises(InputError, match="width 3 and the fitted expansion 2"):
        expand_anchors(wide, like)


@pytest.fixture(scope="module")
def published() -> tuple[AnchorSet, AnchorSet]:
    """The real text features of CIFAR-FS and their published expansion, both imported as a user would."""
    names, groups = bundled_classes("cifar-fs")
    raw = imported_anchors(names, groups, str(PUBLISHED / "cifar-fs_clip-vit-b-16.safetensors"))
    expanded = imported_anchors(names, groups, f"{PUBLISHED / 'cifar-fs_clip-vit-b-16_expanded.safetensors'}:expanded")
    return raw, expanded


@needs_shared
def test_the_published_expansion(published: tuple[AnchorSet, AnchorSet]) -> None:
    raw, expected = published
    moved, figures = expand_anchors(raw)
    assert np.abs(moved.vectors - expected.vectors).max() < 2e-6
    assert figures.before.mean == pytest.approx(0.759, abs=5e-4)
    assert figures.after.mean == pytest.approx(0.175, abs=5e-4)


@needs_shared
def test_the_published_novel_classes_come_out_the_same_when_named_later(published: tuple[AnchorSet, AnchorSet]) -> None:
    raw, expected = published
    whole, _ = expand_anchors(raw)
    novel = raw.indices("novel")
    later = AnchorSet(raw.vectors[novel], tuple(raw.names("novel")), ClassGroups.from_counts(20, None), raw.origin)
    assert np.abs(expand_anchors(later, whole)[0].vectors - expected.vectors[novel]).max() < 2e-6
