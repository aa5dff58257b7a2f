"""Figures of the cosines between anchors, as `laat anchors` and `laat expand` measure and show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from laatcli.console import Column, Console
from stages.cosines import CosineFigures, cosine_figures

if TYPE_CHECKING:
    import numpy as np


def measure_cosines(console: Console, anchors: np.ndarray) -> CosineFigures:
    """The figures of anchors (C, D), with progress: they take C² products."""
    with console.progress("cosines") as bar:
        return cosine_figures(anchors, bar.update)


def show_cosines(console: Console, rows: Sequence[tuple[str, CosineFigures]]) -> None:
    """A table with a row for each name and its figures."""
    columns = ("mean", "min", "max", "smallest angle")
    console.table(
        [Column("cosine of pairs"), *(Column(name, True) for name in columns)],
        [
            [name, *(f"{value:.3f}" for value in (one.mean, one.low, one.high)), f"{one.smallest_angle_degrees:.1f}°"]
            for name, one in rows
        ],
    )


def near_duplicates(classes: Sequence[str], figures: CosineFigures) -> dict[str, Any]:
    """What --json says of anchors that are nearly the same."""
    pairs = [{"classes": [classes[one], classes[two]], "cosine": cosine} for one, two, cosine in figures.near_duplicates]
    return {"near_duplicate_count": figures.near_duplicate_count, "near_duplicates": pairs}


def warn_near_duplicates(console: Console, classes: Sequence[str], figures: CosineFigures) -> None:
    """A warning for each pair of anchors that are nearly the same."""
    console.warn_each(
        [
            f"'{classes[one]}' and '{classes[two]}' are nearly the same anchor (cosine {cosine:.3f})"
            for one, two, cosine in figures.near_duplicates
        ],
        figures.near_duplicate_count,
    )
