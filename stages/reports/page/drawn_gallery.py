"""Images of a report for the page: clean ones from its data, with what its rows say of them under attack. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.classes import fold
from stages.data.request import ImageRequest
from stages.data.subset import Subset, select_images
from stages.errors import InputError
from stages.reports.page.gallery import FALLS, MARGIN, STANDS, Gallery, Picture, chosen_ranks, margin_text, png_uri
from stages.reports.page.words import splits_of
from stages.reports.records import Report
from stages.reports.row_file import RowPart
from stages.reports.rows import WORST
from stages.reports.verify import rows_of_report
from stages.text import counted


def drawn_galleries(path: Path, report: Report, data: str, most: int) -> Iterator[Gallery]:
    """The images of each result under attack of a report, at most `most`: the least and the most robust, and others by seed.

    Images that are misclassified without an attack are left out. The attacked images are in no file, so they are not shown.

    Args:
        path: of the report, beside which its rows are.
        report: not of episodes, whose images have several candidates.
        data: the data that was evaluated.
        most: images, at least 1.

    Raises InputError for rows that are not those of the report, and data that lacks an image of them, or has it in another
    class; what reading the data raises.
    """
    subset = _subset(report, data)
    places = {key: at for at, key in enumerate(subset.source_rows.names())}
    for part in rows_of_report(report, path):
        if part.rows.attacks and not part.rows.episodes and part.images is not None:
            yield _gallery(path, part, subset, places, most)


def _subset(report: Report, data: str) -> Subset:
    """The images of the splits that were evaluated, none decoded."""
    found = report.data.to_record()
    resize, white = found.get("resize"), found.get("white")
    request = ImageRequest(
        data,
        "+".join(splits_of(report)) or None,
        resize=resize if isinstance(resize, int) else None,
        white=white if isinstance(white, float) else None,
    )
    return select_images(request, side="test", classes=None, classes_from="the data", divided=())


def _gallery(path: Path, part: RowPart, subset: Subset, places: dict[str, int], most: int) -> Gallery:
    rows, classes = part.rows, part.classes
    attacks = list(rows.attacks)
    margins = np.stack([one.margin for one in rows.attacks.values()])
    worst = margins.argmin(0)  # of each image, the attack that leaves the smallest margin
    predicted = np.stack([one.predicted for one in rows.attacks.values()])[worst, np.arange(len(rows))]
    right = np.flatnonzero(rows.clean.predicted == rows.label)
    stands = predicted == rows.label
    margin = np.where(stands, margins.min(0), rows.clean.margin)
    order = right[np.lexsort((margin[right], stands[right]))]
    shown = order[chosen_ranks(rows.label[order], most)]
    keys = np.array(part.source_rows().names(), object)[rows.image]
    pixels = _pixels([str(keys[at]) for at in shown], [classes[rows.label[at]] for at in shown], subset, places)
    pictures = tuple(
        Picture(
            key=str(keys[at]),
            true_class=classes[rows.label[at]],
            attacked_answer=classes[predicted[at]],
            outcome=STANDS if stands[at] else FALLS,
            margin=f"{margin_text(margin[at], stands=bool(stands[at]))}, {attacks[worst[at]]}",
            rank=rank,
            clean=png_uri(pixels[rank]),
            attacked="",
            difference="",
        )
        for rank, at in enumerate(shown.tolist())
    )
    stand = int(stands[right].sum())
    about = (
        f"{part.model}, {part.group} classes, {part.protocol}: {len(right):,} of {len(rows):,} images are classified correctly "
        f"when clean, and {stand:,} of these withstand {', '.join(attacks)}. The {len(rows) - len(right):,} that are "
        "misclassified when clean are left out.",
        f"Shown: {counted(len(shown), 'image')}, the least and the most robust, and others drawn by seed, of every class while "
        "there is room.",
        f"Order: images that an attack changes before those that withstand all, each by the margin ({MARGIN}): when clean of "
        "those that an attack changes, the smallest under attack of the others.",
        "Clean images alone, from the data by their names: the report has no attacked images; laat attack saves some.",
    )
    name = f"{path}, {part.model}, {part.group}, {part.protocol}"
    return Gallery(name, WORST if len(attacks) > 1 else attacks[0], about, 0, pixels.shape[-1], pictures)


def _pixels(keys: list[str], classes: list[str], subset: Subset, places: dict[str, int]) -> np.ndarray:
    """Images by their keys, (n, 3, H, W) uint8. Raises InputError for one that the data lacks or has in another class."""
    name, fix = subset.source.name, "give the data of the report"
    for key, known in zip(keys, classes, strict=True):
        if key not in places:
            raise InputError(f"'{name}' has no image '{key}', which is in the rows of the report", fix)
        found = subset.names[subset.labels[places[key]]]
        if fold(found) != fold(known):
            raise InputError(f"the image '{key}' of '{name}' is of class '{found}', in the report of '{known}'", fix)
    if not keys:
        return np.zeros((0, 3, 1, 1), np.uint8)
    at = np.array([places[key] for key in keys], np.int64)
    order = np.argsort(at)
    pixels = subset.decode(at[order]).pixels
    return pixels[np.argsort(order)]
