"""Scoring saved adversarial images, made against this model or another one (transfer)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.attacks.target import Progress, checked_width, decide, full_precision, to_pixels
from stages.errors import ComputeError, InputError
from stages.evaluate.points import Group, all_way_points
from stages.evaluate.score import make_rows, note
from stages.evaluate.work import filled
from stages.models.classifier import frozen, unit
from stages.reports.results import GroupResult, summarise_rows
from stages.reports.rows import Judgement
from stages.threat import ThreatModel


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
    points = all_way_points(group.labels, group.anchors.to(device, torch.float32))
    count = len(points)
    clean, attacked = Judgement.empty(count), Judgement.empty(count)

    def judge(found: Judgement, x: Tensor, part: Tensor) -> None:
        embeddings = checked_width(unit(model(filled(x))), points.heads)
        cosines = points.logits(embeddings, filled(points.head[part]))[: len(x)]
        note(found, points, part, decide(cosines), cosines)

    with frozen(model), full_precision(), torch.no_grad():
        for part in torch.arange(count).split(batch_size):
            x = to_pixels(group.images, part, device)
            x_adv = adversarial[part].to(device, torch.float32, memory_format=torch.channels_last)
            try:
                threat.check(x_adv, x)
            except ComputeError as error:
                raise InputError(error.what, "give the data that the attack was run on, and its artifact unchanged") from None
            judge(clean, x, part)
            judge(attacked, x_adv, part)
            attacked.norm[part.numpy()] = threat.distance(x_adv, x).cpu().numpy()
            if progress is not None:
                progress(int(part[-1]) + 1, count, name)
    ways = len(group.classes)
    return summarise_rows(make_rows(points, clean, {name: attacked}, None), classes=ways, ways=ways)
