"""A figure of a named size: its fonts, its markers, its legends and its file. Needs no display."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.errors import UsageError
from stages.files.writing import write_file
from stages.reports.figure_text import families_of, wrapped

PICTURES = ("png", "svg", "pdf")
_DPI = 200
# colour-blind safe (Okabe & Ito); markers tell lines apart without colour, and their number shares no factor with the colours'
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777")
MARKERS = ("s", "^", "D", "v", "P", "X", "*", "<")
SERIES = len(COLOURS) * len(MARKERS)
CLEAN_LINE, ROBUST_LINE = (0, (4, 1.5)), "-"
BAND: dict[str, Any] = {"alpha": 0.2, "linewidth": 0, "zorder": 1.5}  # below its line
RING: dict[str, Any] = {"marker": "o", "markerfacecolor": "white"}
# at most this share of a figure of fixed height goes to legends below it, else their text gets smaller
_LEGEND_SHARE = 0.4
# the text of a figure of fixed height, from large to small
_FONTS = (1.0, 0.85, 0.7, 0.6, 0.5)
_PAD = 0.06


@dataclass(frozen=True)
class FigureSize:
    """Inches and points of a figure.

    Attributes:
        width: of the figure.
        height: of the figure, more if its legends and rows need it; 0 makes it as high as they are.
        panel: least height of one row of panels.
        font: of the text.
    """

    width: float
    height: float
    panel: float
    font: float

    @property
    def narrow(self) -> bool:
        """Whether panels stand below each other, not side by side."""
        return self.width < 5

    def smaller(self) -> Iterator[FigureSize]:
        """This size, then the same with smaller text and marks: for more rows than a figure of fixed height has room for."""
        yield from (replace(self, font=share * self.font) for share in _FONTS)


SIZES = {
    "column": FigureSize(3.3, 0, 1.7, 7),
    "page": FigureSize(7.0, 0, 2.3, 8),
    "slide": FigureSize(40 / 3, 7.5, 3.0, 14),
}
DEFAULT_SIZE = "page"


@dataclass(frozen=True)
class Legend:
    """Handles with their texts."""

    handles: Sequence[Any]
    texts: Sequence[str]
    title: str = ""


def find_size(name: str) -> FigureSize:
    """The size of that name. Raises UsageError."""
    if name not in SIZES:
        raise UsageError(f"unknown plot size '{name}'", f"choose one of {', '.join(SIZES)}")
    return SIZES[name]


def check_picture(path: Path) -> str:
    """The format that a file name asks for. Raises UsageError for another than png, svg and pdf."""
    form = path.suffix.lower().removeprefix(".")
    if form not in PICTURES:
        raise UsageError(f"'{path}' is not the name of a picture", "end the name with .png, .svg or .pdf")
    return form


@contextmanager
def style(size: FigureSize, texts: Sequence[str] = ()) -> Iterator[None]:
    """A context in which figures are drawn: fonts that have the characters of `texts`, and no formulas between dollar signs."""
    import matplotlib as mpl

    scale = size.font / 8
    small = 0.9 * size.font
    settings: dict[str, Any] = {
        **{"font.family": families_of(texts), "font.size": size.font, "text.parse_math": False},
        **{"axes.titlesize": size.font, "axes.labelsize": size.font, "figure.titlesize": size.font},
        **{"xtick.labelsize": small, "ytick.labelsize": small, "legend.fontsize": small, "legend.title_fontsize": small},
        **{"lines.linewidth": scale, "lines.markersize": 3.5 * scale, "lines.markeredgewidth": 0.7 * scale},
        **{"axes.linewidth": 0.6 * scale, "grid.linewidth": 0.4 * scale, "grid.alpha": 0.35},
        **{"xtick.major.width": 0.6 * scale, "ytick.major.width": 0.6 * scale},
        # text that stays text, and the same file again
        **{"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "laat"},
    }
    with mpl.rc_context(settings):
        yield


def new_figure(size: FigureSize, rows: int, columns: int) -> tuple[Any, Any]:
    """A figure bound to no display, and its axes (rows, columns); `lay_out` gives it its height."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size.width, max(size.height, rows * size.panel)), layout="constrained", dpi=_DPI)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def look(at: int) -> dict[str, Any]:
    """Colour and marker of series `at`. Raises UsageError where there are no more that can be told apart."""
    if at >= SERIES:
        raise UsageError(f"more than {SERIES} lines in one plot cannot be told apart", f"name at most {SERIES}")
    return {"color": COLOURS[at % len(COLOURS)], "marker": MARKERS[at % len(MARKERS)]}


