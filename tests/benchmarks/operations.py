"""Floating-point operations of a training step, counted from the operations that PyTorch runs.

Convolutions and matrix products only, two operations per multiply-add; normalisation, activations, pooling and the optimizer
are not counted, as is usual. With F the forward pass of one image:

    inner attack, each step:  F + gradient to the input          = 2 F
    outer step, two images:   2 (F + gradient to the input + gradient to the weights) = 6 F, minus the unused input gradient
                              of the first layer
    step of a batch of B with PGD-K:  about B (2 K + 6) F
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from stages.models.frozen import frozen
from tests.benchmarks.task import Task

_COUNTED = 2  # images; batch norm in training mode needs more than one value per channel


def forward_operations(task: Task) -> float:
    """Operations of one image, forward only."""
    model, x = task.model().eval(), torch.rand(_COUNTED, 3, task.size, task.size)
    with torch.no_grad():
        return _counted(lambda: model(x))


def attack_operations(task: Task) -> float:
    """Operations of one image in one attack step."""
    model, x = task.model(), torch.rand(_COUNTED, 3, task.size, task.size, requires_grad=True)
    with frozen(model):  # the counter ignores leaf tensors
        return _counted(lambda: torch.autograd.grad(model(x.clone()).sum(), x))


def outer_operations(task: Task) -> float:
    """Operations of one forward and backward pass to the weights; the outer step runs two, clean and attacked."""
    model, x = task.model().train(), torch.rand(_COUNTED, 3, task.size, task.size)
    return _counted(lambda: model(x).sum().backward())


def step_operations(task: Task) -> float:
    """Operations of a training step on a batch."""
    return task.batch * (task.steps * attack_operations(task) + 2 * outer_operations(task))


def _counted(run: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / _COUNTED
