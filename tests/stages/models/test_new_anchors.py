"""Names of another data set, encoded as the training anchors were: with the bundled encoder, offline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stages.anchors.encoder import TextEncoder, load_encoder
from stages.anchors.expanded import expand_anchors
from stages.anchors.sources import constructed_anchors, text_anchors
from stages.classes import ClassGroups
from stages.errors import InputError, MissingError
from stages.expand.methods import METHODS, ExpandSettings
from stages.models.classifier import Classifier
from stages.models.embedding import EmbeddingModel
from stages.models.new_anchors import anchors_for_names

TEMPLATES = ["This is a photo of a {}", "a drawing of a {}"]
OWN = ("red circle", "blue star", "green ring", "yellow heart")
OTHER = ["purple ring", "Blue_star", "cyan cross", "green ring"]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_encoder("demo")


@pytest.fixture(scope="module")
def checkpoint(encoder: TextEncoder) -> Classifier:
    return trained_on(encoder, ExpandSettings())


def trained_on(encoder: TextEncoder, settings: ExpandSettings) -> Classifier:
    raw = text_anchors(OWN, ClassGroups.from_counts(4, 2, 1), encoder, TEMPLATES)
    own, _ = expand_anchors(raw, settings=settings)
    model = EmbeddingModel("conv4-8", own.vectors.shape[1], 16, mean=(0.5,) * 3, std=(0.2,) * 3)
    return Classifier(model, own)


def with_origin(checkpoint: Classifier, **changed: str) -> Classifier:
    own = checkpoint.anchor_set
    return Classifier(checkpoint.embedding, replace(own, origin={**own.origin, **changed}))


@pytest.mark.parametrize("method", METHODS)
def test_names_are_encoded_and_moved_as_the_training_anchors_were(method: str, encoder: TextEncoder) -> None:
    checkpoint = trained_on(encoder, ExpandSettings(method))
    moved = checkpoint.over(OTHER)
    assert moved.classes == tuple(OTHER)
    assert moved.embedding is checkpoint.embedding
    own = checkpoint.anchor_set
    # the same name gets the same anchor, however it is written
    np.testing.assert_allclose(moved.anchor_set.vectors[3], own.vectors[2], atol=1e-5)
    expected = text_anchors(OTHER, ClassGroups.from_counts(4, None), encoder, TEMPLATES)
    assert own.expansion is not None
    np.testing.assert_allclose(moved.anchor_set.vectors, own.expansion.apply(expected.vectors), atol=1e-6)
    assert moved.anchor_set.expansion is own.expansion


def test_what_was_trained_on_goes_by_the_names(checkpoint: Classifier) -> None:
    moved = checkpoint.over(OTHER)
    assert (moved.groups.seen, moved.groups.val, moved.groups.novel) == ((1,), (3,), (0, 2))
    # and goes on to do so when other names are given again
    again = moved.over(["red circle", "no such"])
    assert (again.groups.seen, again.groups.novel) == ((0,), (1,))
    assert moved.trained is checkpoint.anchor_set


def test_anchors_of_another_encoder_are_refused_naming_both(checkpoint: Classifier, encoder: TextEncoder) -> None:
    other = replace(encoder, record={**encoder.record, "model": "ViT-B-16", "weights_sha256": "0" * 64})
    given = text_anchors(OTHER, ClassGroups.from_counts(4, None), other, TEMPLATES)
    with pytest.raises(
        InputError, match=r"of names\.txt are from another encoder .* model is 'ViT-B-16' there and 'demo' here"
    ):
        checkpoint.over(given, where="names.txt")


@pytest.mark.parametrize(
    ("own", "given", "fix"),
    [
        ("text", "descriptions", "make them with `laat anchors --classes NEW.txt --like CHECKPOINT`"),
        ("descriptions", "text", "--descriptions FILE.json --like CHECKPOINT"),
        ("features", "text", "encode the classes with the encoder of the training anchors"),
    ],
)
def test_anchors_of_another_source_are_refused_with_what_to_type(
    own: str, given: str, fix: str, checkpoint: Classifier, encoder: TextEncoder
) -> None:
    made = text_anchors(OTHER, ClassGroups.from_counts(4, None), encoder, TEMPLATES)
    with pytest.raises(InputError, match=f"source is '{given}' there and '{own}' here; .*{fix}"):
        with_origin(checkpoint, source=own).over(replace(made, origin={**made.origin, "source": given}))


@pytest.mark.parametrize("key", ["weights_sha256", "config_sha256"])
def test_an_encoder_that_has_changed_is_refused(key: str, checkpoint: Classifier) -> None:
    changed = with_origin(checkpoint, **{key: "1" * 64})
    with pytest.raises(InputError, match=f"another encoder than the checkpoint's: {key}"):
        changed.over(OTHER)


def test_anchors_without_the_architecture_of_their_encoder_still_take_names(checkpoint: Classifier) -> None:
    own = checkpoint.anchor_set
    older = replace(own, origin={key: value for key, value in own.origin.items() if key != "config_sha256"})
    moved = Classifier(checkpoint.embedding, older).over(OTHER)
    np.testing.assert_array_equal(moved.anchor_set.vectors, checkpoint.over(OTHER).anchor_set.vectors)


@pytest.mark.parametrize(
    ("origin", "error", "says"),
    [
        ({"source": "simplex"}, InputError, "come from simplex, which cannot encode names; such anchors know only"),
        ({"source": "features"}, InputError, "come from features"),
        (
            {"model": "local-dir:my-clip"},
            MissingError,
            "given as 'my-clip', and files do not record paths; make them with",
        ),
        ({"model": "ViT-B-16", "pretrained": "file:w.safetensors"}, MissingError, "given as 'w.safetensors'"),
        ({"model": "ViT-Z-99", "pretrained": "openai"}, MissingError, "encoder is not available: open_clip has no model"),
    ],
)
def test_an_encoder_that_cannot_be_had_is_said(
    checkpoint: Classifier, origin: dict[str, str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        anchors_for_names(with_origin(checkpoint, **origin).trained, OTHER)


@pytest.mark.parametrize("moved", [False, True])
def test_random_anchors_of_other_names_are_not_those_of_the_training(moved: bool) -> None:
    raw = constructed_anchors(OWN, ClassGroups.from_counts(4, 2, 1), "random", 8, seed=0)
    own = expand_anchors(raw)[0] if moved else raw
    model = Classifier(EmbeddingModel("conv4-8", 8, 16, mean=(0.5,) * 3, std=(0.2,) * 3), own)
    same = constructed_anchors(("okapi", *OWN[1:]), ClassGroups.from_counts(4, None), "random", 8, seed=0)
    with pytest.raises(InputError, match=r"'okapi' has the anchor of the checkpoint's 'red circle' in new\.st; such"):
        model.over(same, where="new.st")
    other = constructed_anchors(("okapi", "pagoda"), ClassGroups.from_counts(2, None), "random", 8, seed=1)
    assert model.over(other).classes == ("okapi", "pagoda")
    np.testing.assert_array_equal(model.over(raw).anchor_set.vectors, own.vectors)
