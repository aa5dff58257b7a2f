"""Score saved adversarial images of this classifier or another one (transfer)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stages.attacks.adversarial import AdversarialSet
from stages.classes import match_classes
from stages.conditions import NOT_RESIZED, knowledge_of
from stages.data.image_hashes import image_hashes
from stages.errors import ComputeError, InputError
from stages.evaluation.clean_passes import needless_draws, require_same_passes
from stages.evaluation.evaluate import Evaluation
from stages.evaluation.groups import ClassChoice, leak_notes
from stages.evaluation.models import model_entry
from stages.evaluation.points import all_way_points
from stages.evaluation.progress import within
from stages.evaluation.protocol import Protocol
from stages.evaluation.score import make_rows, record
from stages.evaluation.task import (
    anchors_digest,
    attacked_digest,
    conditions_of,
    eot_note,
    how_attacked,
    own_code,
    report_versions,
)
from stages.identity import CODE
from stages.models.classifier import Classifier, Progress, decide
from stages.models.embedding import place
from stages.models.frozen import inference
from stages.models.image_size import require_size
from stages.models.require import require_anchored
from stages.models.wrapped import mean_of_draws, resize_of
from stages.pixels import to_pixels
from stages.reports.notes import merged_notes
from stages.reports.report import make_report
from stages.reports.results import GroupResult, Row, summarise_rows
from stages.reports.rows import Judgement

_UNCHANGED = "give the unchanged artifact of the attack"


def evaluate_saved(
    classifiers: Mapping[str, Classifier],
    saved: AdversarialSet,
    lineage: Mapping[str, Any],
    *,
    where: str,
    lineages: Mapping[str, Mapping[str, Any]] | None = None,
    knowledge: str | None = None,
    eot: int = 1,
    seed: int = 0,
    batch_size: int = 256,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Evaluation:
    """Score saved adversarial images all-way over the saved classes.

    Args:
        classifiers: name in the report -> classifier.
        saved: see `AdversarialSet`.
        lineage: of their file.
        where: name of the file in errors.
        lineages: name -> lineage of the checkpoint and its anchors; None for checkpoints with their own anchors.
        knowledge: what the user says of the attacker, see `knowledge_of`; None derives it from the lineages.
        eot, seed: random draws that randomised models are averaged over, and their seed.
        batch_size, progress: see `score.evaluate`.
        device: torch device.

    Raises UsageError for a randomised model without `eot`, and as `knowledge_of`; InputError for images of one class, classes
    unknown to a classifier, another image size than it was trained at, or images outside their threat model.
    """
    if len(saved.classes) < 2:
        raise InputError(f"{where} has images of one class: every decision is right", "attack images of at least 2 classes")
    choice, rows = ClassChoice(saved.group, saved.classes), []
    lineages = lineages or {name: {"model": {"sha256": one.origin.sha256}} for name, one in classifiers.items()}
    known = knowledge_of(knowledge, {name: _made_on(one, lineages[name], saved) for name, one in classifiers.items()}, where)
    notes: dict[str, list[str]] = {}
    about = [eot_note(eot, attacked_here=False)] if eot > 1 else []
    hashes = image_hashes(saved.clean_images.numpy())
    height, width = saved.images.shape[2:]
    for at, (name, one) in enumerate(classifiers.items()):
        require_anchored(one, name)
        match_classes(saved.classes, one.known.classes, wanted_from=where, available_from=f"the model {name}")
        fix = "attack images of that size with `laat attack --resize {}`"
        require_size(one, (height, width), f"for {name}, the images in {where}", fix)
        place(one, device)
        require_same_passes({name: one}, saved.clean_images, eot)
        about += needless_draws(name, one, saved.clean_images, eot)
        shown = within(progress, at, len(classifiers), name)
        judge = mean_of_draws(one.over(list(saved.classes)), eot, seed)
        result = score_saved(judge, saved, where=where, batch_size=batch_size, progress=shown)
        rows.append(Row(name, saved.group, result, saved.classes, images=saved.source_rows))
        notes[name] = leak_notes(one, choice, hashes, saved.labels.numpy())
    report = make_report(
        identity=saved_identity(classifiers, lineage, knowledge=knowledge, eot=eot, seed=seed, batch_size=batch_size),
        models=[model_entry(name, one) for name, one in classifiers.items()],
        data=saved.data,
        protocol=Protocol().to_record(),
        attacks=(),
        threat=saved.threat,
        conditions=conditions_of(classifiers, (height, width), saved.data, known),
        seed=saved.attack.get("seed", 0),
        rows=rows,
        adversarial={**lineage, "attack": saved.attack},
        notes=[*merged_notes(notes), *about],
    )
    return Evaluation(report, rows)


def _made_on(one: Classifier, lineage: Mapping[str, Any], saved: AdversarialSet) -> bool | None:
    """Whether images were made on this classifier, see `attacked_digest`; None if unknown.

    Older files lack the digest: then it is the files of the model and of its anchors, own code and resizing inside.
    """
    if saved.attacked is not None and (digest := attacked_digest(one.over(list(saved.classes)))) is not None:
        return digest == saved.attacked
    made_on, now = ({name: part["sha256"] for name, part in found.items()} for found in (saved.inputs, lineage))
    if not made_on.get("model"):
        return None
    height, width = saved.images.shape[2:]
    inside, code = resize_of(one), own_code([one])
    resized = NOT_RESIZED if inside is None else inside.does((height, width))
    before = NOT_RESIZED if saved.conditions is None else saved.conditions.inside
    same_code = code.get(CODE) == (code if saved.identity is None else saved.identity).get(CODE)
    return made_on == now and resized == before and same_code


def saved_identity(
    classifiers: Mapping[str, Classifier],
    lineage: Mapping[str, Any],
    *,
    knowledge: str | None = None,
    eot: int = 1,
    seed: int = 0,
    batch_size: int = 256,
) -> dict[str, dict[str, Any]]:
    """Everything that determines the report on saved images, see `stages.identity`; arguments as for `evaluate_saved`."""
    said = {**({"knowledge": knowledge} if knowledge else {}), **({"seed": seed} if eot > 1 else {})}
    return {
        "settings": {**said, **how_attacked(next(iter(classifiers.values())), eot, batch_size)},
        "models": {name: one.origin.digest for name, one in classifiers.items()},
        "inputs": {"adversarial images": lineage["sha256"], "anchors": anchors_digest(classifiers)},
        "versions": report_versions(),
        **own_code(classifiers.values()),
    }


def saved_name(saved: AdversarialSet) -> str:
    """How reports call the attack that made the images."""
    return f"saved {saved.attack.get('name', 'images')}"


def score_saved(
    classifier: Classifier,
    saved: AdversarialSet,
    *,
    where: str = "the saved set",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> GroupResult:
    """Score saved images all-way; an image that is misclassified when clean counts as wrong.

    Args:
        classifier: over the saved classes.
        saved: see `AdversarialSet`.
        where: name of the set in errors.
        batch_size, progress: see `score.evaluate`.

    Raises:
        InputError: no image, an image outside the threat model, or anchors of another width than the embeddings.
        ComputeError: non-finite outputs.
    """
    if not len(saved.images):
        raise InputError(f"{where} has no images", "choose other classes or another data set")
    ways, count, device = len(saved.classes), len(saved.images), classifier.device
    points = all_way_points(saved.labels, ways)
    clean, attacked = Judgement.empty(count), Judgement.empty(count)
    name = saved_name(saved)

    def judge(found: Judgement, x: Tensor, rows: Tensor) -> None:
        logits = classifier.scores(x)
        record(found, points, rows, decide(logits), logits / classifier.logit_scale)

    with inference(classifier):
        for rows in torch.arange(count).split(batch_size):
            x, x_adv = (to_pixels(images, rows, device) for images in (saved.clean_images, saved.images))
            try:
                saved.threat.check(x_adv, x)
            except ComputeError as error:
                raise InputError(f"in {where}, {error.what}", _UNCHANGED) from None
            judge(clean, x, rows)
            judge(attacked, x_adv, rows)
            attacked.norm[rows.numpy()] = saved.threat.distance(x_adv, x).cpu().numpy()
            if progress is not None:
                progress(int(rows[-1]) + 1, count, name)
    return summarise_rows(make_rows(points, clean, {name: attacked}, None), classes=ways, ways=ways)
