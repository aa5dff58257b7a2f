"""Adversarial images in 8 bits: rounding that stays inside the ball, exactly."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import torch
from torch import Tensor

from stages.threat import ThreatModel

_LEVELS = 255
_CHUNK = 32  # images at a time: rounding needs several int64 tensors of their size


def quantize(x_adv: Tensor, clean: Tensor, threat: ThreatModel) -> Tensor:
    """Adversarial images as grey levels inside the threat model, by integer arithmetic and so without a tolerance.

    L-inf: every pixel at the grey level nearest to it that is within eps of the clean level. L2: every pixel at the
    nearest level; where an image is then outside the ball, pixels go one level towards the clean image, those first
    that cost least for the length that they save, until it is inside.

    Args:
        x_adv: (N, 3, H, W) in [0, 1], inside the threat model up to float32 rounding.
        clean: (N, 3, H, W) uint8, the clean images.
        threat: the ball.

    Returns:
        (N, 3, H, W) uint8, on the CPU.
    """
    parts = [
        _rounded(x.cpu(), levels.cpu(), threat) for x, levels in zip(x_adv.split(_CHUNK), clean.split(_CHUNK), strict=True)
    ]
    return torch.cat(parts) if parts else torch.empty(clean.shape, dtype=torch.uint8)


def _rounded(x_adv: Tensor, clean: Tensor, threat: ThreatModel) -> Tensor:
    centre = clean.to(torch.int64)
    exact = x_adv.double() * _LEVELS - centre
    moved = exact.round().to(torch.int64)
    if threat.norm == "L2":
        moved = _inside_l2(moved.flatten(1), exact.flatten(1), _squared_levels(threat.eps)).reshape(moved.shape)
    else:
        most = floor(threat.eps * _LEVELS)
        moved = moved.clamp(-most, most)
    return (centre + moved).clamp(0, _LEVELS).to(torch.uint8)


def _squared_levels(eps: Fraction) -> int:
    """The largest whole number that the squared length in grey levels may be."""
    return floor((eps * _LEVELS) ** 2)


def _inside_l2(moved: Tensor, exact: Tensor, most: int) -> Tensor:
    """Levels (N, D) int64 near `exact`, of squared length at most `most`, a level at a time nearer to zero."""
    while True:
        over = moved.square().sum(1) - most
        if not bool((over > 0).any()):
            return moved
        size = moved.abs()
        saved = torch.where(size > 0, 2 * size - 1, 0)  # of the squared length, by one level less
        # what it adds to the squared rounding error: (size - 1 - |exact|)^2 - (size - |exact|)^2
        cost = 1 - 2 * (size - exact * moved.sign())
        order = torch.where(saved > 0, cost / saved.clamp_min(1), torch.inf).argsort(dim=1, stable=True)
        before = saved.gather(1, order).cumsum(1) - saved.gather(1, order)
        lowered = torch.zeros_like(moved).scatter_(1, order, (before < over[:, None]).to(torch.int64))
        moved = moved - moved.sign() * lowered * (size > 0)
