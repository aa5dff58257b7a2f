"""The charts of the page: those of `laat plot`, as SVG in the file, for a wide and for a narrow window.

Matplotlib draws them, so that the page has no chart library to load, the charts print as vectors and are those of `laat plot`.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.errors import UsageError
from stages.reports.curves import plot_curves
from stages.reports.metrics import RunMetrics
from stages.reports.plots import plot_results, plot_seen_unseen
from stages.reports.records import Report
from stages.reports.security import SecurityCurve
from stages.reports.security_plot import plot_security

# (path, size)
Draw = Callable[[Path, str], None]


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: its heading.
        says: what it shows, for those who do not see it: where its figures are.
        wide, narrow: SVG as data URI; '' where it cannot be drawn.
        missing: why it cannot be drawn.
    """

    title: str
    says: str
    wide: str = ""
    narrow: str = ""
    missing: str = ""


def result_charts(reports: Mapping[str, Report]) -> list[Chart]:
    """The accuracies with their intervals of reports that were measured alike, and with gzsl their seen-unseen curves."""
    whole = together(reports)
    charts = [_chart("Accuracies with their intervals", "The table before it has the same figures.", _of(plot_results, whole))]
    if any(one.gzsl is not None and one.gzsl.bias is None for one in whole.results):
        says = "S and U as a bias moves answers from seen to novel classes; the table before it has the figures at bias 0."
        charts.append(_chart("Seen-unseen curves", says, _of(plot_seen_unseen, whole)))
    return charts


def security_chart(curves: Sequence[SecurityCurve]) -> Chart:
    """Accuracy over eps."""
    says = "The table before it has the same figures."
    return _chart("Security curve: accuracy over eps", says, lambda path, size: plot_security([curves], path, size))


def learning_chart(runs: Sequence[RunMetrics]) -> Chart:
    """Loss and accuracies over the epochs."""
    says = (
        "Loss, and clean and robust accuracy on training and selection images, over the epochs; the table before it has those "
        "of the best epoch."
    )
    return _chart("Learning curves", says, lambda path, size: plot_curves(runs, path, size))


def together(reports: Mapping[str, Report]) -> Report:
    """Reports that were measured alike as one; with several, each model is named with its report."""
    first = next(iter(reports.values()))
    if len(reports) == 1:
        return first
    results = [
        result.model_copy(update={"model": f"{name}: {result.model}"})
        for name, report in reports.items()
        for result in report.results
    ]
    return first.model_copy(update={"results": results})


def _of(draw: Callable[[Report, Path, str], None], report: Report) -> Draw:
    return lambda path, size: draw(report, path, size)


def _chart(title: str, says: str, draw: Draw) -> Chart:
    try:
        return Chart(title, says, *(_svg(draw, size) for size in ("page", "column")))
    except UsageError as error:  # more lines than can be told apart
        return Chart(title, says, missing=f"not drawn: {error.what}")


def _svg(draw: Draw, size: str) -> str:
    with tempfile.TemporaryDirectory(prefix="laat-") as folder:
        path = Path(folder, "chart.svg")
        draw(path, size)
        return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
