"""Objectives and a backbone that behave as the published program of LAAT does, where `laat` differs on purpose.

Put this folder on the import path, then for example:

    PYTHONPATH=examples/published_differences laat train --objective published:Laat …

The page beside this file says what each changes and what it was measured to do.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from stages.models.backbones import ConvNet
from stages.training import objectives
from stages.training.objectives import Embed, Objective, Outcome, a_ce


class Laat(objectives.Laat):
    """LAAT with three forward passes (attacked, clean, attacked): the same loss, other running statistics of batch norm."""

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """A-CE has a forward pass of its own, so two of the three updates of the running statistics are of attacked images."""
        logits = self.logits(embed(x_adv))
        clean, attacked = embed(x), embed(x_adv)
        smoothing = self.beta * objectives.smoothing_loss(clean, attacked)
        return Outcome({"A-CE": a_ce(logits, labels), "smoothing": smoothing}, self.logits(clean.detach()), logits)


class CosineDistance(objectives.CosineDistance):
    """The cosine, with the inner attack on the cross-entropy."""

    def inner(self, embed: Embed, x: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """See `Objective.inner`."""
        return Objective.inner(self, embed, x, labels)


class AngularDistance(objectives.AngularDistance):
    """The angle, with the inner attack on the cross-entropy."""

    def inner(self, embed: Embed, x: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """See `Objective.inner`."""
        return Objective.inner(self, embed, x, labels)


class EuclideanDistance(objectives.EuclideanDistance):
    """The Euclidean distance, with the inner attack on the cross-entropy."""

    def inner(self, embed: Embed, x: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """See `Objective.inner`."""
        return Objective.inner(self, embed, x, labels)


class _BiasedConv4(nn.Module):
    """Conv4 with a bias in every convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        plain = ConvNet(width)
        layers: list[nn.Module] = []
        for block in plain.blocks:
            conv = nn.Conv2d(block.conv.in_channels, width, 3, padding=1)
            nn.init.normal_(conv.weight, std=(2 / (9 * width)) ** 0.5)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        self.layers, self.features = nn.Sequential(*layers), width

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, width), the pooled features."""
        return self.layers(x).mean((2, 3))


def conv4_64_with_biases() -> nn.Module:
    """Conv4-64 with biases that batch norm removes again. Shapes: (N, 3, H, W) -> (N, 64)."""
    return _BiasedConv4(64)
