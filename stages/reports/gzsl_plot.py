"""The seen-unseen curves of a generalized zero-shot evaluation, clean and robust. PNG, no display needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.errors import InputError, UsageError
from stages.reports.figures import COLOURS, new_figure, save_figure

_CLEAN, _ROBUST = ("--", "-")  # as in the learning curves
_POINT: dict[str, Any] = {
    "marker": "o",
    "markersize": 6,
    "markerfacecolor": "white",
    "markeredgewidth": 1.4,
    "linestyle": "",
    "clip_on": False,
}


def plot_seen_unseen(report: Mapping[str, Any], path: Path) -> None:
    """Draw S over U for each model of a report (see `evaluate.report.make_report`) made with the protocol 'gzsl'.

    Clean is dashed, the worst case over the attacks solid; a ring marks bias 0, which the attacks were run at.

    Raises:
        InputError: a report of another protocol.
        UsageError: more models than colours that can be told apart.
        MissingError: `path` cannot be written.
    """
    entries = [entry for entry in report["results"] if "gzsl" in entry]
    if not entries:
        raise InputError("the report has no seen-unseen curve", "make it with `laat eval --protocol gzsl`")
    if len(entries) > len(COLOURS):
        raise UsageError(f"{len(entries)} models in one figure cannot be told apart", f"name at most {len(COLOURS)}")
    figure, axis = new_figure(1, 1, (5.6, 5.0 + 0.22 * len(entries)))
    for entry, colour in zip(entries, COLOURS, strict=False):
        found = entry["gzsl"]
        styles = {"clean": _CLEAN, **({"worst": _ROBUST} if found["attacks"] else {})}
        for measure, style in styles.items():
            curve, told = found["curves"][measure], found[measure]
            axis.plot(
                100 * np.array(curve["novel"]), 100 * np.array(curve["seen"]), color=colour, linestyle=style, linewidth=1.4
            )
            axis.plot(100 * told["U"]["accuracy"], 100 * told["S"]["accuracy"], color=colour, **_POINT)
        areas = " / ".join(f"{100 * found[measure]['ausuc']['area']:.1f}" for measure in styles)
        what = "clean / robust" if len(styles) > 1 else "clean"
        name = str(entry["model"]).replace("$", r"\$")
        axis.plot([], [], color=colour, label=f" {name}: area {what} {areas} %")
    _finish(figure, axis, report, robust=any(entry["gzsl"]["attacks"] for entry in entries))
    save_figure(figure, path)


def _finish(figure: Any, axis: Any, report: Mapping[str, Any], *, robust: bool) -> None:
    axis.plot([], [], color="0.3", linestyle=_CLEAN, label="clean")
    if robust:
        threat = report["threat"]
        axis.plot(
            [],
            [],
            color="0.3",
            linestyle=_ROBUST,
            label=f"worst case, {threat['norm']} {threat['eps']} (upper bound off the ring)",
        )
    axis.plot([], [], color="0.3", label="bias 0", **_POINT)
    axis.set_xlabel("U: accuracy on novel classes, per-class mean (%)")
    axis.set_ylabel("S: accuracy on seen classes, per-class mean (%)")
    most = _room(report)
    axis.set_xlim(0, most)
    axis.set_ylim(0, most)
    axis.set_aspect("equal")
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=9)


def _room(report: Mapping[str, Any]) -> float:
    """Where both axes end, in percent: the first ten that holds all of the curves, so that a weak model's can be read."""
    curves = [curve for entry in report["results"] for curve in entry.get("gzsl", {}).get("curves", {}).values()]
    top = max(value for curve in curves for side in ("seen", "novel") for value in curve[side])
    return max(10.0, 10 * math.ceil(round(10 * top, 6)))
