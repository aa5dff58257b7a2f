"""Max pooling over 2x2 squares, on a CPU without the position of each maximum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

_CHUNK = 2**21  # bytes of the maps that are worked on at a time, so that what lies between stays in the cache
_SMALL = 8  # sides up to this are as fast with PyTorch's own


def max_pool(x: Tensor) -> Tensor:
    """`max_pool2d(x, 2)`, (N, C, H, W) -> (N, C, H // 2, W // 2), faster on CPUs where a gradient is wanted. For finite values
    the results and gradients have the same bits, but for the sign of zeros and differences that underflow in bfloat16.

    PyTorch's CPU kernel keeps a 64-bit position of each maximum and writes the gradients one by one. A conv4-64 step with the
    attack in bfloat16 is 6 % faster without, one in float32 2 % (tests/benchmarks/LOG.md). PyTorch's own is what torch.compile,
    torch.export, torch.jit, torch.func and forward-mode differentiation see.
    """
    height, width = x.shape[2:]
    wanted = x.device.type == "cpu" and x.requires_grad and torch.is_grad_enabled() and not _transformed()
    if wanted and min(height, width) > _SMALL and not (height % 2 or width % 2):
        pooled: Tensor = MaxPool.apply(x)
        return pooled
    return F.max_pool2d(x, 2)


def _transformed() -> bool:
    """Whether the call is recorded or differentiated by what cannot see into an autograd function."""
    recorded = torch.compiler.is_compiling() or torch._C._is_tracing()
    return recorded or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


class MaxPool(torch.autograd.Function):
    """Max pooling over 2x2 squares of maps with even sides, in any precision; the result is channels last.

    First the larger of two neighbours in a row, then that of two rows. The signs of both differences say where the maximum was;
    of equal values it is the first one, row by row, as in PyTorch.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H / 2, W / 2)."""
        maps = x.permute(0, 2, 3, 1).contiguous()
        count, height, width, channels = maps.shape
        ctx.chunk = max(1, _CHUNK // max(1, maps[:1].nbytes))
        pooled = torch.empty(
            (count, channels, height // 2, width // 2), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
        )
        largest = pooled.permute(0, 2, 3, 1)
        between_rows, between_columns = torch.empty_like(largest), maps.new_empty(count, height, width // 2, channels)
        for first in range(0, count, ctx.chunk):
            rows = slice(first, first + ctx.chunk)
            left, right = maps[rows, :, 0::2], maps[rows, :, 1::2]
            larger = torch.maximum(left, right)
            upper, lower = larger[:, 0::2], larger[:, 1::2]
            torch.sub(right, left, out=between_columns[rows])
            torch.sub(lower, upper, out=between_rows[rows])
            torch.maximum(upper, lower, out=largest[rows])
        ctx.save_for_backward(between_rows, between_columns)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """(N, C, H / 2, W / 2) -> (N, C, H, W)."""
        between_rows, between_columns = ctx.saved_tensors
        grad = grad.permute(0, 2, 3, 1)
        if torch.is_grad_enabled() or torch._C._functorch.is_legacy_batchedtensor(grad):  # to be differentiated again, or many
            return _spread(_spread(grad, between_rows, 1), between_columns, 2).permute(0, 3, 1, 2)
        count, height, half, channels = between_columns.shape
        found = between_columns.new_empty(count, height, 2 * half, channels)
        part = between_columns.new_empty(min(ctx.chunk, count), height, half, channels)
        for first in range(0, count, ctx.chunk):
            rows = slice(first, first + ctx.chunk)
            given, maps = grad[rows], found[rows]
            larger = part[: len(given)]
            _share(given, between_rows[rows], larger[:, 0::2], larger[:, 1::2])
            _share(larger, between_columns[rows], maps[:, :, 0::2], maps[:, :, 1::2])
        return found.permute(0, 3, 1, 2)


def _spread(grad: Tensor, difference: Tensor, dim: int) -> Tensor:
    """As `_share`, differentiable and twice as long in `dim`: the first and the second in turns."""
    second = torch.ops.aten.threshold_backward(grad, difference, 0)
    shape = [*difference.shape[:dim], 2 * difference.shape[dim], *difference.shape[dim + 1 :]]
    return torch.stack((grad - second, second), dim + 1).reshape(shape)


def _share(grad: Tensor, difference: Tensor, first: Tensor, second: Tensor) -> None:
    """Write `grad` to `second` where the difference is above zero, else to `first`, and zeros to the other."""
    # many times as fast as torch.where, which has no vector code
    torch.ops.aten.threshold_backward.grad_input(grad, difference, 0, grad_input=second)
    torch.sub(grad, second, out=first)
