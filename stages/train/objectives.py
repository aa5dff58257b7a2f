"""Training objectives: what the inner attack maximises and what the outer step minimises. One loop runs them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from stages.errors import UsageError
from stages.train.settings import OBJECTIVES, TrainSettings


def anchor_logits(embeddings: Tensor, anchors: Tensor, tau: float) -> Tensor:
    """Cosines over tau: unit embeddings (N, D) against unit anchors (C, D) -> (N, C). Li et al., CVPR 2024, Sec. 3.3."""
    return embeddings @ anchors.T / tau


def smoothing_loss(clean: Tensor, attacked: Tensor) -> Tensor:
    """Minus the mean cosine of unit embeddings (N, D) of clean and attacked images. Li et al., CVPR 2024, Sec. 3.3."""
    return -(clean * attacked).sum(1).mean()


@dataclass(frozen=True)
class Outcome:
    """One outer step: the loss to descend, and the logits (N, C) that came along (None where a side was not run)."""

    loss: Tensor
    clean: Tensor | None
    attacked: Tensor | None


class Objective(ABC):
    """One way to train against fixed anchors.

    Args:
        anchors: (C, D) unit rows, on the model's device; they never get gradients.
        tau: temperature.
    """

    attacks = True

    def __init__(self, anchors: Tensor, tau: float) -> None:
        self.anchors, self.tau = anchors, tau

    def logits(self, embeddings: Tensor) -> Tensor:
        """See `anchor_logits`."""
        return anchor_logits(embeddings, self.anchors, self.tau)

    def inner(self, model: nn.Module, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """What the inner attack maximises: x_adv (N, 3, H, W) -> loss of each image (N,); A-CE unless overridden."""
        return lambda x_adv: cross_entropy(self.logits(model(x_adv)), labels, reduction="none")

    @abstractmethod
    def outer(self, model: nn.Module, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """The loss of the outer step, model in training mode; x and x_adv (N, 3, H, W) in [0, 1], labels (N,)."""


class Laat(Objective):
    """A-CE(x_adv, y) + beta * smoothing(x, x_adv), two forward passes (Li et al., CVPR 2024, Sec. 3.3)."""

    def __init__(self, anchors: Tensor, tau: float, beta: float) -> None:
        super().__init__(anchors, tau)
        self.beta = beta

    def outer(self, model: nn.Module, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """The attacked images go through first, as published (it decides the order of the batch-norm updates)."""
        attacked, clean = model(x_adv), model(x)
        logits = self.logits(attacked)
        loss = cross_entropy(logits, labels) + self.beta * smoothing_loss(clean, attacked)
        return Outcome(loss, self.logits(clean), logits)


class Adversarial(Objective):
    """Plain adversarial training, A-CE(x_adv, y) (Madry et al., ICLR 2018)."""

    def outer(self, model: nn.Module, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """One forward pass, on the attacked images."""
        logits = self.logits(model(x_adv))
        return Outcome(cross_entropy(logits, labels), None, logits)


class Clean(Objective):
    """A-CE(x, y) without any attack: the undefended model to compare with."""

    attacks = False

    def outer(self, model: nn.Module, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """One forward pass, on the clean images; `x_adv` is not looked at."""
        logits = self.logits(model(x))
        return Outcome(cross_entropy(logits, labels), logits, None)


def build_objective(settings: TrainSettings, anchors: Tensor) -> Objective:
    """The objective that the settings name, over `anchors` (C, D). Raises UsageError for an unknown name."""
    if settings.objective == "laat":
        return Laat(anchors, settings.tau, settings.smoothing)
    if settings.objective == "at":
        return Adversarial(anchors, settings.tau)
    if settings.objective == "clean":
        return Clean(anchors, settings.tau)
    raise UsageError(f"unknown objective '{settings.objective}'", f"choose one of {', '.join(OBJECTIVES)}")
