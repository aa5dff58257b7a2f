"""Plots as PNG files, without a display: cosine matrices, accuracies with their intervals, seen-unseen curves."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.artifacts import write_file
from stages.cosines import pooled_cosines
from stages.errors import InputError, UsageError

if TYPE_CHECKING:
    from stages.anchors.anchor_set import AnchorSet
    from stages.reports.records import Report, Result

_DPI = 150
_MATRIX_ROWS = 1000  # of a cosine matrix; a figure has fewer pixels
# colour-blind safe (Okabe & Ito)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
CLEAN_LINE, ROBUST_LINE = "--", "-"
RING: dict[str, Any] = {"marker": "o", "markersize": 6, "markerfacecolor": "white", "markeredgewidth": 1.4}


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


def require_colours(count: int, what: str) -> None:
    """Raise UsageError unless there are as many colours that can be told apart."""
    if count > len(COLOURS):
        raise UsageError(f"{count} {what} in one figure cannot be told apart", f"name at most {len(COLOURS)}")


def plain_label(text: str) -> str:
    """A name as matplotlib text: no formula between dollar signs."""
    return text.replace("$", r"\$")


def style_axis(axis: Any) -> None:
    """A light grid, and no frame above and to the right."""
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def plot_cosines(before: AnchorSet, after: AnchorSet, path: Path) -> None:
    """Draw the (C, C) cosine matrices of raw and expanded anchors side by side on one colour scale.

    Raises MissingError when `path` cannot be written.
    """
    figure, axes = new_figure(1, 2, (10, 4.6))
    image = None
    source = str(before.origin.get("source", "raw"))
    titles = (f"{source} anchors", f"{source} anchors, expanded")
    for axis, anchors, title in zip(axes, (before, after), titles, strict=True):
        cosines, mean = pooled_cosines(anchors.vectors, _MATRIX_ROWS)
        edges = (-0.5, len(anchors.classes) - 0.5)
        image = axis.imshow(cosines, vmin=-1, vmax=1, cmap="RdBu_r", extent=(*edges, *edges[::-1]))
        axis.set_title(f"{title}: " + (f"mean cosine {mean:.3f}" if len(anchors.classes) > 1 else "one class"))
        axis.set_xlabel("class")
        _name_classes(axis, anchors)
    figure.colorbar(image, ax=axes, label="cosine", fraction=0.025)
    save_figure(figure, path)


def _name_classes(axis: Any, anchors: AnchorSet) -> None:
    """Names where there is room, else numbers; a line after the seen classes if they come first."""
    count = len(anchors.classes)
    if count <= 24:
        axis.set_xticks(range(count), anchors.classes, rotation=90, fontsize=6)
        axis.set_yticks(range(count), anchors.classes, fontsize=6)
    border = len(anchors.groups.seen)
    if border < count and anchors.groups.seen == tuple(range(border)):
        for draw in (axis.axhline, axis.axvline):
            draw(border - 0.5, color="black", linewidth=0.6)


def plot_results(report: Report, path: Path) -> None:
    """Draw the accuracies of a report as bars with 95 % intervals, one panel per group; the dashed line is chance.

    Raises MissingError when `path` cannot be written.
    """
    groups = list(dict.fromkeys(entry.group for entry in report.results))
    figure, axes = new_figure(1, len(groups), (1.5 + 4.2 * len(groups), 3.8))
    for axis, group in zip(np.atleast_1d(axes), groups, strict=True):
        entries = [entry for entry in report.results if entry.group == group]
        _bars(axis, entries)
        axis.axhline(100 * entries[0].chance, color="black", linestyle="--", linewidth=0.8)
        axis.set_title(f"{group} classes ({entries[0].ways}-way, chance {100 * entries[0].chance:.1f} %)", fontsize=10)
        axis.set_ylim(0, 100)
    first = np.atleast_1d(axes)[0]
    first.set_ylabel("accuracy %")
    handles, labels = first.get_legend_handles_labels()
    under = f"attacks in {report.threat.norm} {report.threat.eps}" if report.threat else None
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, title=under)
    save_figure(figure, path)


def _bars(axis: Any, entries: Sequence[Result]) -> None:
    measures = entries[0].shares()
    width = 0.8 / len(measures)
    for at, measure in enumerate(measures):
        values = [entry.shares()[measure] for entry in entries]
        middle = np.array([value.accuracy for value in values])
        reach = np.abs(np.array([[value.low, value.high] for value in values]).T - middle)
        axis.bar(
            np.arange(len(entries)) + (at - (len(measures) - 1) / 2) * width,
            100 * middle,
            width,
            yerr=100 * reach,
            capsize=2,
            label=measure,
            color=COLOURS[at % len(COLOURS)],
            error_kw={"linewidth": 0.8},
        )
    several = len({entry.protocol for entry in entries}) > 1
    names = [f"{entry.model}\n{entry.protocol}" if several else entry.model for entry in entries]
    axis.set_xticks(range(len(entries)), names, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def plot_seen_unseen(report: Report, path: Path) -> None:
    """Draw S over U for each model of a report made with the protocol 'gzsl'.

    Clean is dashed, the worst case over the attacks solid; a ring marks bias 0, at which the attacks were run.

    Raises:
        InputError: a report of another protocol.
        UsageError: more models than colours that can be told apart.
        MissingError: `path` cannot be written.
    """
    entries = [(entry.model, entry.gzsl) for entry in report.results if entry.gzsl]
    if not entries:
        raise InputError("the report has no seen-unseen curve", "make it with `laat eval --protocol gzsl`")
    require_colours(len(entries), "models")
    figure, axis = new_figure(1, 1, (5.6, 5.0 + 0.22 * len(entries)))
    ring = {**RING, "linestyle": "", "clip_on": False}
    for (model, found), colour in zip(entries, COLOURS, strict=False):
        lines = {"clean": (found.clean, CLEAN_LINE), **({"worst": (found.worst, ROBUST_LINE)} if found.attacks else {})}
        for measure, (shares, style) in lines.items():
            curve = found.curves[measure]
            axis.plot(100 * np.array(curve.novel), 100 * np.array(curve.seen), color=colour, linestyle=style, linewidth=1.4)
            axis.plot(100 * shares.U.accuracy, 100 * shares.S.accuracy, color=colour, **ring)
        areas = " / ".join(f"{100 * shares.ausuc.area:.1f}" for shares, _ in lines.values())
        what = "clean / robust" if len(lines) > 1 else "clean"
        axis.plot([], [], color=colour, label=f" {plain_label(model)}: area {what} {areas} %")
    axis.plot([], [], color="0.3", linestyle=CLEAN_LINE, label="clean")
    if report.threat and any(found.attacks for _, found in entries):
        name = f"worst case, {report.threat.norm} {report.threat.eps} (upper bound off the ring)"
        axis.plot([], [], color="0.3", linestyle=ROBUST_LINE, label=name)
    axis.plot([], [], color="0.3", label="bias 0", **ring)
    axis.set_xlabel("U: accuracy on novel classes, per-class mean (%)")
    axis.set_ylabel("S: accuracy on seen classes, per-class mean (%)")
    # the first multiple of ten that holds all curves, so that those of a weak model are readable
    top = max(max(*curve.seen, *curve.novel) for _, found in entries for curve in found.curves.values())
    most = max(10.0, 10 * math.ceil(round(10 * top, 6)))
    axis.set(xlim=(0, most), ylim=(0, most), aspect="equal")
    style_axis(axis)
    figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=9)
    save_figure(figure, path)
