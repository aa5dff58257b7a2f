"""What `laat eval` writes and prints: the report, the files beside it and its tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laatcli.console import Column, Console
from laatcli.options import OUTPUT
from stages.errors import ComputeError, UsageError
from stages.files.reading import STDIO
from stages.files.writing import is_device, write_files
from stages.reports import tables
from stages.text import is_text

if TYPE_CHECKING:
    from stages.evaluation.chunks import Chunks
    from stages.evaluation.evaluate import Evaluation
    from stages.identity import Identity
    from stages.launch import Launch
    from stages.reports.records import Report
    from stages.world import World

# how long the processes of one evaluation wait for each other
WAIT_SECONDS = 86400.0

Format = Annotated[
    str,
    typer.Option("--format", help="How tables are printed: table, markdown, csv or latex.", rich_help_panel=OUTPUT),
]


@contextmanager
def working(console: Console, output: Path, device: str, launch: Launch) -> Iterator[Chunks]:
    """A context in which the processes of the launch share an evaluation and keep finished chunks beside the report."""
    from stages.evaluation.chunks import Chunks, SavedChunks, chunks_folder
    from stages.world import join_world

    saved = None if console.stdout_taken else SavedChunks(chunks_folder(output))
    try:
        with join_world(device, launch, step_seconds=WAIT_SECONDS) as world:
            yield Chunks(world, saved)
    except KeyboardInterrupt:
        if saved is not None:
            console.note("stopped: run the same command again to resume")
        raise


def end(console: Console, chunks: Chunks, write: Callable[[], None]) -> None:
    """Write the report on one process, then remove the finished chunks that were kept for it."""
    if chunks.world.leader:
        write()
    chunks.world.barrier()
    if chunks.saved is not None:
        if chunks.saved.found:
            console.note(f"{chunks.saved.found:,} finished chunks of an interrupted evaluation were reused")
        chunks.saved.remove()


def rows_place(asked: Path | None, output: Path) -> Path | None:
    """Where to write the rows; None for `--rows none`, and for a report to standard output or a device, such as /dev/null."""
    if str(asked) == "none" or (asked is None and (str(output) == STDIO or is_device(output))):
        return None
    from stages.reports.row_file import default_rows_path

    path = asked or default_rows_path(output)
    if str(path) == STDIO:
        raise UsageError("--rows cannot be standard output", "name a parquet file, or none")
    if not is_text(os.path.relpath(path, output.parent)):
        raise UsageError(f"'{path}' is not UTF-8, and the report names it", "choose another name with --rows, or --rows none")
    return path


@dataclass(frozen=True)
class Output:
    """Where an evaluation is written (None: not written), and how its plot and tables are shown."""

    report: Path
    rows: Path | None
    episodes: Path | None
    plot: Path | None
    plot_size: str
    form: str

    @property
    def beside(self) -> list[Path]:
        """The files of rows and episodes, as far as they are wanted."""
        return [path for path in (self.rows, self.episodes) if path is not None]

    @property
    def to_stdout(self) -> bool:
        """Whether the report goes to standard output."""
        return str(self.report) == STDIO


def up_to_date(console: Console, world: World, output: Output, identity: Identity) -> tuple[bool, Report | None]:
    """Whether the same report is there already; one process shows and returns it. All processes call it.

    Raises UsageError and InputError, see `earlier_report`.
    """
    from stages.reports.earlier import earlier_report

    found = None
    if world.leader:
        found = earlier_report(output.report, output.beside, identity)
    (there,) = world.any(found is not None)
    if found is None:
        return there, None
    draw_plot(found, output)
    console.result(found.to_record())
    show_reports(console, {str(output.report): found}, output.form)
    show = console.line if output.form == "table" and console.human else console.note
    show(f"{output.report} is up to date: same models, images and parameters (--force evaluates again)")
    return True, found


def draw_plot(report: Report, output: Output) -> None:
    """Plot the report, where a plot is wanted. Raises MissingError if it cannot be written."""
    if output.plot is not None:
        from stages.reports.plots import plot_report

        plot_report(report, output.plot, output.plot_size)


def write_report(console: Console, done: Evaluation, output: Output, *, force: bool) -> None:
    """Write the report, its rows and its episodes together, draw the plot, and show the tables.

    Raises MissingError if a file cannot be written and, without `force`, UsageError if another evaluation wrote to the same
    files meanwhile.
    """
    from stages.reports.earlier import earlier_report
    from stages.reports.report import report_bytes, with_rows
    from stages.reports.verify import with_digest

    report = done.report
    if not force:
        earlier_report(output.report, output.beside, report.identity or {})
    files: dict[Path, bytes] = {}
    if output.rows is not None:
        report, files = with_rows(report, done.rows, output.rows, None if output.to_stdout else output.report)
    draw_plot(report, output)
    report = with_digest(report)
    data = report_bytes(report)
    if output.to_stdout:
        write_files(files)
        typer.get_binary_stream("stdout").write(data)
    else:
        write_files({**files, output.report: data})
    console.result(report.to_record())
    show_reports(console, {str(output.report): report}, output.form)
    if output.form == "table":
        console.line(f"report: {output.report}")


def hold_to(console: Console, report: Report, *, strict_checks: bool, required: Sequence[str]) -> None:
    """Raise ComputeError if checks must pass and do not, RequirementError if a figure misses what is required of it."""
    from stages.reports.report_tables import failed_checks, unchecked

    failed, fix = failed_checks(report), "the report says why; --no-checks leaves them out"
    if strict_checks and failed:
        raise ComputeError(f"checks failed: {', '.join(failed)}", fix)
    if strict_checks and (few := unchecked(report)):
        raise ComputeError(f"too few points to check {'; '.join(few)}", "evaluate more images; --no-checks leaves them out")
    if required:
        from stages.reports.requirements import met_text, require

        if failed:
            console.warn(f"figures are required whose checks failed: {', '.join(failed)}; --strict-checks makes that an error")
        require(report, required)
        console.note(met_text(report, required))


def show_reports(console: Console, reports: Mapping[str, Report], form: str) -> None:
    """Print the tables of reports, by their names, and what their checks found."""
    from stages.reports.report_tables import check_lines, report_tables

    show_tables(console, report_tables(reports), form)
    show = console.line if form == "table" else console.note
    for name, report in reports.items():
        lines = check_lines(report)
        if lines and len(reports) > 1:
            show(f"{name}:")
        for line in lines:
            show(line)


def check_format(form: str, console: Console, *more: str) -> None:
    """Raise UsageError for an unknown format, or one combined with --json; `more` are formats that the command adds."""
    tables.check_format(form, *more)
    if console.as_json and form != "table":
        raise UsageError(f"--json and --format {form} both want standard output", "leave one of them out")


def show_tables(console: Console, found: Sequence[tables.FigureTable], form: str) -> None:
    """Print tables one after the other."""
    for number, table in enumerate(found):
        if number and form != "table":
            console.document("\n")
        show_table(console, table, form)


def show_table(console: Console, table: tables.FigureTable, form: str) -> None:
    """Print a table; the notes of a CSV go to standard error."""
    if form == "table":
        columns = [Column(name, right) for name, right in zip(table.columns, table.figures(), strict=True)]
        console.table(columns, table.texts(), title=table.title)
        for note in table.notes:
            console.line(note)
    elif console.human:
        console.document(tables.render(table, form))
        if form == "csv":
            console.note(table.title)
            for note in table.notes:
                console.note(note)
