from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.expanded import expand_anchors
from stages.classes import ClassGroups
from stages.errors import InputError
from stages.expand.methods import METHODS, ExpandSettings
from stages.files.artifacts import Artifact, from_bytes, to_bytes
from stages.models.checkpoint import checkpoint_of, read_checkpoint
from stages.models.classifier import Classifier
from stages.models.embedding import EmbeddingModel, place
from stages.models.origin import Origin

ORIGIN = {
    "source": "text",
    "model": "letters",
    "pretrained": "none",
    "weights_sha256": "0" * 64,
    "config_sha256": "1" * 64,
    "activation": "GELU",
}


def anchors(count: int = 5, width: int = 6, seed: int = 0) -> AnchorSet:
    values = 2 + np.random.default_rng(seed).standard_normal((count, width))
    unit = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return AnchorSet(unit, tuple(f"class {seed} {at}" for at in range(count)), ClassGroups.from_counts(count, 3), ORIGIN)


def checkpoint(*, expanded: bool = True, settings: ExpandSettings | None = None) -> Classifier:
    model = EmbeddingModel("conv4-8", 6, 16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    generator = torch.Generator().manual_seed(0)
    model(torch.rand(8, 3, 16, 16, generator=generator))  # in training mode: the running statistics move
    own = expand_anchors(anchors(), settings=settings)[0] if expanded else anchors()
    lineage = {"anchors": {"kind": "anchors", "sha256": "1" * 64, "inputs": {}}}
    origin = Origin({"settings": {"tau": 0.5}, "note": "x"}, lineage)
    return Classifier(model, own, logit_scale=2, image_size=16, origin=origin)


def artifact_of(made: Classifier) -> Artifact:
    return checkpoint_of(made.embedding, made.anchor_set, made.origin.training, made.origin.inputs, image_size=16)


def read_back(artifact: Artifact) -> Classifier:
    return read_checkpoint(from_bytes(to_bytes(artifact), where="it", kind="model"), "it")


@pytest.mark.parametrize("method", [None, *METHODS])
def test_a_written_checkpoint_answers_as_before(method: str | None) -> None:
    made = checkpoint(expanded=method is not None, settings=ExpandSettings(method or "paper"))
    back = read_back(artifact_of(made))
    own = made.anchor_set.expansion
    assert own.same_as(back.anchor_set.expansion) if own else back.anchor_set.expansion is None
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(back(x), made.eval()(x))
    np.testing.assert_array_equal(back.anchor_set.vectors, made.anchor_set.vectors)
    assert (back.origin.training, back.origin.inputs, back.classes) == (made.origin.training, made.origin.inputs, made.classes)
    assert back.logit_scale == 2
    assert len(back.origin.sha256) == 64
    assert not back.training
    assert to_bytes(artifact_of(back)) == to_bytes(artifact_of(made))


def test_the_layout_of_the_weights_does_not_reach_the_bytes() -> None:
    made = checkpoint()
    before = to_bytes(artifact_of(made))
    place(made, "cpu")
    assert to_bytes(artifact_of(made)) == before


def damaged(tensors: dict[str, Any] | None = None, drop: str = "", **params: Any) -> Artifact:
    whole = artifact_of(checkpoint())
    kept = {name: value for name, value in {**whole.tensors, **(tensors or {})}.items() if name != drop}
    return replace(whole, tensors=kept, params={**whole.params, **params})


def architecture(**changes: Any) -> dict[str, Any]:
    return {"architecture": {"backbone": "conv4-8", "width": 6, "image_size": 16, **changes}}


WEIGHT = "weights.backbone.blocks.1.conv.weight"


@pytest.mark.parametrize(
    ("artifact", "message"),
    [
        (lambda: damaged(drop=WEIGHT), r"lacks the tensor 'backbone\.blocks\.1\.conv\.weight', which"),
        (lambda: damaged({"weights.odd": np.ones(2)}), "has the tensor 'odd', which"),
        (
            lambda: damaged({WEIGHT: np.ones((8, 8, 1, 1), np.float32)}),
            r"has shape \(8, 8, 1, 1\), conv4-8 expects \(8, 8, 3, 3\)",
        ),
        (lambda: damaged({WEIGHT: np.full((8, 8, 3, 3), np.nan, np.float32)}), "is not finite"),
        (lambda: damaged({WEIGHT: np.ones((8, 8, 3, 3), np.int64)}), "has type int64, conv4-8 expects float32"),
        (lambda: damaged({"weights.mean": np.full((1, 3, 1, 1), np.inf, np.float32)}), "'weights.mean' in it is not finite"),
        (lambda: damaged(**architecture(backbone="conv4-16")), "has shape .* conv4-16 expects"),
        # a terabyte, were it built before its shapes are compared
        (lambda: damaged(**architecture(backbone="conv4-99999")), "has shape .* conv4-99999 expects"),
        (lambda: damaged(**architecture(backbone="resnet12")), "lacks the tensor"),
        (lambda: damaged(**architecture(backbone="resnet99")), "cannot be built: unknown backbone 'resnet99'"),
        (lambda: damaged(**architecture(width=7)), "has a model of width 7 and anchors of width 6"),
        (lambda: damaged(**architecture(width="wide")), 'architecture.width is "wide"'),
        (lambda: damaged(**architecture(image_size=8)), "cannot be built: .* at least 16 px"),
        (lambda: damaged(**architecture(image_size=-1)), "architecture.image_size is -1"),
        (lambda: damaged(architecture=None), "architecture is null"),
        (lambda: damaged(training=None), "training is null"),
        (lambda: damaged(training={"settings": {"tau": 0}}), "training.settings.tau is 0"),
        (lambda: damaged({"vectors": np.ones((5, 6), np.float32)}), "unit length"),
        (lambda: damaged(classes=["one"]), "the groups do not cover each of the 1 classes once"),
    ],
)
def test_damaged_checkpoints_are_refused(artifact: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_back(artifact())


def test_new_raw_anchors_are_moved_by_the_checkpoints_own_map() -> None:
    made, new = checkpoint(), anchors(4, seed=7)
    assert made.anchor_set.expansion is not None
    other = made.over(new, where="new.st")
    np.testing.assert_allclose(other.anchor_set.vectors, made.anchor_set.expansion.apply(new.vectors), atol=1e-6)
    assert other.anchor_set.vectors.dtype == np.float32
    assert other.anchor_set.classes == new.classes
    assert other.embedding is made.embedding
    # a map of their own would have put them elsewhere
    assert np.abs(other.anchor_set.vectors - expand_anchors(new)[0].vectors).max() > 0.01


def test_anchors_expanded_by_the_same_map_are_taken_as_they_are() -> None:
    made, new = checkpoint(), anchors(4, seed=7)
    moved, _ = expand_anchors(new, made.anchor_set)
    np.testing.assert_array_equal(made.over(moved, where="new.st").anchor_set.vectors, moved.vectors)


def test_raw_anchors_for_a_checkpoint_without_a_map_are_taken_as_they_are() -> None:
    new = anchors(4, seed=7)
    assert checkpoint(expanded=False).over(new).anchor_set is new


def test_anchors_of_another_map_are_refused() -> None:
    moved, _ = expand_anchors(anchors(4, seed=7))
    for own in (checkpoint(), checkpoint(expanded=False)):
        with pytest.raises(InputError, match=r"new\.st are expanded with another map"):
            own.over(moved, where="new.st")


def test_anchors_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"new\.st have width 7 and the checkpoint 6"):
        checkpoint().over(anchors(width=7), where="new.st")


@pytest.mark.parametrize("key", ["source", "model", "pretrained", "weights_sha256", "config_sha256", "activation"])
def test_anchors_of_another_encoder_are_refused(key: str) -> None:
    new = replace(anchors(), origin={**ORIGIN, key: "other"})
    with pytest.raises(InputError, match=f"another encoder than the checkpoint's: {key} is 'other' there"):
        checkpoint().over(new, where="new.st")


def test_other_templates_are_no_other_encoder() -> None:
    new = replace(anchors(), origin={**ORIGIN, "templates": ["a {}"]})
    assert checkpoint().over(new).anchor_set.origin["templates"] == ["a {}"]
