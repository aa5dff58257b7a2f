"""Learning curves of one run, or of several to compare, as PNG, SVG or PDF. Needs no display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.reports.figure_text import shown_text, wrapped
from stages.reports.figures import (
    CLEAN_LINE,
    COLOURS,
    DEFAULT_SIZE,
    RING,
    ROBUST_LINE,
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
from stages.reports.metrics import RunMetrics

_ONE_RUN = ({"color": COLOURS[0], "marker": "s"}, {"color": COLOURS[1], "marker": "^"})
_LARGEST = 1e300  # the margins of an axis need some room in the range of float64


def plot_curves(runs: Sequence[RunMetrics], path: Path, size: str = DEFAULT_SIZE) -> None:
    """Draw loss, training accuracy and selection accuracy over the epochs, the best epoch marked.

    Clean is dashed, robust is solid. One run has a colour for clean and one for robust; several have a colour and marker each.

    Raises:
        UsageError: an unknown size or file format, or more runs than can be told apart.
        MissingError: `path` cannot be written.
    """
    chosen = find_size(size)
    names = run_names([run.folder for run in runs])
    one = len(runs) == 1
    with style(chosen, names):
        figure, axes = new_figure(chosen, *((3, 1) if chosen.narrow else (1, 3)))
        loss, training, selection = axes.flat
        for at, run in enumerate(runs):
            looks = _ONE_RUN if one else (look(at), look(at))
            _line(loss, run, "loss", {"color": "0.2", "marker": "s"} if one else look(at), "-", at)
            for axis, part in ((training, "train"), (selection, "selection")):
                _line(axis, run, f"{part}_clean", looks[0], CLEAN_LINE, at)
                _line(axis, run, f"{part}_robust", looks[1], ROBUST_LINE, at)
            _mark_best(selection, run, looks)
        _label_axes(list(axes.flat), max(len(run.epochs) for run in runs))
        legends = _legends(figure, runs, [shown_text(name) for name in names])
        if one:
            title = f"{shown_text(names[0])}: {_best(runs[0], said=True)}"
            figure.suptitle(wrapped(figure, title, chosen.width - 0.2, chosen.font))
        lay_out(figure, chosen, len(axes) * chosen.panel + 0.3 * one, legends)
    save_figure(figure, chosen, path)


def run_names(folders: Sequence[Path]) -> list[str]:
    """Names of the runs: the folders' own names, or the paths as given where two share one."""
    names = [folder.resolve().name or str(folder) for folder in folders]
    return [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]


def _line(axis: Any, run: RunMetrics, name: str, how: dict[str, Any], line: Any, at: int) -> None:
    values = np.clip(run.values[name], -_LARGEST, _LARGEST)
    if np.isnan(values).all():
        return
    scale = 1 if name == "loss" else 100
    axis.plot(run.epochs, scale * values, linestyle=line, markevery=marked(len(values), at), **how)


def _mark_best(axis: Any, run: RunMetrics, looks: Sequence[dict[str, Any]]) -> None:
    for name, how in zip(("selection_clean", "selection_robust"), looks, strict=True):
        value = run.at_best(name)
        if value is not None:
            axis.plot(run.best, 100 * value, **{**how, **RING}, zorder=5)


def _label_axes(axes: Any, most: int) -> None:
    from matplotlib.ticker import MaxNLocator

    for axis, title in zip(axes, ("training loss", "training images", "selection images (held out)"), strict=True):
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.set_xlim(1 - 0.03 * most, most * 1.03 + 0.03)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        style_axis(axis)
        if axis is axes[0]:
            axis.set_ylabel("loss (mean over images)")
        else:
            percent_axis(axis, "y", "accuracy (%)")
        if not axis.get_lines():
            axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", va="center")


def _legends(figure: Any, runs: Sequence[RunMetrics], names: Sequence[str]) -> list[Legend]:
    """What the lines mean and, of several runs, what each reached."""
    axis = figure.axes[0]
    looks: tuple[dict[str, Any], ...] = _ONE_RUN if len(runs) == 1 else ({"color": "0.3"}, {"color": "0.3"})
    kinds = {
        "clean": {**looks[0], "linestyle": CLEAN_LINE},
        "robust (attacked)": {**looks[1], "linestyle": ROBUST_LINE},
        "best epoch": {**RING, "color": "0.3", "linestyle": ""},
    }
    keys = [axis.plot([], [], **how)[0] for how in kinds.values()]
    if len(runs) == 1:  # the title says what it reached
        return [Legend(keys, list(kinds))]
    lines = [axis.plot([], [], **look(at))[0] for at in range(len(runs))]
    texts = [f"{name}: {_best(run)}" for run, name in zip(runs, names, strict=True)]
    return [Legend(keys, list(kinds)), Legend(lines, texts, "best epoch: selection accuracy clean / robust")]


def _best(run: RunMetrics, *, said: bool = False) -> str:
    clean, robust = (run.at_best(f"selection_{part}") for part in ("clean", "robust"))
    figures = " / ".join("–" if value is None else f"{100 * value:.1f} %" for value in (clean, robust))
    if said:
        return f"best epoch {run.best} of {len(run.epochs)}, selection clean / robust {figures}"
    return f"epoch {run.best} of {len(run.epochs)}, {figures}"
