"""A model in eval mode without gradients for its parameters, and reproducible predictions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from stages.devices import keep_freed_memory


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Set `model` to eval mode and its parameters to requires_grad=False; restore every flag afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Freeze `model`, disable gradients, and run CUDA convolutions in float32, not TF32, for reproducible predictions.

    On the CPU the process keeps the memory of freed tensors, see `keep_freed_memory`.
    """
    keep_freed_memory(str(device_of(model, torch.device("cpu"))))
    cudnn = torch.backends.cudnn
    exact = cudnn.flags(enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False)
    with frozen(model), exact, torch.no_grad():
        yield


def device_of(embedding: nn.Module, default: torch.device) -> torch.device:
    """The device of a module's first parameter or buffer, `default` for one without any."""
    return next((tensor.device for tensor in (*embedding.parameters(), *embedding.buffers())), default)