def marked(points: int, at: int) -> tuple[int, int]:
    """Which of the points of curve `at` have a marker: about ten, elsewhere than on the curves beside it."""
    step = max(1, points // 10)
    return (at * max(1, step // 3)) % step, step


def band(axis: Any, places: Any, low: Any, high: Any, colour: Any) -> None:
    """The region between two curves (N,); at a single place a bar, since a region without width cannot be seen."""
    if len(places) > 1:
        axis.fill_between(places, low, high, color=colour, **BAND)
    else:
        axis.errorbar(places, (low + high) / 2, yerr=(high - low) / 2, fmt="none", ecolor=colour, capsize=3)


def style_axis(axis: Any) -> None:
    """A light grid behind the data, and no frame above and to the right."""
    axis.grid()
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def percent_axis(axis: Any, which: str, label: str) -> None:
    """The x or y axis as accuracies in percent, 0 and 100 a little inside."""
    axis.set(**{f"{which}lim": (-2.5, 102.5), f"{which}ticks": range(0, 101, 20), f"{which}label": label})


def lay_out(figure: Any, size: FigureSize, panels: float, legends: Sequence[Legend], *, beside: bool = False) -> None:
    """Give the figure its height and place its legends, one above the other, below the panels or to their right.

    Args:
        figure: with its panels drawn.
        size: of the figure.
        panels: the least height of all panels together, inches; beside legends, the side of the square that they fill.
        legends: the first is the topmost.
        beside: to the right of the panels.
    """
    room = size.width - (max(size.height, panels) if beside else 0)
    for share in _FONTS:
        drawn = [_draw_legend(figure, size, legend, share, room - 2 * _PAD) for legend in legends]
        boxes = [legend.get_window_extent() for legend in drawn]
        below = sum(box.height / figure.dpi + _PAD for box in boxes)
        if not size.height or below <= (size.height if beside else _LEGEND_SHARE * size.height):
            break
        if share != _FONTS[-1]:
            for legend in drawn:
                legend.remove()
    height = max(size.height, panels, below + _PAD) if beside else max(size.height, panels + below)
    figure.set_size_inches(size.width, height)
    top = (height + below) / 2 if beside else below
    for legend, box in zip(drawn, boxes, strict=True):
        left = (size.width - room + _PAD) if beside else (size.width - box.width / figure.dpi) / 2
        legend.set_bbox_to_anchor((left / size.width, top / height), figure.transFigure)
        top -= box.height / figure.dpi + _PAD
    rect = (0, 0, 1 - room / size.width, 1) if beside else (0, below / height, 1, 1 - below / height)
    figure.get_layout_engine().set(rect=rect, w_pad=0.04, h_pad=0.04)
    for _ in range(3):  # the layout of square panels settles step by step
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _draw_legend(figure: Any, size: FigureSize, legend: Legend, share: float, room: float) -> Any:
    """The legend in as many columns as fit into `room` inches."""
    font = 0.9 * share * size.font
    handle = 4.4 * font / 72  # a sample of the line and the gaps around it
    texts = [wrapped(figure, text, room - handle, font) for text in legend.texts]
    for columns in range(min(len(texts), 8), 0, -1):
        drawn = figure.legend(
            legend.handles,
            ["."] * len(texts),  # a text with a leading underscore would be left out
            loc="upper left",
            bbox_to_anchor=(0, 1),
            borderaxespad=0,
            borderpad=0.1,
            handlelength=2.6,
            handletextpad=0.6,
            labelspacing=0.35,
            columnspacing=1.4,
            ncols=columns,
            frameon=False,
            fontsize=font,
            title=wrapped(figure, legend.title, room, font) if legend.title else None,
            title_fontsize=font,
            alignment="left",
        )
        drawn.set_in_layout(False)
        for entry, text in zip(drawn.get_texts(), texts, strict=True):
            entry.set_text(text)
        if columns == 1 or drawn.get_window_extent().width <= room * figure.dpi:
            return drawn
        drawn.remove()
    return None


def save_figure(figure: Any, size: FigureSize, path: Path) -> None:
    """Write the figure as its suffix says, atomically; the same figure gives the same bytes.

    Raises UsageError for another suffix than .png, .svg and .pdf, MissingError when `path` cannot be written.
    """
    form = check_picture(path)
    data = io.BytesIO()
    undated = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}
    with style(size):
        small = {"pil_kwargs": {"optimize": True}} if form == "png" else {}
        figure.savefig(data, format=form, dpi=_DPI, metadata=undated[form], **small)
    write_file(path, data.getvalue())
