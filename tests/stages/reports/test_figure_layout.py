"""Every plot at every size, with few and many, short and long and odd names: no text is cut off, and none lies on another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.anchors.expanded import expand_anchors
from stages.reports import curves, figures, plots, shots, sphere
from stages.reports.metrics import ACCURACIES, RunMetrics
from stages.reports.records import Report
from tests.stages.reports.test_plots import anchors, gzsl_report, report
from tests.stages.reports.test_shots import episodes, named

LONG = "resnet12_cifar-fs_beta6_expanded-anchors_vit-b16_seed{}_epoch90"
NAMES = {
    "one": ["run"],
    "odd": ["_under $x_1^2$ score", "日本語のモデル", "100% & #1 \\alpha", "a\nb"],
    "eight": [f"run {at}" for at in range(8)],
    "twenty long": [LONG.format(at) for at in range(20)],
}


def run_metrics(name: str, epochs: int, level: float) -> RunMetrics:
    values = {name: np.full(epochs, level) for name in ACCURACIES}
    return RunMetrics(Path("/runs") / name, np.arange(1, epochs + 1), {"loss": np.linspace(3, 1e-3, epochs), **values}, epochs)


def of_models(found: Report, names: Sequence[str]) -> Report:
    """A report with models of these names in place of its own, which repeat."""
    results = [
        of_group[at % len(of_group)].model_copy(update={"model": name})
        for group in dict.fromkeys(entry.group for entry in found.results)
        for of_group in [[entry for entry in found.results if entry.group == group]]
        for at, name in enumerate(names)
    ]
    models = [found.models[0].model_copy(update={"name": name}) for name in names]
    return found.model_copy(update={"models": models, "results": results})


def draw_curves(names: Sequence[str], path: Path, size: str) -> None:
    # from the whole of the axis at 0 to the whole at 100 %, and one of a single epoch
    levels = np.linspace(0, 1, len(names))
    runs = [run_metrics(name.replace("\n", " "), 1 + 17 * (at % 4), levels[at]) for at, name in enumerate(names)]
    curves.plot_curves(runs, path, size)


def draw_seeds(names: Sequence[str], path: Path, size: str) -> None:
    runs = [run_metrics("run", 1 + 17 * at, level) for at, level in ((1, 0.0), (2, 1.0))]
    curves.plot_mean_curves([curves.Curves(name, (*runs[: 1 + at % 2],)) for at, name in enumerate(names)], path, size)


def draw_results(names: Sequence[str], path: Path, size: str) -> None:
    plots.plot_results(of_models(report(groups=("seen", "novel", "a/file of names.txt")), names), path, size)


def draw_gzsl(names: Sequence[str], path: Path, size: str) -> None:
    plots.plot_seen_unseen(of_models(gzsl_report(), names), path, size)


def draw_cosines(names: Sequence[str], path: Path, size: str) -> None:
    names = [*names, "b", "c"]
    raw = replace(anchors(len(names), len(names) - 1), classes=tuple(names))
    plots.plot_cosines(raw, expand_anchors(raw)[0], path, size)


def draw_shots(names: Sequence[str], path: Path, size: str) -> None:
    found = named(episodes(0, blend=0.5), episodes(1, blend=0.5), episodes(None, counts=(1, 40)))
    lines = shots.shot_lines(found)
    several = [replace(lines[at % len(lines)], setting=name) for at, name in enumerate(names)]
    shots.plot_shots(several, found["r0.json"], path, size)


def draw_sphere(names: Sequence[str], path: Path, size: str) -> None:
    raw = anchors(len(names) + 2, len(names) + 1)
    raw = replace(raw, origin={"source": names[-1]})
    sphere.plot_expansion(raw, expand_anchors(raw)[0], path, size)


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("size", figures.SIZES)
@pytest.mark.parametrize("draw", [draw_curves, draw_seeds, draw_results, draw_gzsl, draw_cosines, draw_shots, draw_sphere])
def test_no_text_is_cut_off_or_covered(
    draw: Callable[[Sequence[str], Path, str], None], size: str, names: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    for module in (curves, plots, shots, sphere):
        monkeypatch.setattr(module, "save_figure", lambda figure, size, path: drawn.append(figure))
    draw(names, Path("unused.png"), size)
    (figure,) = drawn
    check_layout(figure)
    assert figure.get_figwidth() == figures.SIZES[size].width
    if size == "slide":
        assert figure.get_figheight() == 7.5


@pytest.mark.parametrize("size", figures.SIZES)
def test_what_was_not_measured_is_said_in_its_panel(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, size, path: drawn.append(figure))
    curves.plot_curves([run_metrics("run", 1, np.nan)], Path("unused.png"), size)
    check_layout(drawn[0])
    assert [[text.get_text() for text in axis.texts] for axis in drawn[0].axes] == [[], ["not measured"], ["not measured"]]


@pytest.mark.parametrize("size", figures.SIZES)
def test_many_groups_with_long_names(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, size, path: drawn.append(figure))
    plots.plot_results(report(groups=tuple(f"/data/names of classes/list-{at}.txt" for at in range(5))), Path("x.png"), size)
    check_layout(drawn[0])


def check_layout(figure: Any) -> None:
    """No text is outside the canvas, on another text or on a panel, and no legend is on a panel."""
    boxes = {f"{text.get_text()!r} at {at}": text.get_window_extent() for at, text in enumerate(texts(figure))}
    canvas = figure.bbox.padded(0.5)
    outside = [name for name, box in boxes.items() if not (canvas.contains(box.x0, box.y0) and canvas.contains(box.x1, box.y1))]
    assert not outside
    covered = [(one, other) for one, other in combinations(boxes, 2) if overlap(boxes[one], boxes[other])]
    assert not covered
    panels = [axis.get_window_extent() for axis in figure.axes]
    assert not [
        name for name, box in boxes.items() for panel in panels if overlap(box, panel) and not name.startswith("'not measured'")
    ]
    assert not [legend for legend in figure.legends for panel in panels if overlap(legend.get_window_extent(), panel)]
    assert not [(one, other) for one, other in combinations(panels, 2) if overlap(one, other)]
    assert min(box.height for box in panels) > 0.5 * figure.dpi


def texts(figure: Any) -> list[Any]:
    """The texts that are seen; tick labels beyond the ends of their axis are not."""
    from matplotlib.text import Text

    hidden = set()
    for axis in figure.axes:
        for one, limits in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            low, high = sorted(limits)
            for tick in one.get_major_ticks():
                if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    hidden |= {tick.label1, tick.label2}
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text() and text not in hidden]


def overlap(one: Any, other: Any) -> bool:
    """Whether two boxes share more than a pixel in both directions."""
    return bool(min(one.x1, other.x1) - max(one.x0, other.x0) > 1 and min(one.y1, other.y1) - max(one.y0, other.y0) > 1)
