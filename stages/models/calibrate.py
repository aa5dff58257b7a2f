"""Fits the calibration of a classifier on images."""

from __future__ import annotations

import numpy as np
import torch

from stages.data.image_set import ImageSet
from stages.models.classifier import Classifier, Progress, decide
from stages.models.frozen import inference
from stages.pixels import to_pixels
from stages.statistics.calibration import Calibration, fit_bias, fit_calibration

NO_BIAS = "no bias gets both seen classes and the others right"


def calibrate(
    classifier: Classifier,
    images: ImageSet,
    held_out: ImageSet | None,
    *,
    source: str,
    no_bias: str = NO_BIAS,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Calibration:
    """The calibration of a classifier; its own is not looked at. The same inputs give the same numbers.

    Args:
        classifier: with the classes of the images.
        images: of at least 2 classes that are not trained on, where there are such; never novel classes or test images. Their
            classes are the candidates of the temperature.
        held_out: images of seen classes that were not trained on, for the bias; their classes compete with those of `images`.
        source: what `images` are.
        no_bias: why there is no bias, for `held_out` None.
        batch_size: images in one forward pass.
        progress: called with (images done, total, what).

    Raises ComputeError for non-finite outputs.
    """
    own = classifier.over(images.classes)
    logits = _logits(own, images, batch_size, progress)
    bias = None
    if held_out is not None:
        together = classifier.over([*held_out.classes, *images.classes])
        both = np.concatenate([_logits(together, part, batch_size, progress) for part in (held_out, images)])
        labels = np.concatenate([held_out.labels.cpu().numpy(), images.labels.cpu().numpy() + len(held_out.classes)])
        bias, no_bias = fit_bias(both / classifier.logit_scale, labels, len(held_out.classes)), NO_BIAS
    return fit_calibration(
        logits, images.labels.cpu().numpy(), bias, scale=classifier.logit_scale, source=source, no_bias=no_bias
    )


def _logits(classifier: Classifier, images: ImageSet, batch_size: int, progress: Progress | None) -> np.ndarray:
    """Logits (N, C) of the images, float32."""
    found = np.empty((len(images), len(classifier.classes)), np.float32)
    with inference(classifier):
        for rows in torch.arange(len(images)).split(batch_size):
            logits = classifier.scores(to_pixels(images.images, rows, classifier.device))
            decide(logits)  # raises where one is not finite
            found[rows.numpy()] = logits.float().cpu().numpy()
            if progress is not None:
                progress(int(rows[-1]) + 1, len(images), "calibration")
    return found
