"""What is the same for every forward pass of an inner attack, computed once for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Foldable(nn.Module, ABC):
    """A module with constants that follow from its weights and serve any number of forward passes in eval mode."""

    @abstractmethod
    def fold(self, dtype: torch.dtype | None) -> None:
        """Compute the constants and keep them, in `dtype` (None: as the weights are); called without gradients."""

    @abstractmethod
    def unfold(self) -> None:
        """Forget them."""


@contextmanager
def folded(model: nn.Module, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Within: the eval mode of `model` uses constants computed once. The weights must not change, nor get gradients.

    Kernels keep the memory layout of the weights (channels last after `embedding.place`). Forward passes in training
    mode are not touched. After, an error included: all is as it was.

    Args:
        model: any module; its `Foldable` parts are folded.
        dtype: of the folded kernels: bfloat16 for passes under bfloat16 autocast, which else would cast them every time.
    """
    parts = [part for part in model.modules() if isinstance(part, Foldable)]
    try:
        with torch.no_grad():
            for part in parts:
                part.fold(dtype)
        yield
    finally:
        for part in parts:
            part.unfold()
