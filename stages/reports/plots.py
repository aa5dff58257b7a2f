"""Plots of reports and anchors as PNG, SVG or PDF: accuracies with their intervals, seen-unseen curves, cosine matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.cosines import pooled_cosines
from stages.errors import InputError
from stages.reports.figure_text import shown_text, text_width, wrapped
from stages.reports.figures import (
    CLEAN_LINE,
    DEFAULT_SIZE,
    RING,
    ROBUST_LINE,
    FigureSize,
    Legend,
    find_size,
    lay_out,
    look,
    marked,
    new_figure,
    percent_axis,
    save_figure,
    style,
    style_axis,
)
from stages.reports.report_tables import attacks_in_order
from stages.reports.rows import CLEAN, WORST

if TYPE_CHECKING:
    from stages.anchors.anchor_set import AnchorSet
    from stages.reports.records import Report, Result
    from stages.statistics.gzsl import GzslResult

_MOST_NAMES = 24  # of classes along a matrix
_MATRIX_ROWS = 1000  # of a cosine matrix; a figure has fewer pixels
_RING_LINES: dict[str, Any] = {"linestyle": "", "clip_on": False, "zorder": 5}
_DIAMOND = {**RING, "marker": "D"}


def plot_report(report: Report, path: Path, size: str = DEFAULT_SIZE) -> None:
    """Draw the seen-unseen curves of a report made with the protocol 'gzsl', or the accuracies of another.

    Raises:
        UsageError: an unknown size or file format, or more models than can be told apart.
        MissingError: `path` cannot be written.
    """
    (plot_seen_unseen if report.protocol.name == "gzsl" else plot_results)(report, path, size)


def plot_cosines(before: AnchorSet, after: AnchorSet, path: Path, size: str = DEFAULT_SIZE) -> None:
    """Draw the (C, C) cosine matrices of raw and expanded anchors on one colour scale.

    Raises UsageError for an unknown size or file format, MissingError when `path` cannot be written.
    """
    chosen = find_size(size)
    names = [shown_text(name) for name in before.classes] if len(before.classes) <= _MOST_NAMES else []
    source = shown_text(str(before.origin.get("source", "raw")))
    with style(chosen, [source, *names]):
        figure, axes = new_figure(chosen, *((2, 1) if chosen.narrow else (1, 2)))
        side = chosen.width / (1.35 if chosen.narrow else 2.7)
        image = None
        for axis, anchors, title in zip(axes.flat, (before, after), (source, f"{source}, {after.label}"), strict=True):
            cosines, mean = pooled_cosines(anchors.vectors, _MATRIX_ROWS)
            edges = (-0.5, len(anchors.classes) - 0.5)
            image = axis.imshow(cosines, vmin=-1, vmax=1, cmap="RdBu_r", extent=(*edges, *edges[::-1]))
            figures = f"mean cosine {mean:.3f}" if len(anchors.classes) > 1 else "one class"
            axis.set_title(f"{wrapped(figure, f'{title} anchors', side, chosen.font)}\n{figures}")
            _name_classes(figure, axis, anchors, names, side)
        figure.colorbar(image, ax=axes, label="cosine similarity", fraction=0.04, aspect=30)
        lay_out(figure, chosen, 2 * (side + 0.35) if chosen.narrow else side + 0.7, [])
    save_figure(figure, chosen, path)


def _name_classes(figure: Any, axis: Any, anchors: AnchorSet, names: Sequence[str], side: float) -> None:
    """Names if they are few and short enough, else numbers; a line after the seen classes if they come first."""
    from matplotlib.ticker import MaxNLocator

    count = len(anchors.classes)
    font = min(axis.title.get_size() * 0.8, 0.7 * 72 * side / count)
    if names and font >= 4 and max(text_width(figure, name, font) for name in names) < 0.3 * side:
        axis.set_xticks(range(count), names, rotation=90, fontsize=font)
        axis.set_yticks(range(count), names, fontsize=font)
    else:
        for which in (axis.xaxis, axis.yaxis):
            which.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    border = len(anchors.groups.seen)
    split = border < count and anchors.groups.seen == tuple(range(border))
    axis.set_xlabel("class (black line: end of the seen classes)" if split else "class")
    for draw in (axis.axhline, axis.axvline) if split else ():
        draw(border - 0.5, color="black", linewidth=0.6)


def plot_results(report: Report, path: Path, size: str = DEFAULT_SIZE) -> None:
    """Draw the accuracies of a report with their 95 % intervals, one panel per group; the dotted line is chance.

    Raises UsageError for an unknown size or file format, MissingError when `path` cannot be written.
    """
    asked = find_size(size)
    for chosen in asked.smaller():
        figure, height = _results(report, chosen)
        if not asked.height or height <= asked.height:
            break
    save_figure(figure, chosen, path)


def _results(report: Report, size: FigureSize) -> tuple[Any, float]:
    """The figure and its height, inches."""
    groups = {group: [entry for entry in report.results if entry.group == group] for group in _groups(report)}
    with style(size, [text for entry in report.results for text in (entry.model, entry.group)]):
        columns = min(len(groups), max(1, round(size.width / 3.6)))
        figure, axes = new_figure(size, math.ceil(len(groups) / columns), columns)
        shared = len({tuple(map(_name, entries)) for entries in groups.values()}) == 1
        measures = [name for name in (CLEAN, *attacks_in_order({"": report}), WORST) if name in report.results[0].shares()]
        heights = []
        for at, (axis, entries) in enumerate(zip(axes.flat, groups.values(), strict=False)):
            heights.append(_dots(figure, axis, entries, measures, size, (columns, shared)))
            if shared and at % columns:
                axis.set_yticklabels([])
        for axis in axes.flat[len(groups) :]:
            axis.remove()
        handles, labels = axes.flat[0].get_legend_handles_labels()
        chance = labels.index("chance")
        handles, labels = (part[:chance] + part[chance + 1 :] + part[chance : chance + 1] for part in (handles, labels))
        interval = shown_text(report.results[0].interval)
        under = f"attacks in {report.under}; " if report.under else ""
        lay_out(figure, size, max(heights) * len(axes), [Legend(handles, labels, f"{under}intervals: {interval}")])
    return figure, float(figure.get_figheight())


def _groups(report: Report) -> list[str]:
    return list(dict.fromkeys(entry.group for entry in report.results))


def _name(entry: Result) -> str:
    """How a row is called: the model and, where there are several, its number of shots or the like."""
    return entry.model if entry.protocol in ("all-way", "gzsl") else f"{entry.model}, {entry.protocol}"


def _dots(
    figure: Any, axis: Any, entries: Sequence[Result], measures: Sequence[str], size: FigureSize, layout: tuple[int, bool]
) -> float:
    """A row per model with a mark and an interval per measure. Returns the height that the panel needs, inches.

    `layout`: the number of panels in a row, and whether the names stand at the first one alone.
    """
    columns, shared = layout
    room = size.width * (0.36 if columns == 1 else 0.3 if shared else 0.4 / columns)
    labels = [wrapped(figure, shown_text(_name(entry)), room, 0.9 * size.font) for entry in entries]
    for at, measure in enumerate(measures):
        values = [entry.shares()[measure] for entry in entries]
        middle = np.array([value.accuracy for value in values])
        reach = np.abs(np.array([[value.low, value.high] for value in values]).T - middle)
        places = np.arange(len(entries)) + 0.7 * ((at + 0.5) / len(measures) - 0.5)
        how = {"linestyle": "", "capsize": size.font / 5, "clip_on": False, **look(at)}
        axis.errorbar(100 * middle, places, xerr=100 * reach, label=measure, **how)
    axis.axvline(100 * entries[0].chance, color="black", linestyle=":", label="chance", zorder=1)
    for border in range(1, len(entries)):
        axis.axhline(border - 0.5, color="0.85", linewidth=0.6, zorder=0)
    chance = f"{entries[0].ways}-way, chance {100 * entries[0].chance:.1f} %"
    group = wrapped(figure, f"{shown_text(entries[0].group)} classes", 0.55 * size.width / columns, size.font)
    axis.set_title(f"{group}\n{chance}")
    axis.set_yticks(range(len(entries)), labels)
    axis.set_ylim(len(entries) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    percent_axis(axis, "x", "accuracy (%)")
    style_axis(axis)
    axis.grid(visible=False, axis="y")
    line = 1.25 * size.font / 72
    row = max(line * (0.4 + max(label.count("\n") + 1 for label in labels)), 0.65 * line * len(measures), 1.6 * line)
    return max(0.6, row * len(entries)) + line * (5 + group.count("\n"))


def plot_seen_unseen(report: Report, path: Path, size: str = DEFAULT_SIZE) -> None:
    """Draw S over U for each model of a report made with the protocol 'gzsl'.

    Clean is dashed, the worst case over the attacks solid; a ring with intervals marks bias 0, at which the attacks were run.
    A diamond marks the fitted bias of a model that has one, under the attacks at that bias.

    Raises:
        InputError: a report of another protocol.
        UsageError: an unknown size or file format, or more models than can be told apart.
        MissingError: `path` cannot be written.
    """
    whole = [(entry.model, entry.gzsl) for entry in report.results if entry.gzsl]
    entries = [(model, found) for model, found in whole if found.bias is None]
    fitted = {model: found for model, found in whole if found.bias is not None}
    if not entries:
        raise InputError("the report has no seen-unseen curve", "make it with `laat eval --protocol gzsl`")
    chosen = find_size(size)
    attacked = bool(report.threat) and any(found.attacks for _, found in entries)
    with style(chosen, [model for model, _ in entries]):
        from matplotlib.ticker import MaxNLocator

        figure, axes = new_figure(chosen, 1, 1)
        axis = axes[0, 0]
        models = [axis.plot([], [], **look(at))[0] for at in range(len(entries))]
        texts = [
            f"{shown_text(model)}: {_curves(axis, found, fitted.get(model), at)}" for at, (model, found) in enumerate(entries)
        ]
        # the first multiple of ten that holds all curves, so that those of a weak model are readable
        top = max(max(*curve.seen, *curve.novel) for _, found in entries for curve in found.curves.values())
        most = max(10.0, 10 * math.ceil(round(10 * top, 6)))
        axis.set(xlabel="U: novel classes, accuracy (%)", ylabel="S: seen classes, accuracy (%)")
        for which in (axis.xaxis, axis.yaxis):
            which.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        axis.set(xlim=(0, most), ylim=(0, most))
        axis.set_box_aspect(1)
        style_axis(axis)
        kinds: list[tuple[str, dict[str, Any]]] = [("clean", {"linestyle": CLEAN_LINE})]
        if attacked and report.threat:
            name = f"worst case, {report.under} (upper bound off the ring)"
            kinds.append((name, {"linestyle": ROBUST_LINE}))
        kinds.append(("bias 0, with 95 % intervals", {**RING, "linestyle": ""}))
        if fitted:
            kinds.append((f"fitted bias{', attacked at it' if attacked else ''}", {**_DIAMOND, "linestyle": ""}))
        keys = [axis.plot([], [], color="0.3", **how)[0] for _, how in kinds]
        about = "per-class means; area under the curve" + (" clean / worst case" if attacked else "")
        legends = [Legend(keys, [name for name, _ in kinds]), Legend(models, texts, about)]
        lay_out(figure, chosen, chosen.width if chosen.narrow else 0.5 * chosen.width, legends, beside=not chosen.narrow)
    save_figure(figure, chosen, path)


def _curves(axis: Any, found: GzslResult, fitted: GzslResult | None, at: int) -> str:
    """Draw the curves of one model, and its figures at its fitted bias. Returns the areas under the curves."""
    lines = {"clean": (found.clean, CLEAN_LINE), **({"worst": (found.worst, ROBUST_LINE)} if found.attacks else {})}
    for measure, (shares, line) in lines.items():
        curve, colour = found.curves[measure], look(at)["color"]
        novel, seen = 100 * np.array(curve.novel), 100 * np.array(curve.seen)
        axis.plot(novel, seen, linestyle=line, markevery=marked(len(novel), at), clip_on=False, **look(at))
        for mark, part in ((RING, shares), *([(_DIAMOND, getattr(fitted, measure))] if fitted else [])):
            reach = [[[100 * (one.accuracy - one.low)], [100 * (one.high - one.accuracy)]] for one in (part.U, part.S)]
            place = 100 * part.U.accuracy, 100 * part.S.accuracy
            axis.errorbar(*place, xerr=np.abs(reach[0]), yerr=np.abs(reach[1]), color=colour, capsize=2, **mark, **_RING_LINES)
    return " / ".join(f"{100 * shares.ausuc.area:.1f}" for shares, _ in lines.values() if shares.ausuc) + " %"
