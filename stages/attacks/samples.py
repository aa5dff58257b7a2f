"""Samples under attack, and the results of attacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from stages.errors import ComputeError, InputError
from stages.models.classifier import Classifier


def no_gradient() -> ComputeError:
    """The error for a model that gradient attacks cannot differentiate."""
    return ComputeError(
        "the model has no gradient with respect to its input, so gradient attacks cannot run",
        "remove detach() and torch.no_grad() from its forward pass, or run an attack without gradients: --attack square",
    )


def require_gradient(output: Tensor) -> None:
    """Raise ComputeError unless `output` can be differentiated."""
    if not output.requires_grad:
        raise no_gradient()


def check_labels(images: Tensor, labels: Tensor, classes: int) -> None:
    """Raise InputError unless `labels` are one position among `classes` for each of the images (N, …)."""
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        raise InputError(
            f"the labels are {labels.dtype} {tuple(labels.shape)}, expected int64 ({len(images)},)", "give one class per image"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InputError(
            f"labels span [{int(labels.min())}, {int(labels.max())}], and the classifier has {classes} classes",
            "give positions in classifier.classes, or choose the classes with classifier.over(…)",
        )


@dataclass(frozen=True)
class Samples:
    """P samples to attack.

    Attributes:
        classifier: frozen; with one head, or one head per sample.
        source: rows (n,) on the CPU -> clean images (n, 3, H, W) in [0, 1] on the classifier's device.
        labels: (P,) int64, positions in the sample's head.
        first_row: row of the first sample in a larger set; random starts belong to the rows of that set.
        on_pass: called with the number of images of every forward pass; may raise to end the attack.
    """

    classifier: Classifier
    source: Callable[[Tensor], Tensor]
    labels: Tensor
    first_row: int = 0
    on_pass: Callable[[int], None] | None = None

    def scores(self, x: Tensor, rows: Tensor) -> Tensor:
        """Logits (n, C) of the samples `rows` (n,) at the images `x` (n, 3, H, W)."""
        if self.on_pass is not None:
            self.on_pass(len(x))
        return self.classifier.scores(x, rows)

    def labels_of(self, rows: Tensor) -> Tensor:
        """Labels (n,) of the samples `rows` (n,), on the device of `labels`."""
        return self.labels[rows.to(self.labels.device)]


@dataclass(frozen=True)
class Finished:
    """Attacked samples: rows (n,), clean images and results, both (n, 3, H, W)."""

    rows: Tensor
    x: Tensor
    x_adv: Tensor


@dataclass(frozen=True)
class Judged:
    """Attacked samples: rows (n,) on the CPU, adversarial images (n, 3, H, W), their predictions (n,) and logits (n, C)."""

    rows: Tensor
    x_adv: Tensor
    predicted: Tensor
    logits: Tensor

    def where(self, mask: Tensor) -> Judged:
        """The samples selected by `mask` (n,) bool, on the CPU."""
        at = mask.nonzero()[:, 0]
        there = at.to(self.x_adv.device)
        return Judged(self.rows[at], self.x_adv[there], self.predicted[there], self.logits[there])
