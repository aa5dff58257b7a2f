"""Batch norm synchronized over the processes that train together."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from stages.errors import UsageError

Group = dist.ProcessGroup | None


def synchronise_norms(model: nn.Module, group: Group = None) -> None:
    """Replace every batch norm of `model`, in place, by one whose training statistics are those of the global batch.

    Parameters, buffers and their names stay the same objects, so an existing optimizer stays valid; eval mode does not change.
    A process may have any number of images, also none, but all must run the same forward and backward passes. Gradients of
    weight and bias are those of this process's images: sum them over the processes like all others.

    Args:
        model: on its device; on a GPU torch.nn.SyncBatchNorm is used.
        group: the processes; None for all. With a single one nothing changes.

    Raises UsageError for an unknown kind of batch norm.
    """
    if dist.get_world_size(group) == 1:
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, nn.SyncBatchNorm | _SharedNorm):
                setattr(parent, name, _synchronised(child, group))


def _synchronised(norm: _BatchNorm, group: Group) -> nn.Module:
    # timm's norm is followed by an activation in the same module
    with_activation = type(norm).__name__ == "BatchNormAct2d" and hasattr(norm, "drop") and hasattr(norm, "act")
    if not with_activation and type(norm) not in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        raise UsageError(
            f"the batch norm '{type(norm).__name__}' of this model cannot be synchronized", "train it with one process"
        )
    on_gpu = any(value.is_cuda for value in norm.state_dict().values())
    kind = _SharedNormOnGpu if on_gpu else _SharedNorm
    new = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    new.process_group = group
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(new, name, parameter)
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(new, name, buffer)
    for name, child in norm.named_children():
        setattr(new, name, child)
    return new.train(norm.training)


def _activated(norm: nn.Module, y: Tensor) -> Tensor:
    """What follows the norm in the same module: timm's drop and activation."""
    for child in norm.children():
        y = child(y)
    return y


class _SharedNormOnGpu(nn.SyncBatchNorm):
    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> the same shape."""
        return _activated(self, super().forward(x))


class _SharedNorm(_BatchNorm):
    """On the CPU, which torch.nn.SyncBatchNorm does not support."""

    process_group: Group = None

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> the same shape; N may be 0."""
        if not self.training:
            return _activated(self, super().forward(x))
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps, self.process_group)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
            self.running_var.lerp_(variance.to(self.running_var.dtype), share)
        return _activated(self, y)


class _Normalise(torch.autograd.Function):
    """(x, weight, bias) -> y, and the global mean and unbiased variance (C,), without gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, group: Group
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        count, mean, squares = _global_moments(wide, group)
        if count < 2:
            raise ValueError(f"batch norm needs more than 1 value per channel in training, got input of shape {tuple(x.shape)}")
        mean, variance = mean.to(wide.dtype), (squares / count).to(wide.dtype)
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps))
        ctx.count, ctx.eps, ctx.group = count, eps, group
        y = F.batch_norm(wide, mean, variance, weight, bias, training=False, eps=eps).to(x.dtype)
        unbiased = squares / (count - 1)
        ctx.mark_non_differentiable(mean, unbiased)
        return y, mean, unbiased

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        dy, wide = grads[0].to(mean.dtype), x.to(mean.dtype)
        if len(x):
            scale = torch.ones_like(mean) if weight is None else weight
            _, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
                dy, wide, scale, None, None, mean, inverse, True, ctx.eps, [False, True, True]
            )
        else:
            d_weight, d_bias = torch.zeros_like(mean), torch.zeros_like(mean)
        # d_bias = sum dy, d_weight = sum dy * (x - mean) * inverse, over this process's images; dx needs them over all
        sums = torch.stack((d_bias, d_weight))
        dist.all_reduce(sums, group=ctx.group)
        along_dy = inverse if weight is None else weight * inverse
        along_x = -along_dy * inverse * sums[1] / ctx.count
        constant = -along_dy * sums[0] / ctx.count - along_x * mean
        shape = (1, -1, *(1,) * (x.ndim - 2))
        dx = torch.addcmul(constant.view(shape), dy, along_dy.view(shape)).addcmul_(wide, along_x.view(shape))
        return dx.to(x.dtype), d_weight if weight is not None else None, d_bias if weight is not None else None, None, None


def _global_moments(x: Tensor, group: Group) -> tuple[int, Tensor, Tensor]:
    """Values per channel, their mean and the sum of their squared distances from it, (C,) float64, over all processes.

    Combined as in Chan, Golub & LeVeque, 1979, in the order of the ranks, so that all processes get the same bits.
    """
    count = x.numel() // max(x.shape[1], 1)
    own = torch.zeros(2 * x.shape[1] + 1, dtype=torch.float64, device=x.device)
    if count:
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
        own[:-1] = torch.cat((mean, variance * count))
        own[-1] = count
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, own, group=group)
    table = torch.stack(parts)
    counts, (means, squares) = table[:, -1:], table[:, :-1].chunk(2, dim=1)
    total = counts.sum().clamp(min=1)
    mean = (counts * means).sum(0) / total
    return int(total), mean, (squares + counts * (means - mean).square()).sum(0)
