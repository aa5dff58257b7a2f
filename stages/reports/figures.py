"""What all plots share: colours, a figure without a display, and the PNG file."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from stages.artifacts import write_file

_DPI = 150
# colour-blind safe (Okabe & Ito)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")


def new_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """A matplotlib figure of `size` inches and its axes, bound to no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def save_figure(figure: Any, path: Path) -> None:
    """Write the figure as a PNG, atomically; the same figure gives the same bytes. Raises MissingError."""
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a name in a script without a font shows as boxes
        figure.savefig(data, format="png", dpi=_DPI, metadata={"Software": None})
    write_file(path, data.getvalue())
