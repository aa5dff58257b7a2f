"""Models whose answers can be worked out by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Channels(nn.Module):
    """Embeds an image as its mean red, green and blue, minus a grey level: what is brightest is the class."""

    def __init__(self, grey: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3))
        self.grey = grey
        self.judged: list[int] = []
        self.attacked: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        (self.attacked if torch.is_grad_enabled() else self.judged).append(len(x))
        return normalize((x.mean((2, 3)) - self.grey) @ self.weight, dim=1)


def coloured(levels: list[tuple[int, int, int]]) -> Tensor:
    """One plain 4 x 4 image a colour, uint8."""
    return torch.tensor(levels, dtype=torch.uint8)[:, :, None, None].repeat(1, 1, 4, 4)
