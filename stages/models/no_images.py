"""Forward passes without images: a process may have none of the last batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def features_of(net: nn.Module, x: Tensor, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """net(x), also for x (0, 3, H, W): then (0, features), whose backward pass gives all weights gradients of zero.

    `forward` is called instead of `net`, of which it is a part.
    """
    forward = forward or net
    # not len(x), which torch.export takes for a constant
    if x.shape[0] or any(isinstance(part, _BatchNorm) for part in net.modules()):
        return forward(x)
    # attention reshapes with -1, which is undefined without images: pass one and drop its features. With batch norm it would
    # count in the statistics, but such nets take empty batches
    return forward(at_least_one(x))[:0]


def at_least_one(x: Tensor) -> Tensor:
    """`x` (N, 3, H, W), or one black image for N = 0."""
    return x if x.shape[0] else torch.cat((x, x.new_zeros(1, *x.shape[1:])))
