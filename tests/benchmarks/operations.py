"""How many floating-point operations a training step must do, counted from what PyTorch runs.

Convolutions and matrix products only, two operations a multiply-add; normalisation, activations, pooling and the optimizer are
left out, as is usual. With F the forward pass of one image:

    inner attack, each step:  F + gradient to the input          = 2 F
    outer step, two images:   2 (F + gradient to the input + gradient to the weights) = 6 F, less the first layer's input
                              gradient, which nobody needs
    step of a batch of B with PGD-K:  B (2 K + 6) F, nearly
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from stages.models.classifier import frozen
from tests.benchmarks.task import Task

_COUNTED = 2  # images; batch norm in training mode wants more than one value a channel


def forward_operations(task: Task) -> float:
    """Of one image, forward only."""
    model, x = task.model().eval(), torch.rand(_COUNTED, 3, task.size, task.size)
    with torch.no_grad():
        return _counted(lambda: model(x))


def attack_operations(task: Task) -> float:
    """Of one image in one step of the inner attack."""
    model, x = task.model(), torch.rand(_COUNTED, 3, task.size, task.size, requires_grad=True)
    with frozen(model):  # the counter does not follow a leaf
        return _counted(lambda: torch.autograd.grad(model(x.clone()).sum(), x))


def outer_operations(task: Task) -> float:
    """Of one image through the model and back to the weights, once (the outer step does it clean and attacked)."""
    model, x = task.model().train(), torch.rand(_COUNTED, 3, task.size, task.size)
    return _counted(lambda: model(x).sum().backward())


def step_operations(task: Task) -> float:
    """Of a whole training step on a batch."""
    return task.batch * (task.steps * attack_operations(task) + 2 * outer_operations(task))


def _counted(run: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / _COUNTED
