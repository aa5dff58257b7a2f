"""Gradient checkpointing: the activations inside a block are recomputed in the backward pass instead of being stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run_block(block: Callable[[Tensor], Tensor], x: Tensor, *, recompute: bool) -> Tensor:
    """block(x); with `recompute` only `x` is stored for the backward pass. The block must not use random numbers."""
    if not recompute or not torch.is_grad_enabled():
        return block(x)
    return checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)


def can_recompute(model: nn.Module) -> bool:
    """Whether a module of `model` has the flag `grad_checkpointing`, as our backbones and most of timm and open_clip."""
    try:
        for module in model.modules():
            if callable(switch := getattr(module, "set_grad_checkpointing", None)):
                switch(True)
                switch(False)
    except AssertionError:  # of a timm model that has the flag without using it
        return False
    return bool(_flagged(model))


@contextmanager
def recomputed(model: nn.Module) -> Iterator[None]:
    """Within: the flag `grad_checkpointing` is set wherever `model` has it. Afterwards every flag is as it was."""
    before = [(module, module.grad_checkpointing) for module in _flagged(model)]
    try:
        for module, _ in before:
            module.grad_checkpointing = True  # type: ignore[assignment]
        yield
    finally:
        for module, flag in before:
            module.grad_checkpointing = flag


def _flagged(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if hasattr(module, "grad_checkpointing")]
