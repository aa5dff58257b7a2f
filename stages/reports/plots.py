"""Plots: cosine matrices before and after the expansion, and accuracies with their intervals. PNG, no display needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.anchors.anchor_set import AnchorSet
from stages.expand import pairwise_cosines
from stages.reports.figures import COLOURS, new_figure, save_figure


def plot_cosines(before: AnchorSet, after: AnchorSet, path: Path) -> None:
    """Draw the (C, C) cosine matrices of raw and expanded anchors side by side on one colour scale.

    Raises MissingError when `path` cannot be written.
    """
    figure, axes = new_figure(1, 2, (10, 4.6))
    image = None
    source = str(before.origin.get("source", "raw"))
    titles = (f"{source} anchors", f"{source} anchors, expanded")
    for axis, anchors, title in zip(axes, (before, after), titles, strict=True):
        cosines = pairwise_cosines(anchors.vectors)
        image = axis.imshow(cosines, vmin=-1, vmax=1, cmap="RdBu_r")
        pairs = cosines[np.triu_indices(len(cosines), 1)]
        mean = f"mean cosine {pairs.mean():.3f}" if len(pairs) else "one class"
        axis.set_title(f"{title}: {mean}")
        axis.set_xlabel("class")
        _name_classes(axis, anchors)
    figure.colorbar(image, ax=axes, label="cosine", fraction=0.025)
    save_figure(figure, path)


def plot_results(report: Mapping[str, Any], path: Path) -> None:
    """Draw the accuracies of a report (see `evaluate.report.make_report`) as bars with 95 % intervals, one panel a group.

    The dashed line is chance. Raises MissingError when `path` cannot be written.
    """
    results = report["results"]
    groups = list(dict.fromkeys(entry["group"] for entry in results))
    figure, axes = new_figure(1, len(groups), (1.5 + 4.2 * len(groups), 3.8))
    measures: list[str] = []
    for axis, group in zip(np.atleast_1d(axes), groups, strict=True):
        entries = [entry for entry in results if entry["group"] == group]
        measures = _bars(axis, entries)
        axis.axhline(100 * entries[0]["chance"], color="black", linestyle="--", linewidth=0.8)
        axis.set_title(f"{group} classes ({entries[0]['ways']}-way, chance {100 * entries[0]['chance']:.1f} %)", fontsize=10)
        axis.set_ylim(0, 100)
    first = np.atleast_1d(axes)[0]
    first.set_ylabel("accuracy %")
    handles, labels = first.get_legend_handles_labels()
    threat = report.get("threat")
    under = f"attacks in {threat['norm']} {threat['eps']}" if threat else ""
    figure.legend(handles, labels, loc="outside lower center", ncols=max(len(measures), 1), frameon=False, title=under or None)
    save_figure(figure, path)


def _bars(axis: Any, entries: list[Mapping[str, Any]]) -> list[str]:
    measures = ["clean", *entries[0]["attacks"], *(["worst"] if len(entries[0]["attacks"]) > 1 else [])]
    width = 0.8 / len(measures)
    for at, measure in enumerate(measures):
        values = [entry[measure] if measure in entry else entry["attacks"][measure] for entry in entries]
        middle = np.array([value["accuracy"] for value in values])
        reach = np.abs(np.array([[value["low"], value["high"]] for value in values]).T - middle)
        places = np.arange(len(entries)) + (at - (len(measures) - 1) / 2) * width
        axis.bar(
            places,
            100 * middle,
            width,
            yerr=100 * reach,
            capsize=2,
            label=measure,
            color=COLOURS[at % len(COLOURS)],
            error_kw={"linewidth": 0.8},
        )
    axis.set_xticks(range(len(entries)), _names(entries), fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    return measures


def _names(entries: list[Mapping[str, Any]]) -> list[str]:
    """The models, with the protocol below where a model has results of several, as of several numbers of shots."""
    several = len({entry.get("protocol") for entry in entries}) > 1
    return [f"{entry['model']}\n{entry['protocol']}" if several else entry["model"] for entry in entries]


def _name_classes(axis: Any, anchors: AnchorSet) -> None:
    """Names where they can be read, else numbers; a line after the seen classes where they come first."""
    count = len(anchors.classes)
    if count <= 24:
        axis.set_xticks(range(count), anchors.classes, rotation=90, fontsize=6)
        axis.set_yticks(range(count), anchors.classes, fontsize=6)
    border = len(anchors.groups.seen)
    if border < count and anchors.groups.seen == tuple(range(border)):
        for draw in (axis.axhline, axis.axvline):
            draw(border - 0.5, color="black", linewidth=0.6)
