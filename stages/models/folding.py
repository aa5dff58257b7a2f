"""Constants of an eval-mode model, computed once for all forward passes of an inner attack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Foldable(nn.Module, ABC):
    """A module with constants that are computed from its weights and used by forward passes in eval mode."""

    @abstractmethod
    def fold(self, dtype: torch.dtype | None) -> None:
        """Compute the constants in `dtype` (None: that of the weights); called without gradients."""

    @abstractmethod
    def unfold(self) -> None:
        """Delete them."""


@contextmanager
def folded(model: nn.Module, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Within: `model` in eval mode uses constants computed once. The weights must not change, and get no gradients.

    Kernels have the memory layout of the weights (channels last after `embedding.place`). Forward passes in training mode are
    the same as ever. Afterwards, also after an error, the constants are deleted.

    Args:
        model: any module; its `Foldable` modules are folded.
        dtype: of the folded kernels; bfloat16 under bfloat16 autocast, which otherwise casts them in every pass.
    """
    try:
        fold(model, dtype)
        yield
    finally:
        for part in _foldable(model):
            part.unfold()


@torch.no_grad()
def fold(model: nn.Module, dtype: torch.dtype | None = None) -> None:
    """As `folded`, for good: for a model whose weights never change."""
    for part in _foldable(model):
        part.fold(dtype)


def _foldable(model: nn.Module) -> list[Foldable]:
    return [part for part in model.modules() if isinstance(part, Foldable)]
