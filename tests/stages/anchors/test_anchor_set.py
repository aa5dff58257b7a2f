from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stages.anchors.anchor_set import AnchorSet, normalised
from stages.classes import ClassGroups
from stages.errors import InputError
from stages.expand.paper import PaperExpansion
from stages.files.artifacts import Artifact, from_bytes, to_bytes

VECTORS = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0], [0, 0.6, 0.8]], np.float32)
ANCHORS = AnchorSet(VECTORS, ("bear", "wolf", "fox", "sea lion"), ClassGroups.from_counts(4, 2, 1), {"source": "text"})
EXPANDED = replace(ANCHORS, expansion=PaperExpansion(np.array([0.0, 0.6, 0.8]), 0.7))


def changed(artifact: Artifact, tensors: dict[str, Any] | None = None, **params: Any) -> Artifact:
    return replace(artifact, tensors={**artifact.tensors, **(tensors or {})}, params={**artifact.params, **params})


def test_groups() -> None:
    assert ANCHORS.indices("seen") == [0, 1]
    assert [ANCHORS.names(group) for group in ("seen", "val", "novel")] == [["bear", "wolf"], ["fox"], ["sea lion"]]
    assert ANCHORS.names("all") == list(ANCHORS.classes)
    assert ANCHORS.names("seen") == ["bear", "wolf"]


@pytest.mark.parametrize("anchors", [ANCHORS, EXPANDED], ids=["raw", "expanded"])
def test_a_written_set_reads_back(anchors: AnchorSet) -> None:
    data = to_bytes(anchors.to_artifact())
    back = AnchorSet.from_artifact(from_bytes(data, where="it", kind="anchors"), "it")
    np.testing.assert_array_equal(back.vectors, anchors.vectors)
    assert (back.classes, back.groups, back.origin) == (anchors.classes, anchors.groups, anchors.origin)
    assert to_bytes(back.to_artifact()) == data
    if anchors.expansion is None:
        assert back.expansion is None
    else:
        assert back.expansion is not None
        assert back.expansion.same_as(anchors.expansion)


def test_names_of_an_older_file_are_read_in_their_one_spelling() -> None:
    old = changed(ANCHORS.to_artifact(), classes=["bear", "wolf", "cafe\u0301", "\u200bsea lion"])
    assert AnchorSet.from_artifact(old, "it").classes == ("bear", "wolf", "caf\u00e9", "sea lion")


@pytest.mark.parametrize(
    ("tensors", "params", "message"),
    [
        ({"vectors": np.ones(3, np.float32)}, {}, "shape"),
        ({"vectors": VECTORS[:3]}, {}, "names 4 classes for 3 anchors"),
        ({"vectors": VECTORS * np.array([[1.001], [1], [1], [1]])}, {}, "anchor of 'bear' in it does not have unit length"),
        ({"vectors": VECTORS * np.array([[1], [1], [0], [1]])}, {}, "anchor of 'fox' in it does not have unit"),
        (
            {"vectors": np.where(np.arange(4)[:, None] == 1, np.nan, VECTORS)},
            {},
            "'vectors' in it is not finite: it has nan",
        ),
        (
            {"vectors": np.where(np.arange(4)[:, None] == 1, np.inf, VECTORS)},
            {},
            "'vectors' in it is not finite: it has inf",
        ),
        (
            {"vectors": VECTORS[:0]},
            {"classes": [], "groups": {"seen": [], "val": [], "novel": []}},
            "classes is .* 1 item",
        ),
        ({}, {"classes": None}, "classes is null: input should be a valid array"),
        ({}, {"classes": ["bear", 7, "fox", "owl"]}, r"classes\[1\] is 7: input should be a valid string"),
        ({}, {"classes": ["bear", "wolf", "fox", "BEAR"]}, "has a class twice"),
        ({}, {"groups": {"seen": [0, 1]}}, "groups lacks 'val'"),
        (
            {},
            {"groups": {"seen": ["a", 1], "val": [None], "novel": []}},
            r"groups\.seen\[0\] is .a.",
        ),
        ({}, {"groups": {"seen": [0, 1], "val": [2.0], "novel": [3]}}, r"groups\.val\[0\] is 2.0"),
        ({}, {"groups": {"seen": [0, 1], "val": [2], "novel": []}}, "the groups do not cover each of the 4 classes once"),
        ({}, {"groups": {"seen": [0, 1], "val": [1, 2], "novel": [3]}}, "the groups do not cover each of the 4 classes once"),
        ({}, {"groups": {"seen": [0, 1], "val": [2], "novel": [4]}}, "the groups do not cover each of the 4 classes once"),
        ({}, {"origin": 3}, "origin is 3"),
        ({}, {"expansion": {}}, "expansion: the method paper lacks 'theta_max'"),
        ({}, {"expansion": {"theta_max": "wide"}}, 'theta_max is "wide"'),
        ({}, {"expansion": {"theta_max": 0.0}}, "theta_max is 0.0: input should be greater than 0"),
        ({"expansion.centre": np.ones(4)}, {}, "shape"),
        ({"vectors": np.ones((4, 3), np.int64)}, {}, "'vectors' in it has numbers of type int64, expected floating point"),
        ({"expansion.centre": np.ones(3)}, {}, "centre of the expansion in it does not have unit length"),
        ({"expansion.centre": np.full(3, np.nan)}, {}, "expansion.centre' in it is not finite"),
    ],
)
def test_damaged_sets_are_refused(tensors: dict[str, Any], params: dict[str, Any], message: str) -> None:
    data = to_bytes(changed(EXPANDED.to_artifact(), tensors, **params))
    with pytest.raises(InputError, match=message):
        AnchorSet.from_artifact(from_bytes(data, where="it"), "it")


@pytest.mark.parametrize("name", ["vectors", "expansion.centre"])
def test_a_missing_tensor_is_named(name: str) -> None:
    artifact = EXPANDED.to_artifact()
    del artifact.tensors[name]
    with pytest.raises(InputError, match=f"no tensor '{name}'"):
        AnchorSet.from_artifact(artifact, "it")


def test_float64_anchors_are_read_as_float32() -> None:
    artifact = changed(ANCHORS.to_artifact(), {"vectors": VECTORS.astype(np.float64)})
    assert AnchorSet.from_artifact(artifact, "it").vectors.dtype == np.float32


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-323, 1e-310, 1e-160, 1e300, 3e307])
def test_features_of_any_finite_size_are_normalised(scale: float) -> None:
    found = normalised(np.array([[3.0, 4.0]]) * scale, ("bear",), "it")
    np.testing.assert_allclose(found, [[0.6, 0.8]], rtol=1e-6 if scale > 1e-320 else 0.2)


def test_normalising_is_done_in_float64() -> None:
    tiny = np.array([[3e-30, 4e-30]], np.float32)  # their squares are zero in float32
    np.testing.assert_allclose(normalised(tiny, ("bear",), "it"), [[0.6, 0.8]], rtol=1e-6)
    assert normalised(tiny, ("bear",), "it").dtype == np.float32
