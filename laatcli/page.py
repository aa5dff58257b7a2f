"""`laat report --format html`: one file with tables, charts, checks, lineage and images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from laatcli import options
from laatcli.console import Console
from laatcli.leaderboards import only_leaderboard
from stages.files.reading import STDIO
from stages.files.writing import write_file
from stages.reports.page.request import PageRequest
from stages.text import counted

if TYPE_CHECKING:
    from stages.reports.page.content import Content, Group
    from stages.reports.records import Report

HTML = "html"


def write_page(console: Console, context: typer.Context, sources: Sequence[Path], request: PageRequest, output: Path) -> None:
    """Write the page of reports, or of a leaderboard.

    Args:
        console: where the result goes.
        context: of the command.
        sources: reports, or one leaderboard.
        request: the runs and images to show.
        output: the file, - for standard output.

    Raises UsageError for places that are given twice, InputError for a file that cannot be read, MissingError for one that
    cannot be written.
    """
    runs, images = ([*(paths or ())] for paths in (request.run, request.adversarial))
    read = [("REPORT", path) for path in sources]
    read += [("--run", path / "metrics.jsonl") for path in runs] + [("--adversarial", path) for path in images]
    options.check_places(context, [("--output", output)], read)
    from stages.reports.page.content import page_content
    from stages.reports.page.render import render_page

    groups, paths = _groups(sources)
    content = page_content(groups, paths, request)
    data = render_page(content)
    if str(output) == STDIO:
        typer.get_binary_stream("stdout").write(data)
    else:
        write_file(output, data)
    _show(console, content, sources, output, len(data))


def _groups(sources: Sequence[Path]) -> tuple[list[Group], dict[Path, Report]]:
    """The reports in groups, and those that are files."""
    from stages.reports.page.content import groups_in, groups_of
    from stages.reports.report import read_report

    if (board := only_leaderboard(sources)) is not None:
        return groups_in(board), {}
    reports = {path: read_report(path) for path in sources}
    files = {path: report for path, report in reports.items() if str(path) != STDIO}
    return groups_of({str(path): report for path, report in reports.items()}), files


def _show(console: Console, content: Content, sources: Sequence[Path], output: Path, size: int) -> None:
    shown = sum(len(one.pictures) for one in content.galleries)
    console.result(
        {
            "kind": "laat-page",
            "output": str(output),
            "bytes": size,
            "reports": [str(path) for path in sources],
            "security_curves": len(content.security),
            "images": shown,
            "learning_curves": content.learning is not None,
        }
    )
    parts = [
        *["accuracy over eps"] * bool(content.security),
        *[f"{shown:,} images"] * bool(content.galleries),
        *["learning curves"] * (content.learning is not None),
    ]
    extra = f", {', '.join(parts)}" if parts else ""
    named = counted(len(sources), "file")
    console.line(f"{output}: tables, charts, checks and lineage of {named}{extra}; {size / 1e6:.1f} MB")
