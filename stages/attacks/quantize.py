"""Rounding adversarial images to 8 bits, exactly inside the threat model."""

from __future__ import annotations

from math import floor

import torch
from torch import Tensor

from stages.threat import ThreatModel

_LEVELS = 255
_CHUNK = 32  # images per chunk: rounding needs several int64 tensors of their size


def quantize(x_adv: Tensor, clean: Tensor, threat: ThreatModel) -> Tensor:
    """Adversarial images as grey levels inside the threat model. Integer arithmetic, so no tolerance is needed.

    L-inf: the nearest grey level within eps of the clean one. L2: the nearest level; if the image is then outside the ball,
    pixels move one level towards the clean image until it is inside, in the order of rounding error per length saved.

    Args:
        x_adv: (N, 3, H, W) in [0, 1], inside the threat model up to float32 rounding.
        clean: (N, 3, H, W) uint8, the clean images.
        threat: the threat model.

    Returns:
        (N, 3, H, W) uint8, on the CPU.
    """
    chunks = zip(x_adv.split(_CHUNK), clean.split(_CHUNK), strict=True)
    rounded = [_rounded(x.cpu(), levels.cpu(), threat) for x, levels in chunks]
    return torch.cat(rounded) if rounded else torch.empty(clean.shape, dtype=torch.uint8)


def _rounded(x_adv: Tensor, clean: Tensor, threat: ThreatModel) -> Tensor:
    centre = clean.to(torch.int64)
    exact = x_adv.double() * _LEVELS - centre
    moved = exact.round().to(torch.int64)
    if threat.norm == "L2":
        moved = _inside_l2(moved.flatten(1), exact.flatten(1), floor((threat.eps * _LEVELS) ** 2)).reshape(moved.shape)
    else:
        most = floor(threat.eps * _LEVELS)
        moved = moved.clamp(-most, most)
    return (centre + moved).clamp(0, _LEVELS).to(torch.uint8)


def _inside_l2(moved: Tensor, exact: Tensor, most: int) -> Tensor:
    """Shrink `moved` (N, D) int64, in grey levels, to a squared length of at most `most`, staying near `exact`."""
    while True:
        over = moved.square().sum(1) - most
        if not bool((over > 0).any()):
            return moved
        size = moved.abs()
        saved = torch.where(size > 0, 2 * size - 1, 0)  # squared length saved by one level
        # added to the squared rounding error: (size - 1 - |exact|)^2 - (size - |exact|)^2
        cost = 1 - 2 * (size - exact * moved.sign())
        order = torch.where(saved > 0, cost / saved.clamp_min(1), torch.inf).argsort(dim=1, stable=True)
        before = saved.gather(1, order).cumsum(1) - saved.gather(1, order)
        lowered = torch.zeros_like(moved).scatter_(1, order, (before < over[:, None]).to(torch.int64))
        moved = moved - moved.sign() * lowered * (size > 0)
