"""`--format`: tables of figures on the console, or as Markdown, CSV or LaTeX on standard output."""

from __future__ import annotations

from typing import Annotated

import typer

from laatcli.console import Column, Console
from laatcli.options import OUTPUT
from stages.errors import UsageError
from stages.reports import tables

Format = Annotated[
    str,
    typer.Option("--format", help="How tables are printed: table, markdown, csv or latex.", rich_help_panel=OUTPUT),
]


def check_format(form: str, console: Console) -> None:
    """Raise UsageError for an unknown format, or one beside --json."""
    tables.check_format(form)
    if console.as_json and form != "table":
        raise UsageError(f"--json and --format {form} both want standard output", "leave one of them out")


def show_table(console: Console, table: tables.FigureTable, form: str) -> None:
    """Print a table, one too wide for the terminal with its figures one below the other; the notes of a CSV go to standard
    error."""
    if form == "table":
        table = table.within(console.width)
        columns = [Column(name, right) for name, right in zip(table.columns, table.figures(), strict=True)]
        console.table(columns, table.texts(), title=table.title)
        for note in table.notes:
            console.line(note)
    elif console.human:
        typer.echo(tables.render(table, form), nl=False, err=console.stdout_taken)
        if form == "csv":
            console.note(table.title)
            for note in table.notes:
                console.note(note)
