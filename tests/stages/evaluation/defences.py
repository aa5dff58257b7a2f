"""Test-time defences, small but of the published kinds: they act between the pixels and the network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Smoothed(nn.Module):
    """Gaussian noise on the images, as randomised smoothing."""

    def __init__(self, model: nn.Module, size: float) -> None:
        super().__init__()
        self.model, self.size = model, size

    def forward(self, x: Tensor) -> Tensor:
        embeddings: Tensor = self.model(x + self.size * torch.randn_like(x))
        return embeddings


class RandomResize(nn.Module):
    """Another size in every pass, padded at a random place (Xie et al., ICLR 2018)."""

    def __init__(self, model: nn.Module, most: int = 6) -> None:
        super().__init__()
        self.model, self.most = model, most

    def forward(self, x: Tensor) -> Tensor:
        side = x.shape[-1]
        smaller = side - int(torch.randint(1, self.most + 1, ()))
        left, top = (int(torch.randint(0, side - smaller + 1, ())) for _ in range(2))
        small = F.interpolate(x, (smaller, smaller), mode="bilinear", align_corners=False)
        embeddings: Tensor = self.model(F.pad(small, (left, side - smaller - left, top, side - smaller - top), value=0.5))
        return embeddings


class Purified(nn.Module):
    """Noise, then a mean filter that removes it, a few times over, as purification by diffusion; `on` switches it."""

    def __init__(self, model: nn.Module, size: float = 0.25, rounds: int = 2) -> None:
        super().__init__()
        self.model, self.size, self.rounds, self.on = model, size, rounds, True

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.rounds if self.on else 0):
            noisy = x + self.size * torch.randn_like(x)
            x = 0.5 * x + 0.5 * F.avg_pool2d(F.pad(noisy, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
        embeddings: Tensor = self.model(x)
        return embeddings
