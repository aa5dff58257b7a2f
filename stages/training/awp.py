"""Adversarial weight perturbation: the gradient is taken at weights that were moved to increase the loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightPerturbation:
    """Moves each weight tensor w along the gradient g of the objective by gamma * |w| * g / |g|, norms per tensor (Wu et al.,
    NeurIPS 2020).

    Published programs take one SGD step with a copy of the model at a proxy learning rate (0.01 in Li et al., CVPR 2024) and
    scale it to the length gamma * |w|: the rate cancels, so there is none here. g is the gradient of all terms of the
    objective. Vectors (biases, batch norm) are not moved, as published.

    One training step: gradient -> `perturb` -> gradient -> optimizer step -> `restore`.

    Args:
        model: its parameters that require gradients are moved.
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
            gradients: of each parameter that requires one, in their order, summed over all processes; a parameter whose
                gradient is None or zero is not moved. Not modified.
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
        """Undo the move, and keep every change since `perturb`: w + (weights now - perturbed weights).

        Without a change since, these are the old weights bit for bit; subtracting the move instead would leave the rounding
        error of w + move in every weight.
        """
        if self._moved:
            torch._foreach_sub_(self._moved, self._perturbed)
            torch._foreach_add_(self._moved, self._before)
        self._moved, self._before, self._perturbed = [], [], []


@contextmanager
def buffers_restored(model: nn.Module) -> Iterator[None]:
    """Within: forward passes in training mode update the running statistics of batch norm. Afterwards all buffers of `model`
    have their old values again."""
    buffers = list(model.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
