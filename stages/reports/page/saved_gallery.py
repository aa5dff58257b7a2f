"""Images of `laat attack` for the page: clean, attacked and their difference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stages.attacks.adversarial import KIND, AdversarialSet
from stages.attacks.quantize import quantize
from stages.files.artifacts import Artifact, read
from stages.reports.page.gallery import FALLS, MARGIN, STANDS, Gallery, Picture, chosen_ranks, margin_text, png_uri
from stages.reports.records import Report
from stages.reports.verify import rows_of_report
from stages.text import counted
from stages.threat import format_eps


def saved_gallery(path: Path, reports: Mapping[Path, Report], most: int) -> Gallery:
    """The images in a file of `laat attack`, at most `most`: the least and the most robust, and others drawn by seed.

    Images that are misclassified without an attack are left out. The others are ordered by whether they withstand the attack,
    and then by the margins in the rows of a report of the same model, attack and images, where there is one of all of them.

    Args:
        path: of the file.
        reports: by their paths; their rows are read where they fit.
        most: images, at least 1.

    Raises InputError for a damaged file, or rows that are not those of their report.
    """
    artifact, where = read(path, KIND), f"'{path}'"
    saved = AdversarialSet.from_artifact(artifact, where)
    labels, keys = saved.labels.numpy(), _keys(saved)
    right = np.flatnonzero(saved.clean_predictions.numpy() == labels)
    stands = saved.attacked_predictions.numpy() == labels
    known, source = _margins(saved, artifact, reports)
    if not all(keys[at] in known for at in right):  # a part of them has no place in an order
        known, source = {}, ""
    margins = np.array([known.get(key, (np.nan, np.nan))[int(one)] for key, one in zip(keys, stands, strict=True)])
    order = right[np.lexsort((margins[right], stands[right]))]
    shown = order[chosen_ranks(labels[order], most)]
    levels = quantize(saved.images[shown], saved.clean_images[shown], saved.threat).numpy()
    moved = levels.astype(np.int16) - saved.clean_images[shown].numpy()
    scale = max(1, 127 // max(1, int(np.abs(moved).max(initial=0))))
    differences = (128 + scale * moved).clip(0, 255).astype(np.uint8)
    pictures = tuple(
        Picture(
            key=keys[at],
            true_class=saved.classes[labels[at]],
            attacked_answer=saved.classes[int(saved.attacked_predictions[at])],
            outcome=STANDS if stands[at] else FALLS,
            margin=margin_text(margins[at], stands=bool(stands[at])),
            rank=rank,
            clean=png_uri(saved.clean_images[at].numpy()),
            attacked=png_uri(levels[rank]),
            difference=png_uri(differences[rank]),
        )
        for rank, at in enumerate(shown.tolist())
    )
    about = _about(saved, len(right), int(stands[right].sum()), len(shown), source)
    return Gallery(str(path), str(saved.attack.get("name", "attack")), about, scale, saved.images.shape[-1], pictures)


def _about(saved: AdversarialSet, right: int, stand: int, shown: int, source: str) -> tuple[str, ...]:
    count = len(saved.labels)
    which = f"{saved.attack.get('name', 'an attack')} in {saved.threat}, images of {saved.data.get('source', 'unknown data')}"
    order = "Order: images that the attack changes before those that withstand it"
    if source:
        order += (
            f", each by the margin in {source} ({MARGIN}): when clean of those that the attack changes, under attack of those "
            "that withstand it."
        )
    else:
        order += (
            ", each as in the file. Give a report of the same model, threat model and attack on all of these images, with its "
            "rows, to order by margin."
        )
    return (
        f"{which}: {right:,} of {count:,} are classified correctly when clean, and {stand:,} of these withstand the attack. "
        f"The {count - right:,} that are misclassified when clean are left out.",
        f"Shown: {counted(shown, 'image')}, {'the least and the most robust, and others' if source else 'of both kinds,'} "
        "drawn by seed, of every class while there is room.",
        order,
        "Attacked images are rounded to 8 bits within the threat model.",
    )


def _margins(
    saved: AdversarialSet, artifact: Artifact, reports: Mapping[Path, Report]
) -> tuple[dict[str, tuple[float, float]], str]:
    """Key of an image -> its margin when clean and under attack, and the report that they are from; ({}, '') without one."""
    made_on = saved.inputs.get("model", {}).get("sha256")
    on_these = {path for path, one in reports.items() if one.adversarial and one.adversarial.sha256 == artifact.sha256}
    for path, report in sorted(reports.items(), key=lambda item: item[0] not in on_these):
        names = [model.name for model in report.models if model.sha256 == made_on]
        attacks = {name for one in report.results for name in one.attacks} if path in on_these else _same_attacks(report, saved)
        if not names or not attacks or report.rows is None or not (path.parent / report.rows.file).is_file():
            continue
        candidates = [(saved.group, len(saved.classes), one) for one in names]
        alike = {one.key for one in report.results if (one.group, one.classes, one.model) in candidates and not one.episodes}
        for part in rows_of_report(report, path):
            found = [one.margin for name, one in part.rows.attacks.items() if name in attacks]
            if part.key in alike and found and part.images is not None:
                attacked = np.min(found, axis=0)
                keys = np.array(part.images.names(), object)[part.rows.image]
                pairs = zip(part.rows.clean.margin.tolist(), attacked.tolist(), strict=True)
                return dict(zip(keys.tolist(), pairs, strict=True)), str(path)
    return {}, ""


def _same_attacks(report: Report, saved: AdversarialSet) -> set[str]:
    """The attacks of a report that are the one of the file: on the same data, in the same threat model, with the same settings
    and seed."""
    threat, mine = report.threat, saved.threat
    if threat is None or report.adversarial is not None or report.data.source != saved.data.get("source"):
        return set()
    if (threat.norm, threat.eps, report.seed) != (mine.norm, format_eps(mine.eps, mine.norm), saved.attack.get("seed", 0)):
        return set()
    return {one.name for one in report.attacks if one.to_record().items() <= saved.attack.items()}


def _keys(saved: AdversarialSet) -> list[str]:
    return [str(at) for at in range(len(saved.labels))] if saved.source_rows is None else saved.source_rows.names()
