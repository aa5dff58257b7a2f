"""Learning curves of one run, or of several to compare. PNG, no display needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.reports.metrics import RunMetrics
from stages.reports.plots import (
    CLEAN_LINE,
    COLOURS,
    RING,
    ROBUST_LINE,
    new_figure,
    plain_label,
    require_colours,
    save_figure,
    style_axis,
)

_RING: dict[str, Any] = {**RING, "markersize": 8, "markeredgewidth": 1.6}
_MARKED_EPOCHS = 20  # with more, the points of single epochs would overlap


def plot_curves(runs: Sequence[RunMetrics], path: Path) -> None:
    """Draw loss, training accuracy and selection accuracy over the epochs, the best epoch marked.

    One run has a colour for clean and one for robust; several have a colour each. Clean is dashed, robust is solid.

    Raises:
        UsageError: more runs than colours that can be told apart.
        MissingError: `path` cannot be written.
    """
    require_colours(len(runs), "runs")
    figure, axes = new_figure(1, 3, (12.5, 4.1 + 0.22 * (len(runs) - 1)))
    loss, training, selection = axes
    one = len(runs) == 1
    names = run_names([run.folder for run in runs])
    for at, (run, name) in enumerate(zip(runs, names, strict=True)):
        colours = COLOURS[:2] if one else (COLOURS[at], COLOURS[at])
        _line(loss, run, "loss", "black" if one else COLOURS[at], "-")
        for axis, part in ((training, "train"), (selection, "selection")):
            _line(axis, run, f"{part}_clean", colours[0], CLEAN_LINE)
            _line(axis, run, f"{part}_robust", colours[1], ROBUST_LINE)
        _mark_best(selection, run, colours)
        if not one:
            loss.plot([], [], color=COLOURS[at], label=_label(f"{name}: {_best(run)}"))
    if one:
        figure.suptitle(_label(f"{names[0]}: {_best(runs[0])}"), fontsize=11)
    _finish(figure, loss, training, selection, runs)
    save_figure(figure, path)


def run_names(folders: Sequence[Path]) -> list[str]:
    """Names of the runs: the folders' own names, or the paths as given where two share one."""
    names = [folder.resolve().name or str(folder) for folder in folders]
    return [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]


def _line(axis: Any, run: RunMetrics, name: str, colour: str, style: str) -> None:
    values = run.values[name]
    if np.isnan(values).all():
        return
    scale = 1 if name == "loss" else 100
    marker = "." if len(values) <= _MARKED_EPOCHS else None
    axis.plot(run.epochs, scale * values, color=colour, linestyle=style, linewidth=1.4, marker=marker, markersize=4)


def _mark_best(axis: Any, run: RunMetrics, colours: tuple[str, ...]) -> None:
    for name, colour in zip(("selection_clean", "selection_robust"), colours, strict=True):
        value = run.at_best(name)
        if value is not None:
            axis.plot(run.best, 100 * value, color=colour, **_RING)


def _best(run: RunMetrics) -> str:
    clean, robust = (run.at_best(f"selection_{part}") for part in ("clean", "robust"))
    figures = " / ".join("–" if value is None else f"{100 * value:.1f} %" for value in (clean, robust))
    return f"best epoch {run.best} of {len(run.epochs)}, selection clean / robust {figures}"


def _label(text: str) -> str:
    """Plain text; a blank before an underscore, as a legend leaves out what begins with one."""
    return plain_label(f"{' ' if text.startswith('_') else ''}{text}")


def _finish(figure: Any, loss: Any, training: Any, selection: Any, runs: Sequence[RunMetrics]) -> None:
    from matplotlib.ticker import MaxNLocator

    loss.set_title("training loss", fontsize=10)
    loss.set_ylabel("loss (mean over images)")
    training.set_title("training images", fontsize=10)
    selection.set_title("held-out images that select the epoch", fontsize=10)
    most = max(len(run.epochs) for run in runs)
    for axis in (loss, training, selection):
        axis.set_xlabel("epoch")
        axis.set_xlim(1 - 0.03 * most, most * 1.03 + 0.03)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        style_axis(axis)
    for axis in (training, selection):
        axis.set_ylabel("accuracy (%)")
        axis.set_ylim(0, 100)
    colours = COLOURS[:2] if len(runs) == 1 else ("0.3", "0.3")
    for name, style, colour in (("clean", CLEAN_LINE, colours[0]), ("robust (attacked)", ROBUST_LINE, colours[1])):
        training.plot([], [], color=colour, linestyle=style, label=name)
    training.plot([], [], color="0.3", linestyle="", label="best epoch", **_RING)
    (runs_drawn, names), (kinds, meanings) = loss.get_legend_handles_labels(), training.get_legend_handles_labels()
    figure.legend(
        runs_drawn + kinds,
        names + meanings,
        loc="outside lower center",
        ncols=3 if len(runs) == 1 else 2,
        frameon=False,
        fontsize=9,
    )
