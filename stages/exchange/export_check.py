"""Whether an exported model gives what the classifier gives: it is run on images and compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.data.decoding.decode import decode_images
from stages.data.decoding.encoded import Encoded
from stages.data.folders.walk import list_folder, why_no_image
from stages.data.request import ImageRequest
from stages.data.subset import select_images
from stages.data.unlabelled import ImagePaths
from stages.errors import ComputeError, UsageError
from stages.models.classifier import Classifier, Progress
from stages.models.frozen import inference
from stages.pixels import to_pixels
from stages.text import as_text, first_line

IMAGES = 200
TOLERANCE = 1e-4  # of a logit
# of a cosine: float32 rounding alone, in another memory layout, gave 1.0e-6 (ResNet-12, 6 images)
TOLERANCE_OF_COSINE = 1e-5
_BATCH = 64
_ALONE = 8  # images that are also compared one by one, over another number of anchors

# images uint8 (n, 3, S, S) and anchors (C, D) -> logits (n, C); a closed set of classes has no use for the anchors
Run = Callable[[Tensor, Tensor], Tensor]


class Images(NamedTuple):
    """Images to compare on: uint8 (N, 3, S, S), and the name of the data."""

    pixels: Tensor
    source: str


@dataclass(frozen=True)
class Comparison:
    """How far an exported model is from the classifier.

    Attributes:
        runtime: what ran it.
        source: of the images.
        images: number of them.
        largest: difference of two logits.
        same: images with the same most likely class.
        undecided: images that the figure `same` leaves out: their two largest logits are closer than two differences.
        tolerance: the largest difference that is allowed.
    """

    runtime: str
    source: str
    images: int
    largest: float
    same: int
    undecided: int
    tolerance: float

    @property
    def decided(self) -> int:
        """Images whose most likely class rounding cannot change."""
        return self.images - self.undecided


def read_images(request: ImageRequest, size: int | None) -> Images:
    """At most 200 images, spread evenly over the data or over the bundled shapes, in the size of the model.

    Args:
        request: which images; labels are not needed.
        size: side of the model's images; None for any.

    Raises UsageError for another size, and as `select_images`.
    """
    if size is not None and request.resize not in (None, size):
        raise UsageError(f"the model takes images of {size} px, and --resize is {request.resize}", "leave --resize out")
    request = replace(request, data=request.data or "shapes", resize=size or request.resize)
    if files := _files_without_classes(request):
        source, some = Path(request.data).name, [files[at] for at in _spread(len(files))]
        encoded = (Encoded(as_text(file), file) for file in some)
        skip = request.skip_corrupt
        found = decode_images(encoded, len(some), source=source, options=request.decoding, skip_corrupt=skip)
        return Images(torch.from_numpy(found.pixels), source)
    subset = select_images(request, side="test", classes=None, classes_from="", divided=())
    pixels = subset.decode(_spread(len(subset)), skip_corrupt=request.skip_corrupt).pixels
    return Images(torch.from_numpy(pixels), subset.source.name)


def _files_without_classes(request: ImageRequest) -> list[str]:
    """The images of a folder that has some outside of class folders; none of other data."""
    folder = request.data
    if not isinstance(folder, str | Path) or not Path(folder).is_dir() or request.split or request.layout:
        return []
    return [*ImagePaths([folder])] if list_folder(Path(folder), why_no_image).files else []


def _spread(count: int) -> np.ndarray:
    """At most 200 of `count` positions."""
    return np.unique(np.linspace(0, count - 1, min(IMAGES, count)).round().astype(np.int64))


def compare(
    classifier: Classifier,
    run: Run,
    images: Images,
    runtime: str,
    *,
    tolerance: float | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run an exported model beside the classifier.

    All images in batches, the last one smaller; some of them again one by one, over another number of anchors.

    Args:
        classifier: on the CPU.
        run: the exported model.
        images: to compare on.
        runtime: name of what runs it.
        tolerance: the largest difference of two logits that is allowed; None is 1e-4, or 1e-5 of the logit scale if that is
            more.
        progress: called with (images compared, in total, runtime).

    Raises ComputeError for a logit that differs by more, or another class than the classifier's where the
    difference is too small to explain it.
    """
    if tolerance is None:
        tolerance = max(TOLERANCE, TOLERANCE_OF_COSINE * classifier.logit_scale)
    anchors, largest, margins, same = classifier.anchors, 0.0, [], []
    with inference(classifier):
        for part in images.pixels.split(_BATCH):
            expected, given = _both(classifier, run, part, anchors)
            largest = max(largest, _distance(expected, given))
            best = expected.topk(min(2, expected.shape[1]), dim=1)
            margins.append(best.values[:, 0] - best.values[:, 1] if len(anchors) > 1 else torch.full((len(part),), torch.inf))
            same.append(best.indices[:, 0] == given.argmax(1))
            if progress is not None:
                progress(sum(map(len, same)), len(images.pixels), runtime)
        other = anchors if classifier.closed else anchors[:-1] if len(anchors) > 1 else anchors.repeat(2, 1)
        for part in images.pixels[:_ALONE].split(1):
            largest = max(largest, _distance(*_both(classifier, run, part, other)))
    decided = torch.cat(margins) > 2 * largest
    agreed = torch.cat(same) & decided
    count = len(images.pixels)
    found = Comparison(runtime, images.source, count, largest, int(agreed.sum()), count - int(decided.sum()), tolerance)
    if not largest <= tolerance or found.same < found.decided:
        raise ComputeError(
            f"{runtime} gives other logits than the model, and nothing was written: on {count} images of {images.source} "
            f"they differ by {largest:.2g} (allowed: {tolerance:.0e}), {found.same} of {found.decided} have the same class",
            "if it is rounding, allow more with --tolerance",
        )
    return found


def _both(classifier: Classifier, run: Run, images: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """The logits of the classifier, over these anchors and without a bias, and those of the exported model."""
    head = classifier.over(anchors).with_bias(0.0)
    expected = head.scores(to_pixels(images, torch.arange(len(images)), "cpu")).float()
    try:
        return expected, run(images, anchors)
    except Exception as error:  # each runtime has its own types
        raise ComputeError(
            f"the exported model does not run on {len(images)} images and {len(anchors)} anchors: {first_line(error)}",
            "nothing was written; try another --format",
        ) from error


def _distance(expected: Tensor, given: Tensor) -> float:
    """The largest difference of two logits; infinite where one is not a number or the shapes differ."""
    if given.shape != expected.shape:
        return float("inf")
    found = float((expected - given).abs().max())
    return float("inf") if math.isnan(found) else found
