"""Answers for unlabelled images, as a stream: memory does not grow with their number."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.data.decoding.decode import decode_readable
from stages.data.decoding.encoded import Encoded
from stages.data.decoding.levels import UnreadableImageError
from stages.data.decoding.rgb import Picture
from stages.data.request import MAX_PIXELS, DecodeOptions
from stages.data.unlabelled import ImagePaths
from stages.errors import InputError, UsageError, require_at_least
from stages.models.classifier import Classifier, decide
from stages.models.frozen import inference
from stages.models.require import require_anchored, require_classifier
from stages.pixels import check_pixels, to_pixels
from stages.prediction.record import Prediction
from stages.text import as_text

BATCH = 256
# class names with their confidences
Ranked = tuple[tuple[str, float], ...]
_Decoded = tuple[Encoded, Picture | UnreadableImageError]


@dataclass(frozen=True)
class Batch:
    """Some images and their answers.

    Attributes:
        predictions: of all images, in their order, with those that could not be read.
        read: which of them could be read, ascending positions.
        pixels: of these, (n, 3, H, W), uint8 or float in [0, 1].
        classes: the predicted classes of these, int64 (n,), positions in the classifier's.
        first_row: number of images that could be read before.
    """

    predictions: list[Prediction]
    read: list[int]
    pixels: Tensor
    classes: Tensor
    first_row: int


def predict(
    classifier: Classifier,
    images: Tensor | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    top: int = 1,
    resize: int | None = None,
    max_pixels: int = MAX_PIXELS,
    white: float | None = None,
    batch_size: int = BATCH,
    progress: Callable[[int, int | None, str], None] | None = None,
) -> list[Prediction]:
    """The answer for each image: its class name, confidence, margin and `top` classes; what `laat predict` prints.

    Args:
        classifier: its classes are the candidates, at least two; choose them with `classifier.over(…)`.
        images: pixels (N, 3, H, W), uint8 or float in [0, 1], in the size that the classifier takes; or image files, folders
            and patterns such as 'photos/*.png', of images of any size.
        top: number of classes for each image.
        resize: of files: the shorter side to this many pixels, then the central square; None is the classifier's size.
        max_pixels, white: of files, see `stages.data.request.DecodeOptions`.
        batch_size: images in one forward pass; it does not change the answers.
        progress: called with (images done, images in total, ''); the total is None as long as folders wait to be read.

    Returns:
        One `Prediction` for each image, in order. A file that cannot be read has an `error` and no name.

    Raises:
        UsageError: no classifier, a resize to another size than it takes, or `top` or `batch_size` below 1.
        InputError: fewer than two classes, pixels or a size that do not fit, an input without images.
        ComputeError: non-finite outputs.
    """
    require_at_least("top", top, 1)
    require_at_least("batch_size", batch_size, 1)
    classifier = answering(require_anchored(require_classifier(classifier)))
    if isinstance(images, Tensor):
        batches: Iterable[Batch] = _of_pixels(classifier, images, top, batch_size)
        paths, total = None, len(images)
    else:
        paths, total = ImagePaths([images] if isinstance(images, str | os.PathLike) else images), None
        options = decoding_for(classifier, DecodeOptions(resize, max_pixels, white))
        batches = predict_batches(classifier, paths, options, top=top, batch_size=batch_size)
    found: list[Prediction] = []
    for batch in batches:
        found += batch.predictions
        if progress is not None:
            progress(len(found), total if paths is None else paths.expected, "")
    return found


def answering(classifier: Classifier) -> Classifier:
    """The classifier at the bias of its calibration, if it has one: attacks aim away from the class that is most probable.

    Raises InputError unless there are at least two classes to choose from.
    """
    count = len(classifier.classes)
    if count < 2:
        only = f"only the class '{classifier.classes[0]}'" if count else "no class"
        raise InputError(f"there is {only} to choose from", "give at least two class names: every image gets one of them")
    found = classifier.calibration
    return classifier if found is None or found.bias is None else classifier.with_bias(found.bias)


def decoding_for(classifier: Classifier, options: DecodeOptions) -> DecodeOptions:
    """How images are decoded for a classifier: in its size, and with the value of white of its training.

    Raises UsageError for another size than that of the classifier.
    """
    side = classifier.image_size
    if options.resize is not None and side is not None and options.resize != side:
        raise UsageError(f"--resize {options.resize} does not fit the model, which takes {side}x{side} images", "leave it out")
    white = options.white
    if white is None:
        white = classifier.origin.training.get("data", {}).get("white")
    return DecodeOptions(options.resize or side, options.max_pixels, white)


def predict_batches(
    classifier: Classifier, paths: Iterable[str], options: DecodeOptions, *, top: int = 1, batch_size: int = BATCH
) -> Iterator[Batch]:
    """The answers for image files, up to `batch_size` files at a time. Other files are decoded meanwhile.

    A batch ends where the size of the images changes: a classifier without a size takes images of several.

    Args:
        classifier: with one head.
        paths: of the images; only as many are asked for as are decoded ahead.
        options: see `decoding_for`.
        top: number of classes for each image.
        batch_size: images in one forward pass.

    Raises ComputeError for non-finite outputs.
    """
    decoded = decode_readable((Encoded(path, path) for path in paths), options)
    rows = 0
    for part in _of_one_size(decoded, batch_size):
        arrays = [found.pixels for _, found in part if isinstance(found, Picture)]
        pixels = (
            torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) if arrays else torch.empty(0, 3, 1, 1, dtype=torch.uint8)
        )
        answers, classes = _answers(classifier, pixels, top)
        predictions: list[Prediction] = []
        read: list[int] = []
        for at, (image, found) in enumerate(part):
            if isinstance(found, UnreadableImageError):
                hint = f"; {found.hint}" if "--" in found.hint else ""
                predictions.append(Prediction(image.where, error=as_text(f"cannot be {found.step}: {found}{hint}")))
            else:
                predictions.append(Prediction(image.where, *answers[len(read)]))
                read.append(at)
        yield Batch(predictions, read, pixels, classes, rows)
        rows += len(read)


def _of_one_size(decoded: Iterable[_Decoded], batch_size: int) -> Iterator[list[_Decoded]]:
    """Up to `batch_size` files in a row whose images have one size, as far as they can be read."""
    part: list[_Decoded] = []
    shape: tuple[int, ...] | None = None
    for one in decoded:
        if isinstance(one[1], Picture):
            if part and shape not in (None, one[1].pixels.shape):
                yield part
                part = []
            shape = one[1].pixels.shape
        part.append(one)
        if len(part) == batch_size:
            yield part
            part, shape = [], None
    if part:
        yield part


def _of_pixels(classifier: Classifier, images: Tensor, top: int, batch_size: int) -> Iterator[Batch]:
    check_pixels(images)
    for first in range(0, len(images), batch_size):
        pixels = images[first : first + batch_size]
        answers, classes = _answers(classifier, pixels, top)
        yield Batch([Prediction("", *answer) for answer in answers], list(range(len(pixels))), pixels, classes, first)


def _answers(classifier: Classifier, pixels: Tensor, top: int) -> tuple[list[tuple[Ranked, float]], Tensor]:
    """For each image (n, 3, H, W) the `top` names with their confidences, and the margin; and the classes (n,) on the CPU."""
    if not len(pixels):
        return [], torch.empty(0, dtype=torch.int64)
    names = classifier.classes
    shares = probabilities(classifier, to_pixels(pixels, torch.arange(len(pixels)), classifier.device))
    largest = shares.topk(min(max(top, 2), len(names)), dim=1)
    margins = (largest.values[:, 0] - largest.values[:, 1]).tolist()
    kept = min(top, len(names))
    answers = [
        (tuple((names[at], share) for at, share in zip(which[:kept], values[:kept], strict=True)), margin)
        for which, values, margin in zip(largest.indices.tolist(), largest.values.tolist(), margins, strict=True)
    ]
    return answers, largest.indices[:, 0]


def probabilities(classifier: Classifier, x: Tensor) -> Tensor:
    """The probabilities (n, C), on the CPU, of images (n, 3, H, W) float in [0, 1] on the classifier's device.

    Raises ComputeError for non-finite outputs.
    """
    with inference(classifier):
        logits = classifier.scores(x)
        decide(logits)
        return classifier.probabilities(logits).cpu()
