"""What holds for every method of `laat expand`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.expanded import expand_anchors
from stages.classes import ClassGroups
from stages.errors import InputError, UsageError
from stages.expand.expansion import Expansion
from stages.expand.methods import METHODS, ExpandSettings, expansion_tensors, fit_expansion, read_expansion
from stages.files.anchor_params import Expanded
from stages.files.artifacts import Artifact, from_bytes, to_bytes
from tests.stages.expand import plain_maps
from tests.stages.expand.test_paper import cones, crowded, examples

SETTINGS = [
    ExpandSettings(),
    ExpandSettings(angle=50.0),
    ExpandSettings("centre"),
    ExpandSettings("whiten"),
    ExpandSettings("whiten", components=2, shrinkage=0.0),
]
each = pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: f"{one.method} {one.given()}")


def anchor_set(vectors: np.ndarray, seen: int) -> AnchorSet:
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    names = tuple(f"class {at}" for at in range(len(unit)))
    return AnchorSet(unit, names, ClassGroups.from_counts(len(unit), seen), {"source": "text", "model": "letters"})


def test_the_methods_of_records_are_those_of_the_table() -> None:
    assert set(METHODS) == set(get_args(Expanded.model_fields["method"].annotation))


@pytest.mark.parametrize("name", plain_maps.CASES)
def test_golden_of_a_plain_program(name: str) -> None:
    golden = json.loads(plain_maps.FILE.read_text(encoding="utf-8"))
    anchors = np.array(golden["anchors"])
    fitted = fit_expansion(anchors[: golden["seen"]], ExpandSettings(**plain_maps.CASES[name]))
    np.testing.assert_allclose(fitted.apply(anchors), golden["moved"][name], atol=1e-12)


@each
@examples
@given(anchors=cones, random=st.randoms(use_true_random=False))
def test_the_order_of_the_seen_classes_does_not_matter(settings: ExpandSettings, anchors: np.ndarray, random: Any) -> None:
    order = list(range(len(anchors)))
    random.shuffle(order)
    one, two = fit_expansion(anchors, settings), fit_expansion(anchors[order], settings)
    # directions of little variance are found to fewer digits
    np.testing.assert_allclose(one.apply(anchors), two.apply(anchors), atol=1e-6)


@each
def test_one_class_at_a_time_is_all_at_once(settings: ExpandSettings) -> None:
    anchors = crowded(5, 40, 12, 1.0)
    fitted = fit_expansion(anchors[:20], settings)
    alone = np.concatenate([fitted.apply(one[None]) for one in anchors])
    np.testing.assert_allclose(alone, fitted.apply(anchors), atol=1e-13)


@each
def test_blocks_of_rows_do_not_show(settings: ExpandSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    anchors = crowded(6, 50, 8, 1.0)
    whole = fit_expansion(anchors[:40], settings).apply(anchors)
    monkeypatch.setattr("stages.cosines.BLOCK", 7)
    np.testing.assert_allclose(fit_expansion(anchors[:40], settings).apply(anchors), whole, atol=1e-10)


@each
def test_float32_in_and_out(settings: ExpandSettings) -> None:
    anchors = crowded(7, 12, 6, 1.0).astype(np.float32)
    fitted = fit_expansion(anchors[:8], settings)
    found = fitted.apply(anchors, np.float32)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, fitted.apply(anchors.astype(np.float64)).astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@each
def test_a_map_that_is_written_and_read_is_the_same(settings: ExpandSettings) -> None:
    moved, _ = expand_anchors(anchor_set(crowded(8, 9, 6, 1.0), 6), settings=settings)
    data = to_bytes(moved.to_artifact())
    # versions that know the published map alone refuse others
    assert from_bytes(data, where="it").format == (2 if settings == ExpandSettings() else 3)
    back = AnchorSet.from_artifact(from_bytes(data, where="it"), "it")
    assert back.expansion is not None
    assert back.expansion.same_as(moved.expansion)
    assert back.label == moved.label
    assert to_bytes(back.to_artifact()) == data


@each
def test_the_map_of_other_anchors_gives_what_it_gave_them(settings: ExpandSettings) -> None:
    raw = anchor_set(crowded(9, 9, 6, 1.0), 6)
    whole, _ = expand_anchors(raw, settings=settings)
    later, figures = expand_anchors(raw.take([8, 6]), whole)
    np.testing.assert_allclose(later.vectors, whole.vectors[[8, 6]], atol=1e-6)
    assert later.expansion is whole.expansion
    assert figures.fitted.same_as(whole.expansion)


def test_a_map_is_the_same_as_itself_alone() -> None:
    anchors = crowded(10, 8, 6, 1.0)
    maps = [fit_expansion(anchors, one) for one in SETTINGS]
    maps += [fit_expansion(anchors[:7], one) for one in SETTINGS]
    again = [fit_expansion(anchors, one) for one in SETTINGS]
    assert all(one.same_as(two) for one, two in zip(maps, again, strict=False))
    assert not any(one.same_as(two) for at, one in enumerate(maps) for two in (*maps[:at], None))
    assert len({one.label for one in maps}) == len(SETTINGS)


def test_files_of_older_versions_have_the_published_map() -> None:
    anchors = crowded(11, 8, 6, 1.0)
    published, graded = fit_expansion(anchors), fit_expansion(anchors, ExpandSettings(angle=89.0))
    assert published.to_record().keys() == {"theta_max"}  # as they record it: the same bytes
    assert graded.to_record().keys() == {"method", "angle", "theta_max"}
    for fitted in (published, graded):
        stored = Artifact("anchors", expansion_tensors(fitted, "parts.0."), {})
        assert read_expansion(fitted.to_record(), stored, 6, "it", "parts.0.").same_as(fitted)


@pytest.mark.parametrize("method", METHODS)
def test_seen_anchors_that_no_map_is_fitted_on(method: str) -> None:
    settings = ExpandSettings(method)
    one = crowded(12, 1, 6, 1.0)
    with pytest.raises(InputError, match="at least 2 seen anchors, and has 1"):
        fit_expansion(one, settings)
    with pytest.raises(InputError, match="one direction"):
        fit_expansion(np.repeat(one.astype(np.float32), 4, axis=0) * np.array([[1], [2], [3], [0.7]], np.float32), settings)
    with pytest.raises(InputError, match="width 5 and the fitted expansion 6"):
        fit_expansion(crowded(12, 4, 6, 1.0), settings).apply(np.ones((2, 5)))


@pytest.mark.parametrize(
    ("settings", "vectors", "says"),
    [
        # three seen classes so close together that the middle one is their mean, in float32
        (ExpandSettings("centre"), np.array([[1, 0], [1, 3e-3], [1, -3e-3]]), "'class 0' is at the mean of the seen anchors"),
        # the last differs from the mean in a direction in which the seen ones are all alike
        (
            ExpandSettings("whiten"),
            np.array([[1, 1, 0], [1, -1, 0], [1, 0, 1]]),
            "'class 2' does not differ from the mean .* in any kept component.* `laat expand --method centre` drops nothing",
        ),
        (ExpandSettings(), np.array([[1, 1, 0], [1, -1, 0], [-1, 0, 0]]), "'class 2' is opposite to the centre"),
    ],
    ids=lambda one: one.method if isinstance(one, ExpandSettings) else "",
)
def test_a_class_without_a_place_is_named(settings: ExpandSettings, vectors: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=f"the anchor of {says}"):
        expand_anchors(anchor_set(vectors, len(vectors) - (settings.method != "centre")), settings=settings)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "centre", "angle": 60.0}, "--angle has no effect with --method centre"),
        ({"method": "whiten", "angle": 90.0}, "--angle has no effect with --method whiten"),
        ({"components": 3}, "--components has no effect with --method paper"),
        ({"method": "centre", "shrinkage": 0.0}, "--shrinkage has no effect with --method centre"),
        ({"method": "zca"}, "unknown --method 'zca'"),
        ({"angle": 180.0}, "--angle 180 is not below 180"),
        ({"angle": 0.0}, "--angle"),
        ({"method": "whiten", "components": 0}, "--components is 0"),
        ({"method": "whiten", "shrinkage": 1.01}, "--shrinkage is 1.01"),
        ({"method": "whiten", "shrinkage": float("nan")}, "--shrinkage is nan"),
    ],
)
def test_settings_that_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ExpandSettings(**options)


def test_settings_beside_a_map_are_refused() -> None:
    raw = anchor_set(crowded(13, 6, 5, 1.0), 6)
    moved, _ = expand_anchors(raw, settings=ExpandSettings("centre"))
    with pytest.raises(UsageError, match="either fitted with settings or that of other anchors"):
        expand_anchors(raw, moved, settings=ExpandSettings("centre"))
    with pytest.raises(InputError, match="these anchors are centred already"):
        expand_anchors(moved)


def _damaged(fitted: Expansion, tensors: dict[str, np.ndarray], record: dict[str, Any]) -> None:
    whole = replace(anchor_set(crowded(14, 6, 5, 1.0), 6), expansion=fitted).to_artifact()
    params = {**whole.params, "expansion": {**whole.params["expansion"], **record}}
    changed = replace(whole, tensors={**whole.tensors, **tensors}, params=params)
    AnchorSet.from_artifact(from_bytes(to_bytes(changed), where="it"), "it")


@pytest.mark.parametrize(
    ("tensors", "record", "says"),
    [
        ({}, {"method": "zca"}, 'expansion.method is "zca"'),
        ({}, {"method": "paper"}, "the method paper lacks 'theta_max'"),
        ({}, {"components": None}, "the method whiten lacks 'components'"),
        ({}, {"components": 2}, "'expansion.directions' in it has shape"),
        ({}, {"shrinkage": 1.5}, "expansion.shrinkage is 1.5"),
        ({"expansion.variances": np.array([0.2, 0.1, -0.1])}, {}, "components of the expansion in it are not orthonormal"),
        ({"expansion.directions": np.ones((3, 5))}, {}, "components of the expansion in it are not orthonormal"),
        # more directions than dimensions: the matrix of their products would take 720 GB
        (
            {"expansion.directions": np.ones((300_000, 5)), "expansion.variances": np.ones(300_000)},
            {"components": 300_000},
            "components of the expansion in it are not orthonormal",
        ),
        ({"expansion.centre": np.ones(4)}, {}, "'expansion.centre' in it has shape"),
        ({"expansion.centre": np.full(5, 0.5)}, {}, "centre of the expansion in it is no mean of anchors"),
        ({"expansion.centre": np.full(5, 1e300)}, {}, "centre of the expansion in it is no mean of anchors"),
        ({"expansion.centre": np.full(5, 0.5)}, {"method": "centre"}, "centre of the expansion in it is no mean of anchors"),
    ],
)
def test_damaged_maps_are_refused(tensors: dict[str, np.ndarray], record: dict[str, Any], says: str) -> None:
    fitted = fit_expansion(crowded(14, 6, 5, 1.0), ExpandSettings("whiten", components=3))
    with pytest.raises(InputError, match=says):
        _damaged(fitted, tensors, record)
