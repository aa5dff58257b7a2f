"""Images of `laat attack` for the page: clean, attacked and their difference, from the least to the most robust."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.attacks.adversarial import KIND, AdversarialSet
from stages.attacks.quantize import quantize
from stages.files.artifacts import Artifact, read
from stages.randomness import numpy_generator
from stages.reports.records import Report
from stages.reports.verify import rows_of_report
from stages.text import counted

STANDS, FALLS = "withstands the attack", "misclassified by the attack"
_PURPOSE = "page/images"


@dataclass(frozen=True)
class Picture:
    """One image.

    Attributes:
        key: its name in the data.
        true_class, attacked_answer: names of classes; the answer on the clean image is the true class.
        outcome: `STANDS` or `FALLS`.
        margin: that orders the images of an outcome, in words; '' if unknown.
        rank: 0 for the least robust.
        clean, attacked, difference: PNG as data URI.
    """

    key: str
    true_class: str
    attacked_answer: str
    outcome: str
    margin: str
    rank: int
    clean: str
    attacked: str
    difference: str

    @property
    def stands(self) -> bool:
        """Whether the attack fails on it."""
        return self.outcome == STANDS


@dataclass(frozen=True)
class Gallery:
    """The images of one file.

    Attributes:
        name: of the file.
        attack: name of the attack.
        about: what a reader must know, a sentence each.
        scale: the difference is shown this many times as large, around grey.
        pixels: width of an image.
        pictures: from the least to the most robust.
    """

    name: str
    attack: str
    about: tuple[str, ...]
    scale: int
    pixels: int
    pictures: tuple[Picture, ...]

    @property
    def classes(self) -> list[str]:
        """The classes of the images that are shown."""
        return sorted({one.true_class for one in self.pictures})


def read_gallery(path: Path, reports: Mapping[Path, Report], most: int) -> Gallery:
    """The images in a file of `laat attack`, at most `most`: the least and the most robust, and others drawn by seed.

    Images that are misclassified without an attack are left out. The others are ordered by whether they withstand the attack,
    and then by the margins in the rows of a report of the same model and images, where there is one.

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
    margins = np.array([known.get(key, (np.nan, np.nan))[int(one)] for key, one in zip(keys, stands, strict=True)])
    order = right[np.lexsort((margins[right], stands[right]))]  # unknown margins last
    shown = order[_chosen(labels[order], most)]
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
            margin=_margin_text(margins[at], stands=bool(stands[at])),
            rank=rank,
            clean=_png(saved.clean_images[at].numpy()),
            attacked=_png(levels[rank]),
            difference=_png(differences[rank]),
        )
        for rank, at in enumerate(shown.tolist())
    )
    about = _about(saved, len(right), int(stands[right].sum()), len(shown), source)
    return Gallery(str(path), str(saved.attack.get("name", "attack")), about, scale, saved.images.shape[-1], pictures)


def _margin_text(margin: float, *, stands: bool) -> str:
    return "" if np.isnan(margin) else f"{margin:+.3f} {'under attack' if stands else 'when clean'}"


def _about(saved: AdversarialSet, right: int, stand: int, shown: int, source: str) -> tuple[str, ...]:
    count = len(saved.labels)
    which = f"{saved.attack.get('name', 'an attack')} in {saved.threat}, images of {saved.data.get('source', 'unknown data')}"
    order = "Order: images that the attack changes before those that withstand it"
    if source:
        order += (
            f", each by the margin in {source} (cosine of the correct class minus the largest other): when clean of those that "
            "the attack changes, under attack of those that withstand it."
        )
    else:
        order += ". Give a report of the same model and images, with its rows, to order each of the two by margin."
    return (
        f"{which}: {right:,} of {count:,} are classified correctly when clean, and {stand:,} of these withstand the attack. "
        f"The {count - right:,} that are misclassified when clean are left out.",
        f"Shown: {counted(shown, 'image')}, the least and the most robust, and others drawn by seed, of every class while "
        "there is room.",
        order,
        "Attacked images are rounded to 8 bits within the threat model.",
    )


def _chosen(labels: np.ndarray, most: int) -> np.ndarray:
    """Positions in the order from least to most robust, ascending: both ends, one of each class, and others by seed."""
    count = len(labels)
    if count <= most:
        return np.arange(count)
    ends = max(1, most // 3)
    drawn = numpy_generator(0, _PURPOSE).permutation(count)
    firsts = drawn[np.sort(np.unique(labels[drawn], return_index=True)[1])]
    wanted = [*range(ends), *range(count - ends, count), *firsts.tolist(), *drawn.tolist()]
    return np.sort(np.array(list(dict.fromkeys(wanted))[:most]))


def _margins(
    saved: AdversarialSet, artifact: Artifact, reports: Mapping[Path, Report]
) -> tuple[dict[str, tuple[float, float]], str]:
    """Key of an image -> its margin when clean and under attack, and the report that they are from; ({}, '') without one."""
    made_on = saved.inputs.get("model", {}).get("sha256")
    on_these = {path for path, one in reports.items() if one.adversarial and one.adversarial.sha256 == artifact.sha256}
    for path, report in sorted(reports.items(), key=lambda item: item[0] not in on_these):
        names = [model.name for model in report.models if model.sha256 == made_on]
        same = path in on_these or (report.adversarial is None and report.data.source == saved.data.get("source"))
        if not names or not same or report.rows is None or not (path.parent / report.rows.file).is_file():
            continue
        candidates = [(saved.group, len(saved.classes), one) for one in names]
        alike = {one.key for one in report.results if (one.group, one.classes, one.model) in candidates and not one.episodes}
        for part in rows_of_report(report, path):
            if part.key in alike and part.rows.attacks and part.images is not None:
                attacked = np.min([one.margin for one in part.rows.attacks.values()], axis=0)
                keys = np.array(part.images.names(), object)[part.rows.image]
                pairs = zip(part.rows.clean.margin.tolist(), attacked.tolist(), strict=True)
                return dict(zip(keys.tolist(), pairs, strict=True)), str(path)
    return {}, ""


def _keys(saved: AdversarialSet) -> list[str]:
    return [str(at) for at in range(len(saved.labels))] if saved.source_rows is None else saved.source_rows.names()


def _png(image: np.ndarray) -> str:
    """A (3, H, W) uint8 image as data URI."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(data, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
