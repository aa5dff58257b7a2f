"""Accuracy of a device: its embeddings and gradients in training compared with the CPU in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from stages.models.classifier import unit
from stages.models.folding import folded
from stages.models.frozen import frozen
from stages.training.embed import Embed
from stages.training.loop import Trainer
from tests.benchmarks.task import Task

_IMAGES = 16
# ||found - exact|| / ||exact||, untrained networks. The limit on gradients is wider: rounding can change which of four
# values max pooling selects, and then a pixel's gradient jumps.
ALLOWED = {
    "float32": {"embeddings": 3e-3, "input gradient": 5e-2, "weight gradient": 5e-2},
    "bf16": {"embeddings": 3e-2, "input gradient": 0.4, "weight gradient": 0.4},
}


def disagreement(task: Task, device: str) -> dict[str, float]:
    """Relative errors against the same weights on the CPU in float64: of embeddings and input gradients (eval mode, as in the
    inner attack) and of weight gradients (training mode). NaN is larger than every limit."""
    trainer = Trainer(task.model(), task.anchors(), task.image_set(), task.settings(), device)
    images = task.image_set()
    x, labels = images.images[:_IMAGES].float() / 255, images.labels[:_IMAGES]
    exact, anchors = task.model().double(), task.anchors().double()
    with frozen(exact):
        expected = _attacked(lambda x: unit(exact(x)), x.double(), labels, anchors)
    model = trainer.model
    here = x.to(device).contiguous(memory_format=torch.channels_last)
    half = task.precision == "bf16"
    embed = Embed(model, half=half)
    with frozen(model), folded(model, torch.bfloat16 if half else None):
        found = _attacked(embed, here, labels.to(device), anchors.float().to(device))
    weights = [_weight_gradients(exact, lambda x: unit(exact(x)), x.double(), labels, anchors)]
    weights.append(_weight_gradients(model, embed, here, labels.to(device), anchors.float().to(device)))
    trainer.close()
    pairs = zip(("embeddings", "input gradient", "weight gradient"), (*found, weights[1]), (*expected, weights[0]), strict=True)
    return {part: _far(one, other) for part, one, other in pairs}


def _attacked(embed: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    variable = x.clone().requires_grad_(True)
    embeddings = embed(variable)
    (grad,) = torch.autograd.grad(cross_entropy(embeddings @ anchors.T, labels, reduction="sum"), variable)
    return embeddings.detach(), grad


def _weight_gradients(
    model: torch.nn.Module, embed: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, anchors: Tensor
) -> Tensor:
    model.train().zero_grad()
    cross_entropy(embed(x) @ anchors.T, labels).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def _far(found: Tensor, exact: Tensor) -> float:
    return float((found.cpu().double() - exact).norm() / exact.norm())
