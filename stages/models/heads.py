"""Few-shot heads: classifiers of an episode's classes, made from the features of its support images.

Each head is affine in the features, so heads are rows (E, N, D + 1) against features with a one appended (`with_one`), and
all episodes of a batch are solved together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stages.data.episode_shape import PROTONET, RIDGE

# lambda of the published program of Goldblum et al., NeurIPS 2020, which is that of MetaOptNet (Lee et al., CVPR 2019)
_RIDGE = 50.0


class PrototypeHead(nn.Module):
    """ProtoNet: logits are -|x - c_n|^2 / D with c_n the mean of a class's support (Snell et al., NeurIPS 2017).

    |x|^2 is the same for all classes and is left out: it changes neither probabilities nor margins.
    """

    def forward(self, support: Tensor) -> Tensor:
        """Features (E, N, K, D), E episodes of N classes with K images -> heads (E, N, D + 1)."""
        means = support.mean(2)
        bias = -means.square().sum(-1, keepdim=True)
        return torch.cat((2 * means, bias), -1) / support.shape[-1]


class RidgeHead(nn.Module):
    """R2-D2: ridge regression to one-hot labels in closed form, logits a X W + b (Bertinetto et al., ICLR 2019).

    W = X^T (X X^T + lambda I)^-1 Y with X (N K, D + 1) the support's features and a column of ones. lambda (through its
    logarithm), a and b are learnt. b shifts all logits of an image alike: it changes no probability.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_ridge = nn.Parameter(torch.tensor(math.log(_RIDGE)))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.shift = nn.Parameter(torch.tensor(0.0))

    def forward(self, support: Tensor) -> Tensor:
        """Features (E, N, K, D), E episodes of N classes with K images -> heads (E, N, D + 1)."""
        ways, shots = support.shape[1:3]
        x = with_one(support.flatten(1, 2))
        targets = torch.eye(ways, dtype=x.dtype, device=x.device).repeat_interleave(shots, 0).expand(len(x), -1, -1)
        ridge = self.log_ridge.exp() * torch.eye(ways * shots, dtype=x.dtype, device=x.device)
        weights = torch.linalg.solve(x @ x.mT + ridge, targets).mT @ x
        shift = torch.cat((x.new_zeros(x.shape[-1] - 1), self.shift[None].to(x.dtype)))
        return self.scale * weights + shift


HEADS: dict[str, type[nn.Module]] = {PROTONET: PrototypeHead, RIDGE: RidgeHead}


def with_one(features: Tensor) -> Tensor:
    """Features (…, D) -> (…, D + 1), the last column one."""
    return torch.cat((features, features.new_ones(*features.shape[:-1], 1)), -1)


def head_logits(heads: Tensor, features: Tensor) -> Tensor:
    """Heads (E, N, D + 1) and features (E, M, D) -> logits (E, M, N)."""
    return torch.baddbmm(heads[:, None, :, -1], features, heads[..., :-1].mT)
