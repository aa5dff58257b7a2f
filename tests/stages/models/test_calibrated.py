"""A classifier's calibration: probabilities, the bias on its seen classes, and its place in checkpoints."""

from __future__ import annotations

import pytest
import torch

from stages.errors import InputError
from stages.files.artifact_params import BiasFit, Calibration, SeenUnseenShares
from stages.files.artifacts import Artifact, from_bytes, to_bytes
from stages.models.checkpoint import checkpoint_of, read_checkpoint
from stages.models.classifier import Classifier
from tests.stages.models.test_classifier import classifier, images

SHARES = SeenUnseenShares(S=0.5, U=0.5, H=0.5)
FIT = BiasFit(seen_images=20, seen_classes=2, images=10, classes=1, before=SHARES, after=SHARES)
FOUND = {"temperature": 0.5, "source": "validation classes", "images": 10, "classes": 2, "ece_before": 0.3, "ece_after": 0.1}
WITH_BIAS = Calibration.model_validate({**FOUND, "bias": 0.25, "bias_fit": FIT})
SEEN = [0, 3]  # of the classes in test_classifier


def calibrated(calibration: Calibration | None = WITH_BIAS) -> Classifier:
    made = classifier()
    made.calibration = calibration
    return made


def stored(made: Classifier) -> Artifact:
    training = {"settings": {"tau": 0.25}}
    return checkpoint_of(made.embedding, made.anchor_set, training, {}, image_size=16, calibration=made.calibration)


def test_probabilities_are_the_softmax_of_biased_logits_over_the_temperature() -> None:
    made = calibrated()
    logits = made(images())
    expected = logits.clone()
    expected[:, SEEN] -= 4 * 0.25  # 4 is the logit scale
    torch.testing.assert_close(made.probabilities(logits), (expected / 0.5).softmax(1))
    torch.testing.assert_close(calibrated(None).probabilities(logits), logits.softmax(1))


def test_a_bias_lowers_the_cosines_of_seen_classes_alone() -> None:
    made = calibrated()
    biased = made.with_bias(0.25)
    expected = made(images())
    expected[:, SEEN] -= 4 * 0.25
    torch.testing.assert_close(biased(images()), expected)
    torch.testing.assert_close(biased.scores(images()), expected)
    torch.testing.assert_close(biased.probabilities(biased(images())), made.probabilities(made(images())))
    assert made.bias == 0


def test_a_calibration_changes_no_logits() -> None:
    assert torch.equal(calibrated()(images()), calibrated(None)(images()))


@pytest.mark.parametrize("group", ["seen", "novel", "all"])
def test_other_classes_keep_the_calibration_and_the_bias(group: str) -> None:
    made = calibrated().with_bias(0.25).over(group)
    logits = made(images())
    assert made.calibration == WITH_BIAS
    assert made.bias == 0.25
    torch.testing.assert_close(made.probabilities(logits), (logits / 0.5).softmax(1))


def test_a_checkpoint_keeps_it() -> None:
    back = read_checkpoint(from_bytes(to_bytes(stored(calibrated())), where="it", kind="model"), "it")
    assert back.calibration == WITH_BIAS


def test_a_checkpoint_without_one_opens() -> None:
    artifact = stored(calibrated(None))
    assert "calibration" not in artifact.params
    assert read_checkpoint(from_bytes(to_bytes(artifact), where="it"), "it").calibration is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"temperature": 0}, "temperature is 0"),
        ({"ece_after": 1.5}, "ece_after is 1.5"),
        ({"bias": None}, "neither a bias"),
        ({"warmth": 1}, "unknown entry 'warmth'"),
    ],
)
def test_a_damaged_one_is_refused(change: dict[str, object], says: str) -> None:
    artifact = stored(calibrated())
    artifact.params["calibration"] |= change
    with pytest.raises(InputError, match=says):
        from_bytes(to_bytes(artifact), where="it")
