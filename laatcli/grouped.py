"""`laat report --group-by` and `--against`: rows of several training runs, and measured against published figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from laatcli import options
from laatcli.console import Console
from laatcli.leaderboards import refuse_leaderboards
from laatcli.page import HTML
from laatcli.reporting import show_tables
from stages.errors import UsageError
from stages.reports.group_request import GroupRequest


def show_groups(console: Console, reports: Sequence[Path], request: GroupRequest, form: str) -> None:
    """Show the reports in groups. Raises UsageError and InputError as `group_reports`."""
    from stages.reports.group_tables import group_reports, group_tables
    from stages.reports.report import read_report

    refuse_leaderboards(reports, "--group-by")
    keys, over = request.entries()
    found = group_reports({str(path): read_report(path) for path in reports}, keys, over, request.baseline)
    console.result(found.to_record())
    show_tables(console, group_tables(found), form)


def show_against(console: Console, reports: Sequence[Path], published: Path, form: str) -> None:
    """Show the reports against published figures. Raises UsageError for a leaderboard, InputError for a damaged file."""
    from stages.reports.against import against_published, against_tables
    from stages.reports.published import read_published
    from stages.reports.report import read_report

    refuse_leaderboards(reports, "--against")
    rows = read_published(published)
    found, notes = against_published({str(path): read_report(path) for path in reports}, rows)
    console.result({"kind": "laat-against", "results": [one.to_record() for one in found], "notes": notes})
    show_tables(console, against_tables(found, notes), form)
    for note in () if found else notes:
        console.warn(note)


def check_against(context: typer.Context, form: str) -> None:
    """Raise UsageError for options that do not go with --against."""
    options.refuse_given(context, ("group_by", "leaderboard", "schema"), "--against")
    _refuse_page("--against", form)


def check_groups(context: typer.Context, request: GroupRequest, form: str) -> bool:
    """Whether rows of several runs are wanted. Raises UsageError for options that do not go together."""
    if request.group_by is None:
        options.refuse_without(context, ("over", "baseline"), "--group-by", "for example --group-by objective,anchors")
        return False
    options.refuse_given(context, ("leaderboard", "schema"), "--group-by")
    _refuse_page("--group-by", form)
    return True


def _refuse_page(option: str, form: str) -> None:
    if form == HTML:
        what = f"the page of --format {HTML} does not have the tables of {option}"
        raise UsageError(what, f"print them with --format markdown, csv or latex, or leave {option} out")
