"""Figures of the cosines between anchors, as `laat anchors` and `laat expand` measure and show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
