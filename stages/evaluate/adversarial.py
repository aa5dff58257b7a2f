"""The eval stage on saved adversarial images: checkpoints and images in, a report out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from stages.attacks.adversarial import AdversarialSet
from stages.attacks.target import Progress
from stages.classes import match_classes
from stages.errors import InputError
from stages.evaluate.evaluation import Evaluation, model_entry, within
from stages.evaluate.groups import ClassChoice, leak_notes
from stages.evaluate.points import Group
from stages.evaluate.saved import evaluate_saved
from stages.models.checkpoint import Checkpoint
from stages.models.embedding import place
from stages.reports.report import Row, make_report
from stages.reports.results import Protocol


def evaluate_adversarial(
    checkpoints: Mapping[str, Checkpoint],
    saved: AdversarialSet,
    lineage: Mapping[str, Any],
    *,
    where: str,
    batch_size: int = 256,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Evaluation:
    """Score saved adversarial images on checkpoints, the attacked one or others (transfer), all-way over the saved classes.

    Args:
        checkpoints: name in the report -> checkpoint.
        saved: see `AdversarialSet`.
        lineage: of the file they came from.
        where: how errors call that file.
        batch_size, device, progress: see `score.evaluate`.

    Raises InputError for classes that a checkpoint does not know, images of another size than it was trained at, or outside
    their threat model.
    """
    rows = []
    notes: dict[str, None] = {}
    height, width = saved.images.shape[2:]
    for at, (name, checkpoint) in enumerate(checkpoints.items()):
        place(checkpoint.model, device)
        known = checkpoint.anchors
        members = match_classes(saved.classes, known.classes, wanted_from=where, available_from=f"the checkpoint {name}")
        wanted = checkpoint.model.image_size
        if (height, width) != (wanted, wanted):
            raise InputError(
                f"the images in {where} are {width}x{height} and the checkpoint {name} was trained at {wanted}x{wanted}",
                f"attack images of that size: `laat attack --resize {wanted}` with a checkpoint trained at it",
            )
        group = Group(saved.classes, torch.from_numpy(known.vectors[members]), saved.clean_images, saved.labels)
        result = evaluate_saved(
            checkpoint.model,
            group,
            saved.images,
            saved.threat,
            name=f"saved {saved.attack.get('name', 'images')}",
            batch_size=batch_size,
            device=device,
            progress=within(progress, at, len(checkpoints), name),
        )
        rows.append(Row(name, saved.group, result, saved.classes))
        choice = ClassChoice(saved.group, tuple(members))
        told = leak_notes(known, [choice], checkpoint.training, saved.data, trained=checkpoint.trained)
        notes |= dict.fromkeys(told)
    report = make_report(
        models=[model_entry(name, checkpoint) for name, checkpoint in checkpoints.items()],
        data=saved.data,
        protocol=Protocol(),
        attacks=(),
        threat=saved.threat,
        seed=int(saved.attack.get("seed", 0)),
        rows=rows,
        adversarial={**lineage, "attack": saved.attack},
        notes=list(notes),
    )
    return Evaluation(report, rows)
