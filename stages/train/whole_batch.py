"""Batch norm over a whole batch that goes through the model in pieces.

A piece's own statistics would make the step another one. Here every norm gets the statistics of the whole batch, and the
gradient takes the way through them too, so that the step is that of the whole batch, in the memory of a piece:

1. Norm by norm, in the order in which they run, the pieces go as far as that norm and leave their moments there.
2. Forward and backward with all statistics given: gradients of the weights, and of each statistic.
3. Norm by norm, backwards: the gradient of its statistics is pulled through the pieces that made them.

The price is time: about as many part-way passes as there are norms, forward (1) and forward and backward (3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.devices import widest_float
from stages.world import World

Embed = Callable[[Tensor], Tensor]
P = TypeVar("P")


@dataclass
class _Statistics:
    """Of one norm in one pass over the whole batch: mean and (biased) variance (C,), leaves of the graph, and how many values
    per channel they are over."""

    mean: Tensor
    variance: Tensor
    count: int


class _Reached(Exception):  # noqa: N818  # no error: it ends a pass that went far enough
    """A pass has come to the norm that was asked for, with this input."""

    def __init__(self, norm: _BatchNorm, x: Tensor) -> None:
        self.norm, self.x = norm, x
        self.moments = torch.empty(0)


class WholeBatch:
    """Runs an outer step over the pieces of a batch with the batch norm of the whole.

    Args:
        model: in training mode while this is used.
        embed: the model's forward pass.
        world: the processes that share the batch; its norms may be synchronised or not, these statistics are over all.
        total: images of the whole batch.
        masks: what the model itself draws from (DropBlock): every pass of a piece meets the same draws.
    """

    def __init__(self, model: nn.Module, embed: Embed, world: World, total: int, masks: torch.Generator) -> None:
        self._model, self._embed, self._world, self._total, self._masks = model, embed, world, total, masks
        self._known: list[list[_Statistics]] = []
        self._starts = [masks.get_state()]
        self._target: tuple[int, int] | None = None
        self._call = self._norm = 0
        self._like = torch.empty(0, 0)  # of what `embed` returns

    def run(self, pieces: Sequence[P], outer: Callable[[P, Embed], Tensor]) -> None:
        """Leave the gradient of the sum of `outer` over all pieces in the parameters.

        Args:
            pieces: what `outer` takes, one at a time; every process has as many.
            outer: (piece, embed) -> its loss, a scalar; calls `embed` the same number of times for every piece.
        """
        with self._given_statistics():
            self._collect(pieces, outer)
            for piece in pieces:
                self._pass(piece, outer).backward()
            self._pull(pieces, outer)

    def _collect(self, pieces: Sequence[P], outer: Callable[[P, Embed], Tensor]) -> None:
        calls = 1  # of embed; the first whole pass tells how many there are
        while len(self._known) < calls:
            self._known.append([])
            while reached := self._reached(pieces, outer, (len(self._known) - 1, len(self._known[-1]))):
                self._known[-1].append(self._statistics(reached))
                _move_running(reached[0].norm, self._known[-1][-1])
            calls = self._call

    def _reached(self, pieces: Sequence[P], outer: Callable[[P, Embed], Tensor], target: tuple[int, int]) -> list[_Reached]:
        """What each piece brings to the norm `target` (call of embed, norm in it); empty when there is no such norm."""
        found = []
        self._target = target
        for piece in pieces:
            try:
                with torch.no_grad():
                    self._pass(piece, outer)
            except _Reached as at:
                at.moments = _moments(at.x)
                at.x = at.x[:0]  # shape and type are still looked at; the values were large
                found.append(at)
        self._target = None
        return found

    def _statistics(self, reached: Sequence[_Reached]) -> _Statistics:
        moments = torch.stack([at.moments for at in reached]).sum(0)
        self._world.sum([moments])
        x = reached[0].x
        count = self._total * math.prod(x.shape[2:])
        mean, square = (moments / count).chunk(2)
        variance = (square - mean.square()).clamp_(min=0)
        kind = _wide(x)
        return _Statistics(mean.to(kind).requires_grad_(), variance.to(kind).requires_grad_(), count)

    def _pull(self, pieces: Sequence[P], outer: Callable[[P, Embed], Tensor]) -> None:
        for call, norms in enumerate(self._known):
            for number, known in reversed(list(enumerate(norms))):
                slopes = [torch.zeros_like(v) if v.grad is None else v.grad for v in (known.mean, known.variance)]
                self._world.sum(slopes)
                self._target = (call, number)
                for piece in pieces:
                    try:
                        self._pass(piece, outer)
                    except _Reached as at:
                        _through(at.x, known, *slopes).backward()
        self._target = None

    def _pass(self, piece: P, outer: Callable[[P, Embed], Tensor]) -> Tensor:
        self._call = 0
        return outer(piece, self._embedded)

    def _embedded(self, x: Tensor) -> Tensor:
        call, self._call, self._norm = self._call, self._call + 1, 0
        if self._target is not None and call != self._target[0]:
            return self._like.new_zeros(len(x), self._like.shape[1])  # nobody looks at this pass's loss
        self._masks.set_state(self._starts[call])
        out = self._embed(x)
        if len(self._starts) == call + 1:
            self._starts.append(self._masks.get_state())
        self._like = out.detach()[:0]
        return out

    @contextmanager
    def _given_statistics(self) -> Iterator[None]:
        norms = norms_in_training(self._model)
        for norm in norms:
            norm.forward = partial(self._normalise, norm)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for norm in norms:
                del norm.forward

    def _normalise(self, norm: _BatchNorm, x: Tensor) -> Tensor:
        number, self._norm = self._norm, self._norm + 1
        if self._target == (self._call - 1, number):
            raise _Reached(norm, x)
        known = self._known[self._call - 1][number]
        scale = torch.rsqrt(known.variance + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight
        shift = -known.mean * scale
        if norm.bias is not None:
            shift = shift + norm.bias
        shape = (1, -1, *(1,) * (x.ndim - 2))
        y = torch.addcmul(shift.view(shape), x.to(scale.dtype), scale.view(shape)).to(x.dtype)
        for child in norm.children():  # timm's norm has drop and activation behind it, in the same module
            y = child(y)
        return y


def norms_in_training(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms of `model` that look at the batch now."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]


def _moments(x: Tensor) -> Tensor:
    """The sum and the sum of squares of each channel, (2 C,) in the widest type there is: they add up over pieces."""
    exact = widest_float(x.device.type)
    count = x.numel() // x.shape[1]
    if not count:
        return torch.zeros(2 * x.shape[1], dtype=exact, device=x.device)
    variance, mean = torch.var_mean(x.to(_wide(x)), [0, *range(2, x.ndim)], correction=0)
    mean, variance = mean.to(exact), variance.to(exact)
    return count * torch.cat([mean, variance + mean.square()])


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _move_running(norm: _BatchNorm, known: _Statistics) -> None:
    """What a training pass over the whole batch does to the running statistics."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(known.mean.to(norm.running_mean.dtype), share)
        unbiased = known.variance * (known.count / max(known.count - 1, 1))
        norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), share)


def _through(x: Tensor, known: _Statistics, mean_slope: Tensor, variance_slope: Tensor) -> Tensor:
    """A scalar whose gradient is what reaches the input `x` of a norm through the statistics it has a part in."""
    axes = [0, *range(2, x.ndim)]
    wide = x.to(mean_slope.dtype)
    away = wide - known.mean.detach().view(1, -1, *(1,) * (x.ndim - 2))
    return ((mean_slope * wide.sum(axes)).sum() + (variance_slope * away.square().sum(axes)).sum()) / known.count
