"""Scoring saved adversarial images, made against this model or another one (transfer)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from stages.attacks.gradient import frozen
from stages.attacks.run import Progress, checked_width, decide, full_precision, to_pixels
from stages.attacks.threat import ThreatModel
from stages.errors import ComputeError, InputError
from stages.evaluate.points import Group
from stages.evaluate.results import GroupResult, summarise


def evaluate_saved(
    model: nn.Module,
    group: Group,
    adversarial: Tensor,
    threat: ThreatModel,
    *,
    name: str,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> GroupResult:
    """Score saved images all-way; an image that is wrong when clean counts as wrong.

    Args:
        model, batch_size, device, progress: as in `evaluate`.
        group: classes, anchors, labels, and the clean images.
        adversarial: (N, 3, H, W) float32 in [0, 1], one for each image of the group.
        threat: what they were made under; checked.
        name: what the result calls them, for example 'saved pgd-20'.

    Raises:
        InputError: another number or size of images than the group's, an image outside `threat`, or anchors of another
            width than the embeddings.
        ComputeError: non-finite outputs.
    """
    if adversarial.shape != group.images.shape:
        raise InputError(
            f"the adversarial images have shape {tuple(adversarial.shape)}, the clean ones {tuple(group.images.shape)}",
            "give the data that the attack was run on",
        )
    count = len(group.images)
    anchors = group.anchors.to(device, torch.float32)
    labels = group.labels.cpu()
    clean, attacked = np.empty(count, dtype=np.bool_), np.empty(count, dtype=np.bool_)

    def right(x: Tensor, part: Tensor) -> np.ndarray:
        logits = checked_width(model(x), anchors) @ anchors.T
        return (decide(logits).cpu() == labels[part]).numpy()

    with frozen(model), full_precision(), torch.no_grad():
        for part in torch.arange(count).split(batch_size):
            x = to_pixels(group.images, part, device)
            x_adv = adversarial[part].to(device, torch.float32, memory_format=torch.channels_last)
            try:
                threat.check(x_adv, x)
            except ComputeError as error:
                raise InputError(error.what, "give the data that the attack was run on, and its artifact unchanged") from None
            clean[part] = right(x, part)
            attacked[part] = right(x_adv, part) & clean[part]
            if progress is not None:
                progress(int(part[-1]) + 1, count, name)
    ways = len(group.classes)
    return summarise({"clean": clean, name: attacked}, classes=ways, ways=ways, images=count)
