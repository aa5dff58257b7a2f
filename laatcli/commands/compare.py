"""`laat compare`: two reports in, their differences with intervals and p-values out."""

from __future__ import annotations

from typing import Annotated

import typer

from laatcli.console import Console
from laatcli.reporting import Format, check_format, show_table

EXAMPLES = (
    "laat compare raw/report.json expanded/report.json",
    "laat compare report.json:laat-raw report.json:laat-expanded --format markdown",
)


def compare(
    console: Console,
    first: Annotated[str, typer.Argument(metavar="A", help="A report of laat eval; A:MODEL where it has several models.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another report, or another model of the same one.")],
    form: Format = "table",
) -> None:
    """Compare two models on the same images or episodes: difference, 95 % intervals, p-value.

    The first interval is for new images of the same classes, the second, usually wider, for other classes: models that
    recognise new classes are meant for those.
    """
    check_format(form, console)
    from stages.reports.compare import Source, compare_reports, comparison_tables

    found = compare_reports(Source.parse(first), Source.parse(second))
    console.result(found.to_record())
    for table in comparison_tables(found):
        show_table(console, table, form)
