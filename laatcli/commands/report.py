"""`laat report`: the tables of existing reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laatcli.console import Console
from laatcli.reporting import Format, check_format, show_reports
from stages.errors import UsageError

EXAMPLES = ("laat report report.json --format latex", "laat report raw/report.json expanded/report.json")


def report(
    console: Console,
    reports: Annotated[
        list[Path] | None,
        typer.Argument(metavar="REPORT", help="Reports of laat eval, or - for standard input.", show_default=False),
    ] = None,
    form: Format = "table",
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of report.json and exit.")] = False,
) -> None:
    """Show reports again, with verdicts and checks; those that were measured alike share a table."""
    check_format(form, console)
    from stages.reports.records import report_schema
    from stages.reports.report import read_report
    from stages.reports.report_tables import report_tables

    if schema:
        console.json(report_schema())
        return
    if not reports:
        raise UsageError("no report was given", "name a report of laat eval, for example report.json")
    if len(set(reports)) < len(reports):
        raise UsageError("a report is given twice", "name each report once")
    read = {str(path): read_report(path) for path in reports}
    tables = report_tables(read)
    console.result(
        {
            "kind": "laat-tables",
            "tables": [
                {"title": table.title, "columns": head, "rows": rows, "notes": list(table.notes)}
                for table, (head, *rows) in ((table, table.plain_numbers()) for table in tables)
            ],
        }
    )
    show_reports(console, read, form)
