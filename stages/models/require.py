"""Whether what a caller of the library gives as a classifier is one."""

from __future__ import annotations

import os
from typing import Any

from stages.errors import UsageError
from stages.models.classifier import Classifier


def require_classifier(found: Any) -> Classifier:
    """The classifier itself. Raises UsageError for anything else, such as the name of a model."""
    if isinstance(found, Classifier):
        return found
    what = repr(found) if isinstance(found, str | os.PathLike) else f"an object of type {type(found).__name__}"
    raise UsageError(f"{what} is not a classifier", "open a model with laat.load(…) first")


def require_anchored(classifier: Classifier, name: str = "the model") -> Classifier:
    """The classifier itself. Raises UsageError for one whose projection to the anchors was not trained."""
    if classifier.origin.anchored:
        return classifier
    raise UsageError(
        f"{name} was trained without the anchors: its projection to them is random",
        "evaluate it on support images: `laat eval --protocol episodes --shots 1,5 --head protonet` (or r2d2, if trained so)",
    )
