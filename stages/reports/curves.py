"""Learning curves of one run, or of several to compare, runs of other seeds averaged, as PNG, SVG or PDF. Needs no display."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stages.reports.figure_text import shown_text, wrapped
from stages.reports.figures import (
    BAND,
    CLEAN_LINE,
    COLOURS,
    DEFAULT_SIZE,
    RING,
    ROBUST_LINE,
    Legend,
    band,
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


@dataclass(frozen=True)
class Curves:
    """The learning curves of runs that differ in their seed alone, or of one run.

    Attributes:
        name: what they are called.
        runs: at least one.
    """

    name: str
    runs: tuple[RunMetrics, ...]

    @cached_property
    def epochs(self) -> np.ndarray:
        """The epochs (E,) that all of the runs have finished."""
        return min((run.epochs for run in self.runs), key=len)

    def of(self, measure: str) -> np.ndarray:
        """A measure of each run (R, E), in the range that can be drawn; NaN where none was measured."""
        values = np.stack([run.values[measure][: len(self.epochs)] for run in self.runs])
        return np.clip(values, -_LARGEST, _LARGEST)

    def at_best(self, measure: str) -> list[float] | None:
        """A measure of each run at its best epoch, or None if one of them lacks it."""
        found = [run.at_best(measure) for run in self.runs]
        known = [value for value in found if value is not None]
        return known if len(known) == len(found) else None


def plot_curves(runs: Sequence[RunMetrics], path: Path, size: str = DEFAULT_SIZE) -> None:
    """Draw loss, training accuracy and selection accuracy of each run over the epochs, the best epoch marked.

    Clean is dashed, robust is solid. One run has a colour for clean and one for robust; several have a colour and marker each.

    Raises:
        UsageError: an unknown size or file format, or more runs than can be told apart.
        MissingError: `path` cannot be written.
    """
    names = run_names([run.folder for run in runs])
    plot_mean_curves([Curves(name, (run,)) for name, run in zip(names, runs, strict=True)], path, size)


def plot_mean_curves(curves: Sequence[Curves], path: Path, size: str = DEFAULT_SIZE) -> None:
    """As `plot_curves`, for runs of several seeds: their mean, and a band of one standard deviation on both sides.

    Source: Li et al., CVPR 2024, Fig. 3.
    """
    chosen = find_size(size)
    names = [one.name for one in curves]
    alone = len(curves) == 1 and len(curves[0].runs) == 1
    with style(chosen, names):
        figure, axes = new_figure(chosen, *((3, 1) if chosen.narrow else (1, 3)))
        loss, training, selection = axes.flat
        for at, one in enumerate(curves):
            looks = _ONE_RUN if len(curves) == 1 else (look(at), look(at))
            _line(loss, one, "loss", {"color": "0.2", "marker": "s"} if len(curves) == 1 else look(at), "-", at)
            for axis, part in ((training, "train"), (selection, "selection")):
                _line(axis, one, f"{part}_clean", looks[0], CLEAN_LINE, at)
                _line(axis, one, f"{part}_robust", looks[1], ROBUST_LINE, at)
            if len(one.runs) == 1:
                _mark_best(selection, one.runs[0], looks)
        _label_axes(list(axes.flat), max(len(one.epochs) for one in curves))
        legends = _legends(figure, curves, [shown_text(name) for name in names])
        if alone:
            title = f"{shown_text(names[0])}: {_best(curves[0], said=True)}"
            figure.suptitle(wrapped(figure, title, chosen.width - 0.2, chosen.font))
        lay_out(figure, chosen, len(axes) * chosen.panel + 0.3 * alone, legends)
    save_figure(figure, chosen, path)


def run_names(folders: Sequence[Path]) -> list[str]:
    """Names of the runs: the folders' own names, or the paths as given where two share one."""
    names = [folder.resolve().name or str(folder) for folder in folders]
    return [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]


def _line(axis: Any, curves: Curves, name: str, how: dict[str, Any], line: Any, at: int) -> None:
    values = (1 if name == "loss" else 100) * curves.of(name)
    if np.isnan(values).all():
        return
    middle = values.mean(0)
    axis.plot(curves.epochs, middle, linestyle=line, markevery=marked(len(middle), at), **how)
    if len(values) > 1:
        reach = values.std(0, ddof=1)
        band(axis, curves.epochs, middle - reach, middle + reach, how["color"])


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


def _legends(figure: Any, curves: Sequence[Curves], names: Sequence[str]) -> list[Legend]:
    """What the lines mean and, of several runs, what each reached."""
    axis = figure.axes[0]
    single, counts = len(curves) == 1, [len(one.runs) for one in curves]
    looks: tuple[dict[str, Any], ...] = _ONE_RUN if single else ({"color": "0.3"}, {"color": "0.3"})
    kinds = {
        "clean": {**looks[0], "linestyle": CLEAN_LINE},
        "robust (attacked)": {**looks[1], "linestyle": ROBUST_LINE},
        **({"best epoch": {**RING, "color": "0.3", "linestyle": ""}} if min(counts) == 1 else {}),
    }
    keys, labels = [axis.plot([], [], **how)[0] for how in kinds.values()], list(kinds)
    if max(counts) > 1:
        keys.append(axis.fill_between([], [], [], color="0.3", **BAND))
        labels.append("± 1 standard deviation over seeds")
    if single and counts == [1]:  # the title says what it reached
        return [Legend(keys, labels)]
    lines = [axis.plot([], [], **({"linestyle": ""} if single else look(at)))[0] for at in range(len(curves))]
    texts = [f"{name}: {_best(one)}" for one, name in zip(curves, names, strict=True)]
    said = "best epoch: selection accuracy clean / robust"
    return [Legend(keys, labels), Legend(lines, texts, f"{said}, mean ± standard deviation" if max(counts) > 1 else said)]


def _best(curves: Curves, *, said: bool = False) -> str:
    shares = [curves.at_best(f"selection_{part}") for part in ("clean", "robust")]
    figures = " / ".join(map(mean_share, shares))
    run, seeds = curves.runs[0], len(curves.runs)
    if seeds > 1:
        return f"{seeds} seeds, {figures}"
    if said:
        return f"best epoch {run.best} of {len(run.epochs)}, selection clean / robust {figures}"
    return f"epoch {run.best} of {len(run.epochs)}, {figures}"


def mean_share(found: Sequence[float] | None) -> str:
    """The mean of shares of 1 in percent, of several with their standard deviation."""
    if found is None:
        return "–"
    spread = f" ± {100 * np.std(found, ddof=1):.1f}" if len(found) > 1 else ""
    return f"{100 * np.mean(found):.1f}{spread} %"
