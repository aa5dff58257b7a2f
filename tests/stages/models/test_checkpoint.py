from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.expanded import expand_anchors
from stages.artifacts import Artifact, from_bytes, to_bytes
from stages.classes import ClassGroups
from stages.errors import InputError
from stages.models.checkpoint import Checkpoint
from stages.models.embedding import EmbeddingModel, place

ORIGIN = {"source": "text", "model": "letters", "pretrained": "none", "weights_sha256": "0" * 64, "activation": "GELU"}


def anchors(count: int = 5, width: int = 6, seed: int = 0) -> AnchorSet:
    values = 2 + np.random.default_rng(seed).standard_normal((count, width))
    unit = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return AnchorSet(unit, tuple(f"class {seed} {at}" for at in range(count)), ClassGroups.from_counts(count, 3), ORIGIN)


def checkpoint(*, expanded: bool = True) -> Checkpoint:
    model = EmbeddingModel("conv4-8", 6, 16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    generator = torch.Generator().manual_seed(0)
    model(torch.rand(8, 3, 16, 16, generator=generator))  # in training mode: the running statistics move
    own = expand_anchors(anchors())[0] if expanded else anchors()
    lineage = {"anchors": {"kind": "anchors", "sha256": "1" * 64, "inputs": {}}}
    return Checkpoint(model, own, {"settings": {"tau": 0.5}, "note": "x"}, lineage)


def read_back(artifact: Artifact) -> Checkpoint:
    return Checkpoint.from_artifact(from_bytes(to_bytes(artifact), where="it", kind="model"), "it")


@pytest.mark.parametrize("expanded", [True, False])
def test_a_written_checkpoint_answers_as_before(expanded: bool) -> None:
    made = checkpoint(expanded=expanded)
    back = read_back(made.to_artifact())
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(back.model.eval()(x), made.model.eval()(x))
    np.testing.assert_array_equal(back.anchors.vectors, made.anchors.vectors)
    assert (back.training, back.inputs, back.anchors.classes) == (made.training, made.inputs, made.anchors.classes)
    assert back.logit_scale == 2
    assert len(back.sha256) == 64
    assert to_bytes(back.to_artifact()) == to_bytes(made.to_artifact())


def test_the_layout_of_the_weights_does_not_reach_the_bytes() -> None:
    made = checkpoint()
    before = to_bytes(made.to_artifact())
    place(made.model, "cpu")
    assert to_bytes(made.to_artifact()) == before


def damaged(tensors: dict[str, Any] | None = None, drop: str = "", **params: Any) -> Artifact:
    whole = checkpoint().to_artifact()
    kept = {name: value for name, value in {**whole.tensors, **(tensors or {})}.items() if name != drop}
    return replace(whole, tensors=kept, params={**whole.params, **params})


def architecture(**changes: Any) -> dict[str, Any]:
    return {"architecture": {"backbone": "conv4-8", "width": 6, "image_size": 16, **changes}}


WEIGHT = "weights.backbone.blocks.1.conv.weight"


@pytest.mark.parametrize(
    ("artifact", "message"),
    [
        (lambda: damaged(drop=WEIGHT), r"'backbone\.blocks\.1\.conv\.weight' is on one side only"),
        (lambda: damaged({"weights.odd": np.ones(2)}), "'odd' is on one side only"),
        (
            lambda: damaged({WEIGHT: np.ones((8, 8, 1, 1), np.float32)}),
            r"has shape \(8, 8, 1, 1\), conv4-8 wants \(8, 8, 3, 3\)",
        ),
        (lambda: damaged({WEIGHT: np.full((8, 8, 3, 3), np.nan, np.float32)}), "is not finite"),
        (lambda: damaged({"weights.mean": np.full((1, 3, 1, 1), np.inf, np.float32)}), "'mean' in it is not finite"),
        (lambda: damaged(**architecture(backbone="conv4-16")), "has shape .* conv4-16 wants"),
        # a terabyte, were it built before its shapes are compared
        (lambda: damaged(**architecture(backbone="conv4-99999")), "has shape .* conv4-99999 wants"),
        (lambda: damaged(**architecture(backbone="resnet12")), "is on one side only"),
        (lambda: damaged(**architecture(backbone="resnet99")), "cannot be built: unknown backbone 'resnet99'"),
        (lambda: damaged(**architecture(width=7)), "lacks its architecture"),
        (lambda: damaged(**architecture(width="wide")), "lacks its architecture"),
        (lambda: damaged(**architecture(image_size=8)), "cannot be built: .* at least 16 px"),
        (lambda: damaged(**architecture(image_size=-1)), "lacks its architecture"),
        (lambda: damaged(architecture=None), "lacks its architecture"),
        (lambda: damaged(training=None), "lacks its architecture or settings"),
        (lambda: damaged(training={"settings": {"tau": 0}}), "lacks its architecture or settings"),
        (lambda: damaged({"vectors": np.ones((5, 6), np.float32)}), "unit length"),
        (lambda: damaged(classes=["one"]), "names 1 classes for 5 anchors"),
    ],
)
def test_damaged_checkpoints_are_refused(artifact: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_back(artifact())


def test_new_raw_anchors_are_moved_by_the_checkpoints_own_map() -> None:
    made, new = checkpoint(), anchors(4, seed=7)
    assert made.anchors.expansion is not None
    other = made.with_anchors(new, "new.st")
    np.testing.assert_allclose(other.anchors.vectors, made.anchors.expansion.apply(new.vectors), atol=1e-6)
    assert other.anchors.vectors.dtype == np.float32
    assert other.anchors.classes == new.classes
    assert other.model is made.model
    # a map of their own would have put them elsewhere
    assert np.abs(other.anchors.vectors - expand_anchors(new)[0].vectors).max() > 0.01


def test_anchors_expanded_by_the_same_map_are_taken_as_they_are() -> None:
    made, new = checkpoint(), anchors(4, seed=7)
    moved, _ = expand_anchors(new, made.anchors)
    np.testing.assert_array_equal(made.with_anchors(moved, "new.st").anchors.vectors, moved.vectors)


def test_raw_anchors_for_a_checkpoint_without_a_map_are_taken_as_they_are() -> None:
    new = anchors(4, seed=7)
    assert checkpoint(expanded=False).with_anchors(new, "new.st").anchors is new


def test_anchors_of_another_map_are_refused() -> None:
    moved, _ = expand_anchors(anchors(4, seed=7))
    for own in (checkpoint(), checkpoint(expanded=False)):
        with pytest.raises(InputError, match=r"new\.st are expanded with another map"):
            own.with_anchors(moved, "new.st")


def test_anchors_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"new\.st have width 7 and the checkpoint 6"):
        checkpoint().with_anchors(anchors(width=7), "new.st")


@pytest.mark.parametrize("key", ["source", "model", "pretrained", "weights_sha256", "activation"])
def test_anchors_of_another_encoder_are_refused(key: str) -> None:
    new = replace(anchors(), origin={**ORIGIN, key: "other"})
    with pytest.raises(InputError, match=f"another encoder than the checkpoint's: {key} is 'other' there"):
        checkpoint().with_anchors(new, "new.st")


def test_other_templates_are_no_other_encoder() -> None:
    new = replace(anchors(), origin={**ORIGIN, "templates": ["a {}"]})
    assert checkpoint().with_anchors(new, "new.st").anchors.origin["templates"] == ["a {}"]
