"""Models between two models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stages.anchors.anchor_set import AnchorSet
from stages.errors import InputError, UsageError
from stages.expand.centre import Centring
from stages.files.artifacts import Artifact, from_bytes, to_bytes
from stages.models.blend import Blend
from stages.models.checkpoint import checkpoint_of, read_checkpoint, weights_of
from stages.models.embedding import EmbeddingModel
from stages.models.heads import RidgeHead
from stages.reports.model_records import training_of
from tests.stages.models.test_checkpoint import anchors
from tests.stages.models.test_clip_tower import images
from tests.stages.models.test_clip_tower import model as tower_model

DATA = {"source": "photos", "sha256": "5" * 64}


def trained(
    seed: int,
    backbone: str = "conv4-8",
    own: AnchorSet | None = None,
    *,
    size: int = 16,
    head: nn.Module | None = None,
    **settings: Any,
) -> Artifact:
    """A checkpoint as read from a file."""
    made = EmbeddingModel(backbone, 6, size, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), seed=seed)
    made(torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(seed)))  # the running statistics move
    record = {
        "settings": {"tau": 0.5, "objective": "at", **settings},
        "data": DATA,
        "selection": {"epoch": 3},
        "name": f"run {seed}",
    }
    hashes = {"trained": np.arange(seed, seed + 3), "selected": np.array([90 + seed])}
    lineage = {"anchors": {"kind": "anchors", "sha256": "1" * 64, "inputs": {}}}
    made_artifact = checkpoint_of(made, own or anchors(), record, lineage, image_size=size, images=hashes, head=head)
    return from_bytes(to_bytes(made_artifact), where=f"'{seed}.st'", kind="model")


def written(artifact: Artifact) -> Artifact:
    return from_bytes(to_bytes(artifact), where="it", kind="model")


def test_the_weights_lie_between_and_are_those_of_a_model_at_the_ends() -> None:
    one, other = trained(1), trained(2)
    one.tensors["weights.projection.weight"][0, 0] = -0.0
    blend = Blend(one, other)
    for weight, expected in ((1.0, one), (0.0, other)):
        for name, value in weights_of(written(blend.at(weight))).items():
            assert value.tobytes() == weights_of(expected)[name].tobytes(), name
    for name, value in weights_of(written(blend.at(0.7))).items():
        a, b = weights_of(one)[name], weights_of(other)[name]
        if value.dtype.kind == "f":
            np.testing.assert_allclose(value, 0.7 * a.astype(np.float64) + 0.3 * b, rtol=0, atol=1e-7)
            assert "running" not in name or (value != a).any()
        else:
            assert value == a, name


def ridge(value: float) -> RidgeHead:
    made = RidgeHead()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(value)
    return made


def test_what_was_learnt_besides_the_model_lies_between_too() -> None:
    blend = Blend(trained(1, head=ridge(3)), trained(2, head=ridge(-1)))
    for weight, expected in ((1.0, 3), (0.0, -1), (0.25, 0)):
        found = read_checkpoint(written(blend.at(weight)), "it").origin.head
        assert {name: float(value) for name, value in found.items()} == dict.fromkeys(("log_ridge", "scale", "shift"), expected)


def test_another_head_is_refused() -> None:
    one, wide = trained(1, head=ridge(3)), trained(2, head=nn.Linear(8, 3))
    with pytest.raises(
        InputError, match=r"'head.log_ridge' is float32 \(\) in '1.st' and missing in '2.st'.*same few-shot head"
    ):
        Blend(one, trained(2))
    with pytest.raises(InputError, match=r"'head.bias' is missing in '1.st' and float32 \(3,\) in '2.st'"):
        Blend(one, wide)


def test_the_blend_is_a_checkpoint_that_says_what_it_is() -> None:
    one, other = trained(1), trained(2)
    found = written(Blend(one, other).at(0.25))
    back = read_checkpoint(found, "it")
    assert found.inputs == {"model": one.lineage(), "other": other.lineage()}
    assert back.origin.training["blend"] == {"weight": 0.25, "other": "at"}
    assert back.origin.training.keys() == {"settings", "data", "blend"}  # nothing of an epoch, an identity or a name
    assert {use: own.tolist() for use, own in back.origin.images.items()} == {"trained": [1, 2, 3, 4], "selected": [91, 92]}
    assert back.classes == anchors().classes
    assert back(images()).shape == (2, 5)


def test_a_report_records_what_the_rest_of_a_blend_is_of() -> None:
    one, other = trained(1, objective="laat"), trained(2, objective="at", tau=0.7)
    for kept, expected in (("first", ("laat", 0.75, "at")), ("second", ("at", 0.25, "laat"))):
        found = written(Blend(one, other, kept).at(0.75))
        training = training_of(found.params["training"], found.inputs, anchors())
        assert (training.objective, training.blend, training.blend_with) == expected


def test_the_images_of_a_model_that_did_not_record_them_are_unknown() -> None:
    other = trained(2)
    without = replace(other, tensors={name: value for name, value in other.tensors.items() if not name.startswith("images.")})
    assert not read_checkpoint(written(Blend(trained(1), without).at(0.5)), "it").origin.images


def test_calibration_and_batch_norm_are_told() -> None:
    calibration = {
        **{"temperature": 0.5, "source": "x", "images": 1, "classes": 2, "ece_before": 0.2, "ece_after": 0.1},
        "no_bias": "none",
    }
    one = trained(1)
    one = replace(one, params={**one.params, "calibration": calibration})
    blend = Blend(one, trained(2))
    assert [note.split(":")[0] for note in blend.notes] == [
        "the calibration is dropped",
        "running statistics of batch norm are interpolated, not measured with the new weights",
    ]
    assert "calibration" not in blend.at(1).params


def test_other_anchors_are_named_and_chosen() -> None:
    one, other = trained(1), trained(2, own=anchors(seed=3), tau=1.0)
    with pytest.raises(InputError, match=r"differ in the classes, the anchors, the temperature \(0.5 and 1\).*--anchors-of"):
        Blend(one, other)
    for which, names, scale in (("first", anchors().classes, 2), ("second", anchors(seed=3).classes, 1)):
        blend = Blend(one, other, which)
        back = read_checkpoint(written(blend.at(0.5)), "it")
        assert (back.classes, back.logit_scale) == (names, scale)
        assert "the other model was trained on classes that are not seen ones here: class" in blend.notes[-1]


def test_maps_that_differ_in_a_tensor_alone_are_two() -> None:
    one = trained(1, own=replace(anchors(), expansion=Centring(np.full(6, 0.1))))
    other = trained(2, own=replace(anchors(), expansion=Centring(np.full(6, 0.2))))
    with pytest.raises(InputError, match="differ in the expansion; "):
        Blend(one, other)


def test_other_architectures_are_refused() -> None:
    one, narrow = trained(1), trained(2)
    narrow.tensors["weights.projection.weight"] = narrow.tensors["weights.projection.weight"][:, :4]
    for other, says in (
        (trained(2, "conv4-16"), "'1.st' has conv4-8, '2.st' has conv4-16"),
        (trained(2, size=32), "'1.st' has image size 16, '2.st' 32"),
        (narrow, r"'projection.weight' is float32 \(6, 8\) in '1.st' and float32 \(6, 4\) in '2.st'"),
    ):
        with pytest.raises(InputError, match=says):
            Blend(one, other)


def test_other_pixel_statistics_and_weights_that_are_not_finite_are_refused() -> None:
    one, other = trained(1), trained(2)
    moved = replace(other, tensors={**other.tensors, "weights.std": 2 * other.tensors["weights.std"]})
    with pytest.raises(InputError, match=r"'1.st' and '2.st' normalize pixels by another std"):
        Blend(one, moved)
    other.tensors["weights.projection.weight"][0, 0] = np.inf
    with pytest.raises(InputError, match=r"'projection.weight' in '2.st' is not finite"):
        Blend(one, other)
    for weight in (-0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match="is not between 0 and 1"):
            Blend(one, trained(3)).at(weight)


def test_with_the_original_tower(folder: Path) -> None:
    name = f"clip:local-dir:{folder}"
    made = tower_model(name)
    original = {key: value.numpy().copy() for key, value in made.state_dict().items()}
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.25)
    own = anchors(width=5)
    packed = checkpoint_of(
        made, own, {"settings": {"tau": 0.01}, "data": DATA}, {}, image_size=16, images={"trained": np.arange(3)}
    )
    blend = Blend(written(packed), name)
    for key, value in weights_of(blend.at(0)).items():
        np.testing.assert_array_equal(value, original[key])
    half = written(blend.at(0.5))
    np.testing.assert_allclose(weights_of(half)["backbone.net.proj"], original["backbone.net.proj"] + 0.125, atol=1e-6)
    record = half.params["training"]["blend"]
    assert (record["weight"], record["tower"], len(record["tower_sha256"])) == (0.5, "clip:local-dir:tiny", 64)
    assert list(half.inputs) == ["model"]
    back = read_checkpoint(half, "it")
    assert (back.logit_scale, list(back.origin.images)) == (100, ["trained"])
    assert blend.notes == []
    assert Blend(written(packed), name, "second").at(0.5).params == half.params  # the tower has no anchors of its own
    headed = checkpoint_of(made, own, {"settings": {"tau": 0.01}}, {}, image_size=16, head=ridge(3))
    with pytest.raises(InputError, match=r"'head.log_ridge' is float32 .* and missing in 'clip:local-dir:"):
        Blend(written(headed), name)


def test_a_tower_without_weights_or_for_another_model_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="'clip:ViT-B-32' names no weights"):
        Blend(trained(1), "clip:ViT-B-32")
    with pytest.raises(InputError, match=r"'1.st' is no CLIP tower, and 'clip:demo' is one"):
        Blend(trained(1), "clip:demo")
    wide = tower_model(f"clip:local-dir:{folder}", 7)
    packed = checkpoint_of(wide, anchors(width=7), {"settings": {"tau": 1.0}}, {}, image_size=16)
    with pytest.raises(InputError, match="has width 5, it has 7: the tower has no projection to it"):
        Blend(written(packed), f"clip:local-dir:{folder}")
