"""How far fine-tuning moved the embeddings of clean images: 1 - cosine to those of the original tower.

    python examples/rivals/drift.py runs/rivals/*/model.st

Prints the mean over the novel test images of `shapes`, for each checkpoint.
"""

from __future__ import annotations

import sys

import torch

import stages as laat
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.models.classifier import Classifier


def embeddings(classifier: Classifier, images: torch.Tensor) -> torch.Tensor:
    """Unit embeddings (N, D) of images (N, 3, H, W)."""
    with torch.no_grad():
        return torch.cat([classifier.eval().embed(part) for part in images.split(200)])


def main(paths: list[str]) -> None:
    """One line for each checkpoint."""
    names = laat.load(paths[0]).over("novel").classes
    images = load_images(ImageRequest("shapes"), side="test", classes=names).images
    original = embeddings(laat.load("clip:demo", names=names), images)
    for path in paths:
        cosine = (embeddings(laat.load(path), images) * original).sum(1)
        print(f"{path}  drift {1 - cosine.mean():.3f}  n = {len(images)}")


if __name__ == "__main__":
    main(sys.argv[1:])
