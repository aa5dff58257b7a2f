"""The optimizer of the settings, and its state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from stages.training.settings import TrainSettings

# what each keeps of a parameter: torch's key -> the name in a training-state artifact
_KEPT: dict[type[Optimizer], dict[str, str]] = {
    SGD: {"momentum_buffer": "momentum"},
    AdamW: {"step": "adam_step", "exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"},
}


def build_optimizer(parameters: list[nn.Parameter], settings: TrainSettings) -> Optimizer:
    """SGD with momentum, or AdamW (Loshchilov & Hutter, ICLR 2019), over `parameters`.

    Without `decay_norms`, parameters of fewer than two dimensions have no weight decay: the scales and shifts of norms,
    biases, and single vectors such as the class token of a transformer.
    """
    groups = [{"params": parameters, "weight_decay": settings.weight_decay}]
    if not settings.decay_norms:
        groups = [
            {"params": [one for one in parameters if one.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [one for one in parameters if one.ndim < 2], "weight_decay": 0.0},
        ]
    if settings.optimizer == "adamw":
        return AdamW(groups, lr=settings.lr, betas=(settings.adam_beta1, settings.adam_beta2), eps=settings.adam_eps)
    return SGD(groups, lr=settings.lr, momentum=settings.momentum)


def optimizer_state(optimizer: Optimizer, named: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """What `optimizer` keeps of each parameter, by kind and name: `momentum.projection.weight`; of one that had no gradient
    yet, nothing."""
    found = {}
    for key, kind in _KEPT[type(optimizer)].items():
        for name, parameter in named.items():
            value = optimizer.state[parameter].get(key) if parameter in optimizer.state else None
            if value is not None:
                found[f"{kind}.{name}"] = value
    return found


def load_optimizer_state(optimizer: Optimizer, named: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_state`; entries of `state` of other kinds are not looked at.

    Raises ValueError for an entry of another shape or type than its parameter, of an unknown parameter, or an incomplete one.
    """
    kept = _KEPT[type(optimizer)]
    for entry, value in state.items():
        kind, _, name = entry.partition(".")
        if kind not in kept.values():
            continue
        like = None if name not in named else torch.zeros(()) if kind == "adam_step" else named[name]
        if like is None or (value.shape, value.dtype) != (like.shape, like.dtype):
            raise ValueError(f"'{entry}' is {value.dtype} {tuple(value.shape)}")
    for name, parameter in named.items():
        found = {key: state[f"{kind}.{name}"] for key, kind in kept.items() if f"{kind}.{name}" in state}
        if found and len(found) < len(kept):
            raise ValueError(f"the optimizer's state of '{name}' is incomplete")
        if found:
            optimizer.state[parameter] = {
                # torch counts the steps of AdamW on the CPU
                key: value.clone() if key == "step" else torch.empty_like(parameter, requires_grad=False).copy_(value)
                for key, value in found.items()
            }
