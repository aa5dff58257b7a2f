"""Adversarial weight perturbation: the gradient is taken where the weights are worst, not where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightPerturbation:
    """Moves each weight tensor w along the gradient g of the objective by gamma * |w| * g / |g|, norms per tensor (Wu et al.,
    NeurIPS 2020).

    Published programs find the direction with one SGD step of a copy of the model, at a proxy learning rate (0.01 in that of
    Li et al., CVPR 2024). The step is then brought to the length gamma * |w|, so that rate cancels and there is none here. g
    is of the whole objective, every term of it. Vectors (biases, batch norm) stay where they are, as published.

    One step of training: gradient of the objective -> `perturb` -> gradient again -> optimiser -> `restore`.

    Args:
        model: its parameters that want gradients are moved.
        gamma: length of the move relative to the weight's norm; 0 moves nothing.
    """

    def __init__(self, model: nn.Module, gamma: float) -> None:
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._gamma = gamma
        self._moved: list[Tensor] = []
        self._before: list[Tensor] = []
        self._perturbed: list[Tensor] = []

    @torch.no_grad()
    def perturb(self, gradients: Sequence[Tensor | None]) -> None:
        """Move the weights.

        Args:
            gradients: of each parameter of the model that wants one, in their order, summed over all processes; None or zeros
                leave a parameter where it is. Only read here.
        """
        assert not self._moved, "restore() comes first"
        if not self._gamma:
            return
        pairs = zip(self._parameters, gradients, strict=True)
        wanted = [(parameter, grad) for parameter, grad in pairs if grad is not None and parameter.ndim > 1]
        if not wanted:
            return
        self._moved, ascent = [parameter for parameter, _ in wanted], [grad for _, grad in wanted]
        sizes = torch.stack(torch._foreach_norm(self._moved))
        lengths = torch.stack(torch._foreach_norm(ascent))
        # a zero gradient has no direction
        scales = self._gamma * sizes / torch.where(lengths > 0, lengths, torch.inf)
        self._before = [parameter.clone() for parameter in self._moved]
        torch._foreach_add_(self._moved, torch._foreach_mul(ascent, list(scales.unbind())))
        self._perturbed = [parameter.clone() for parameter in self._moved]

    @torch.no_grad()
    def restore(self) -> None:
        """Take the move back: w + (what was done to the weights since `perturb`).

        Bit for bit the old weights where nothing was done since. After an optimiser step it is that step, rounded once more,
        from the old weights; taking the move off the new weights would leave the rounding of w + move behind in every weight.
        """
        if self._moved:
            torch._foreach_sub_(self._moved, self._perturbed)
            torch._foreach_add_(self._moved, self._before)
        self._moved, self._before, self._perturbed = [], [], []


@contextmanager
def running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Within: passes in training mode move the batch norms' running statistics. After: all buffers are as they were."""
    buffers = list(model.buffers())
    kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)
