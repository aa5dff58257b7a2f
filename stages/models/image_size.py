"""Whether a classifier takes images of a size, before anything is computed on them."""

from __future__ import annotations

from torch import zeros

from stages.errors import InputError
from stages.models.classifier import Classifier
from stages.models.embedding import EmbeddingModel
from stages.models.own_parts import output_width


def require_size(classifier: Classifier, size: tuple[int, int], images: str, fix: str) -> None:
    """Raise unless a classifier takes images of a size; a module that is not ours is asked with a forward pass.

    Args:
        classifier: with one head.
        size: height and width of the images.
        images: what they are, for the error: 'the images of x'.
        fix: what to do about another size, with {} for the side that it takes.

    Raises InputError for another size, or anchors or class names that do not fit the outputs; UsageError for a module that
    fails on such images or gives something else than (N, outputs).
    """
    side, foreign = classifier.image_size, classifier.origin.foreign
    if side is not None and size != (side, side):
        who = f"{foreign['name']} takes" if foreign else "the classifier was trained at"
        raise InputError(f"{images} are {size[1]}x{size[0]} and {who} {side}x{side}", fix.format(side))
    if foreign and not isinstance(classifier.embedding, EmbeddingModel) and size[0] == size[1]:
        width = output_width(classifier.embedding, size[0], str(foreign["name"]))
        classifier.logits(zeros(1, width, device=classifier.device))  # raises for another width
