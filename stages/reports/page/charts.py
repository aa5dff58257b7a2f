"""The charts of the page: those of `laat plot`, as SVG in the file, for a wide and for a narrow window.

Matplotlib draws them, so that the page has no chart library to load, the charts print as vectors and are those of `laat plot`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from stages.errors import UsageError
from stages.reports.curves import plot_curves
from stages.reports.metrics import RunMetrics
from stages.reports.plots import plot_results, plot_seen_unseen
from stages.reports.records import Report
from stages.reports.security import SecurityCurve
from stages.reports.security_plot import plot_security

# signs that stand for themselves in a data URI
_PLAIN = " /:;,=()'@*+!$.-_~"
# (path, size)
Draw = Callable[[Path, str], None]


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: its heading.
        says: what it shows, for those who do not see it: where its figures are.
        pictures: SVG as data URI, for a wide and for a narrow window, or one for both; none where it cannot be drawn.
        missing: why it cannot be drawn.
    """

    title: str
    says: str
    pictures: Sequence[str] = ()
    missing: str = ""


@dataclass(frozen=True)
class Charts:
    """Draws charts in these sizes of `laat plot`."""

    sizes: Sequence[str] = ("page", "column")

    def of_results(self, reports: Mapping[str, Report]) -> list[Chart]:
        """The accuracies with their intervals of reports that were measured alike, and with gzsl their seen-unseen curves."""
        whole, says = together(reports), "The table before it has the same figures."
        charts = [self._draw("Accuracies with their intervals", says, partial(plot_results, whole))]
        if any(one.gzsl is not None and one.gzsl.bias is None for one in whole.results):
            says = "S and U as a bias moves answers from seen to novel classes; the table before it has the figures at bias 0."
            charts.append(self._draw("Seen-unseen curves", says, partial(plot_seen_unseen, whole)))
        return charts

    def of_eps(self, curves: Sequence[SecurityCurve]) -> Chart:
        """Accuracy over eps."""
        says = "The table before it has the same figures."
        return self._draw("Security curve: accuracy over eps", says, partial(plot_security, [curves]))

    def of_runs(self, runs: Sequence[RunMetrics]) -> Chart:
        """Loss and accuracies over the epochs."""
        says = (
            "Loss, and clean and robust accuracy on training and selection images, over the epochs; the table before it has "
            "those of the best epoch."
        )
        return self._draw("Learning curves", says, partial(plot_curves, runs))

    def _draw(self, title: str, says: str, draw: Draw) -> Chart:
        try:
            return Chart(title, says, [_svg(draw, size) for size in self.sizes])
        except UsageError as error:  # more lines than can be told apart
            return Chart(title, says, missing=f"not drawn: {error.what}")


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


def _svg(draw: Draw, size: str) -> str:
    with tempfile.TemporaryDirectory(prefix="laat-") as folder:
        path = Path(folder, "chart.svg")
        draw(path, size)
        return f"data:image/svg+xml,{quote(_smaller(path.read_text(encoding='utf-8')), safe=_PLAIN)}"


def _smaller(svg: str) -> str:
    """The same picture without what is not drawn, and with the coordinates of its paths to a hundredth of a point."""
    svg = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)
    return " ".join(svg.split()).replace("> <", "><")
