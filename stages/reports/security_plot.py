"""The plot of security curves as PNG, SVG or PDF. Needs no display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.reports.figure_text import shown_text
from stages.reports.figures import (
    DEFAULT_SIZE,
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


def plot_security(curves: Sequence[SecurityCurve], path: Path, size: str = DEFAULT_SIZE) -> None:
    """Draw accuracy over eps with 95 % intervals, a line for each curve; the clean accuracy stands at eps 0.

    Raises UsageError for an unknown size or file format, or more curves than can be told apart; MissingError when `path` cannot
    be written.
    """
    chosen = find_size(size)
    names = [shown_text(_name(one)) for one in curves]
    with style(chosen, names):
        figure, axes = new_figure(chosen, 1, 1)
        axis = axes[0, 0]
        for at, curve in enumerate(curves):
            eps = np.array([float(one) for one in curve.points])
            middle, low, high = (
                100 * np.array([getattr(point, end) for point in curve.points.values()]) for end in ("accuracy", "low", "high")
            )
            axis.errorbar(eps, middle, yerr=np.abs([low - middle, high - middle]), capsize=chosen.font / 5, **look(at))
        ticks = sorted({one for curve in curves for one in curve.points})
        norm = curves[0].norm
        axis.set_xticks([float(one) for one in ticks], [format_eps(one, norm) for one in ticks])
        axis.set_xlabel(f"eps ({norm}); at 0: clean")
        percent_axis(axis, "y", "accuracy (%)")
        style_axis(axis)
        handles = [axis.plot([], [], **look(at))[0] for at in range(len(curves))]
        legend = Legend(handles, names, f"worst case of {shown_text(curves[0].under)}; intervals: 95 %")
        lay_out(figure, chosen, chosen.panel + 0.4, [legend])
    save_figure(figure, chosen, path)


def _name(curve: SecurityCurve) -> str:
    protocol = "" if curve.protocol in ("all-way", "gzsl") else f", {curve.protocol}"
    return f"{curve.model}, {curve.group} classes{protocol}"
