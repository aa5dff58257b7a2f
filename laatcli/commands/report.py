"""`laat report`: the tables of existing reports, and a leaderboard that collects them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laatcli import options
from laatcli.console import Console
from laatcli.grouped import check_against, check_groups, show_against, show_groups
from laatcli.leaderboards import only_leaderboard, refuse_leaderboards
from laatcli.page import HTML, write_page
from laatcli.reporting import check_format, show_reports, show_tables
from stages.errors import UsageError
from stages.files.reading import STDIO
from stages.parameters import parameter
from stages.reports.group_request import GroupRequest
from stages.reports.page.request import PageRequest

if TYPE_CHECKING:
    from stages.reports.leaderboard import Leaderboard
    from stages.reports.tables import FigureTable

EXAMPLES = (
    "laat report raw/report.json expanded/report.json --format latex",
    "laat report runs/*/report.json --group-by objective,anchors --over seed --baseline objective=at --format latex",
    "laat report report.json --format html --run run --adversarial adversarial.st -o report.html",
)
Format = Annotated[
    str,
    typer.Option(
        "--format",
        help="How tables are printed: table, markdown, csv or latex; or html: a page in one file, with charts and images, "
        "but without the tables of --group-by and --against.",
        rich_help_panel=options.OUTPUT,
    ),
]


def report(
    console: Console,
    context: typer.Context,
    page: PageRequest,
    groups: GroupRequest,
    reports: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="REPORT", help="Reports of laat eval, or - for standard input; or a leaderboard.", show_default=False
        ),
    ] = None,
    leaderboard: Path | None = parameter(
        None,
        "Add every model and group of the reports to this ranking, a .jsonl file, and show it.",
        panel=options.OUTPUT,
    ),
    against: Path | None = parameter(
        None,
        "A CSV file of published figures: measured, published, difference, and what differs in the protocol. "
        "examples/rivals/published.csv is one; README.md in that folder describes the columns.",
    ),
    output: Path = parameter(
        Path("report.html"), "File of --format html; - is standard output.", short=("-o",), panel=options.OUTPUT
    ),
    form: Format = "table",
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of report.json and exit.")] = False,
) -> None:
    """Show reports again, with verdicts and checks; those that were measured alike share a table.

    With --group-by, training runs that differ in the seed alone share a row. Runs
    that were measured or trained differently in anything else are refused.

    A leaderboard is a JSON Lines file. Each line is a report of one model on one
    group of classes. It has a ranking by worst case for each combination of data,
    classes, threat model, suite and protocol.
    """
    grouped = check_groups(context, groups, form)
    if against is not None:
        check_against(context, form)
    if form == HTML:
        console.stdout_taken = str(output) == STDIO
        if not page.adversarial and page.data is None:
            options.refuse_without(context, ("images",), "images", "add --adversarial or --data")
    else:
        check_format(form, console, HTML)
        options.refuse_without(context, ("output", *options.option_names(PageRequest)), "a page", f"add --format {HTML}")
    if schema:
        from stages.reports.records import report_schema

        console.json(report_schema())
        return
    given = _given(reports, leaderboard)
    if leaderboard is not None:
        options.check_places(context, [("--leaderboard", leaderboard)], [("the command", path) for path in given])
        board = _collected(console, given, leaderboard)
        if form == HTML:
            write_page(console, context, [leaderboard], page, output)
        else:
            _show_board(console, board, form)
    elif form == HTML:
        write_page(console, context, given, page, output)
    elif against is not None:
        show_against(console, given, against, form)
    elif grouped:
        show_groups(console, given, groups, form)
    else:
        _show(console, given, form)


def _given(reports: Sequence[Path] | None, leaderboard: Path | None) -> Sequence[Path]:
    """The reports; raises UsageError if there are none, or one is given twice."""
    if not reports:
        show = "" if leaderboard is None else f"; `laat report {leaderboard}` shows the leaderboard"
        raise UsageError("no report was given", f"name a report of laat eval, for example report.json{show}")
    if len(set(reports)) < len(reports):
        raise UsageError("a report is given twice", "name each report once")
    return reports


def _show(console: Console, reports: Sequence[Path], form: str) -> None:
    """Show reports, or a leaderboard."""
    from stages.reports.report import read_report
    from stages.reports.report_tables import report_tables

    if (board := only_leaderboard(reports)) is not None:
        _show_board(console, board, form)
        return
    read = {str(path): read_report(path) for path in reports}
    console.result(_record(report_tables(read)))
    show_reports(console, read, form)


def _collected(console: Console, reports: Sequence[Path], path: Path) -> Leaderboard:
    """The leaderboard at `path` with the results of the reports, written."""
    from stages.reports.leaderboard import add_to_file, check_name
    from stages.reports.report import read_report

    check_name(path)
    refuse_leaderboards(reports, "--leaderboard")
    read = [read_report(one) for one in reports]
    board, new, replaced = add_to_file(path, read)
    console.note(f"{path}: {new} added, {replaced} replaced, {len(board.lines)} in all")
    return board


def _show_board(console: Console, board: Leaderboard, form: str) -> None:
    tables = board.tables()
    console.result(_record(tables))
    show_tables(console, tables, form)


def _record(tables: Sequence[FigureTable]) -> dict[str, object]:
    """Tables with plain numbers as a JSON-able record."""
    plain = ((table, table.plain_numbers()) for table in tables)
    return {
        "kind": "laat-tables",
        "tables": [
            {"title": table.title, "columns": head, "rows": rows, "notes": list(table.notes)} for table, (head, *rows) in plain
        ],
    }
