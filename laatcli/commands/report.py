"""`laat report`: the tables of reports that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laatcli.console import Console
from laatcli.formats import Format, check_format
from laatcli.reporting import show_reports

EXAMPLES = ("laat report report.json --format latex", "laat report raw/report.json expanded/report.json")


def report(
    console: Console,
    reports: Annotated[list[Path], typer.Argument(metavar="REPORT", help="Reports of laat eval, or - for standard input.")],
    form: Format = "table",
) -> None:
    """Show reports again: those that were measured alike in one table, and never two suites in one column."""
    check_format(form, console)
    from stages.errors import UsageError
    from stages.reports.report import read_report
    from stages.reports.results_table import report_tables
    from stages.reports.tables import plain_numbers

    if len(set(reports)) < len(reports):
        raise UsageError("a report is given twice", "name each report once")
    read = {str(path): read_report(path) for path in reports}
    tables = report_tables(read)
    console.result(
        {
            "kind": "laat-tables",
            "tables": [
                {"title": table.title, "columns": head, "rows": rows, "notes": list(table.notes)}
                for table, (head, *rows) in ((table, plain_numbers(table)) for table in tables)
            ],
        }
    )
    show_reports(console, read, form)
