"""The plot of security curves as PNG, SVG or PDF. Needs no display."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.reports.figure_text import shown_text, wrapped
from stages.reports.figures import (
    DEFAULT_SIZE,
    FigureSize,
    Legend,
    find_size,
    lay_out,
    look,
    new_figure,
    percent_axis,
    save_figure,
    style,
    style_axis,
)
from stages.reports.security import SecurityCurve
from stages.threat import format_eps


def plot_security(groups: Sequence[Sequence[SecurityCurve]], path: Path, size: str = DEFAULT_SIZE) -> None:
    """Draw accuracy over eps with 95 % intervals, a panel for each group of curves that were measured alike.

    A line is a model, with one look in all panels; the clean accuracy stands at eps 0.

    Raises UsageError for an unknown size or file format, or more curves than can be told apart; MissingError when `path` cannot
    be written.
    """
    chosen = find_size(size)
    names = list(dict.fromkeys(_name(one) for curves in groups for one in curves))
    with style(chosen, [*names, *(one.data for curves in groups for one in curves)]):
        columns = min(len(groups), 1 if chosen.narrow else 3)
        rows = math.ceil(len(groups) / columns)
        figure, axes = new_figure(chosen, rows, columns)
        several = len({curves[0].under for curves in groups}) > 1
        for axis, curves in zip(axes.flat, groups, strict=False):
            _draw(axis, curves, names, chosen)
            title = shown_text(f"{curves[0].data}, {curves[0].under}" if several else curves[0].data)
            axis.set_title(wrapped(figure, title, chosen.width / columns - 0.6, chosen.font))
        for axis in axes.flat[len(groups) :]:
            axis.remove()
        handles = [axes.flat[0].plot([], [], **look(at))[0] for at in range(len(names))]
        attacks = "the attacks" if several else shown_text(groups[0][0].under)
        legend = Legend(handles, list(map(shown_text, names)), f"worst case of {attacks}; intervals: 95 %")
        lay_out(figure, chosen, rows * (chosen.panel + 0.4), [legend])
    save_figure(figure, chosen, path)


def _draw(axis: Any, curves: Sequence[SecurityCurve], names: Sequence[str], size: FigureSize) -> None:
    for curve in curves:
        eps = np.array([float(one) for one in curve.points])
        middle, low, high = (
            100 * np.array([getattr(point, end) for point in curve.points.values()]) for end in ("accuracy", "low", "high")
        )
        how = {"capsize": size.font / 5, "clip_on": False, **look(names.index(_name(curve)))}
        axis.errorbar(eps, middle, yerr=np.abs([low - middle, high - middle]), **how)
    ticks = sorted({one for curve in curves for one in curve.points})
    norm = curves[0].norm
    axis.set_xticks([float(one) for one in ticks], [format_eps(one, norm) for one in ticks])
    axis.set_xlabel(f"eps ({norm}); at 0: clean")
    axis.set_xlim(left=0)
    percent_axis(axis, "y", "accuracy (%)")
    style_axis(axis)


def _name(curve: SecurityCurve) -> str:
    protocol = "" if curve.protocol in ("all-way", "gzsl") else f", {curve.protocol}"
    return f"{curve.model}, {curve.group} classes{protocol}"
