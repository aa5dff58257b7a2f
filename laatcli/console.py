"""The one place that prints. Results go to standard output, progress and notes to standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column as TableColumn

from laatcli.layout import Column, table_lines, wrap

__all__ = ["Column", "Console", "ProgressLine", "percent"]

_PLAIN_EVERY_SECONDS = 10.0
_WARNINGS_SHOWN = 10


class _Output(RichConsole):
    """Rich ends the process with code 1 when the reader of its output goes away; here the command decides."""

    def on_broken_pipe(self) -> None:
        """Called while the error is handled: let it go on."""
        raise BrokenPipeError


class Console:
    """Human output (tables, a live bar, plain lines when not a terminal), `--json` (one object), or `--quiet` (errors only).

    Args:
        as_json: print the result as one JSON object on standard output and nothing else there.
        quiet: no tables, no notes, no progress.
        rank: of this process among several that do one command together; those above 0 print errors only.
        stdout_taken: an artifact is written to standard output, so results go to standard error.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, rank: int = 0) -> None:
        self.rank = rank
        self.as_json = as_json and rank == 0
        self.quiet = quiet or rank > 0
        self.stdout_taken = False
        self._err = _Output(stderr=True, highlight=False, soft_wrap=True)

    @property
    def human(self) -> bool:
        """Whether tables and notes are wanted."""
        return not self.as_json and not self.quiet

    def note(self, text: str) -> None:
        """A remark on standard error."""
        if not self.quiet:
            self._err.print(text, markup=False)

    def warn(self, text: str) -> None:
        """A remark on standard error that the user should not miss."""
        if not self.quiet:
            self._err.print(f"[yellow]warning:[/yellow] {_escaped(text)}")

    def warn_each(self, texts: Sequence[str], count: int) -> None:
        """Warnings of one kind, of which there can be very many: the first ten, and how many more of `count` there are."""
        for text in texts[:_WARNINGS_SHOWN]:
            self.warn(text)
        if count > _WARNINGS_SHOWN:
            self.note(f"and {count - _WARNINGS_SHOWN:,} more like these; see --json")

    def error(self, text: str) -> None:
        """One line on standard error, in every mode."""
        whose = _escaped(f"[rank {self.rank}] ") if self.rank else ""
        self._err.print(f"{whose}[red]error:[/red] {_escaped(' '.join(text.splitlines()))}")

    def line(self, text: str) -> None:
        """One line of a human result; on a terminal it is wrapped between words."""
        if self.human:
            out = self._out()
            lines = wrap(text, out.width, "    " if text.startswith(" ") else "") if out.is_terminal else [text]
            out.print("\n".join(lines), markup=False)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], title: str = "") -> None:
        """A table of a human result, as wide as the terminal, or 80 characters."""
        if not self.human:
            return
        if title:
            self.line(title)
        out = self._out()
        for line in table_lines(columns, rows, out.width):
            out.print(line.text, style="bold" if line.heading else "", markup=False)

    def result(self, record: Mapping[str, Any]) -> None:
        """The result of the command as JSON, printed in `--json` mode alone."""
        if self.as_json:
            stream = sys.stderr if self.stdout_taken else sys.stdout
            json.dump(record, stream, ensure_ascii=False, indent=2, allow_nan=False)
            stream.write("\n")
            stream.flush()

    @contextmanager
    def progress(self, what: str) -> Iterator[ProgressLine]:
        """A live bar on a terminal; a plain line every ten seconds otherwise; nothing with --quiet."""
        if self.quiet or not self._err.is_terminal:
            yield ProgressLine(None, None, what, None if self.quiet else self._err)
            return
        # the figures keep their places at 80 columns; only the note may be cut
        columns = (
            TextColumn("{task.description}", table_column=TableColumn(no_wrap=True)),
            BarColumn(bar_width=10),
            TextColumn("{task.percentage:>3.0f}%", table_column=TableColumn(no_wrap=True, min_width=4)),
            TextColumn("ETA"),
            TimeRemainingColumn(table_column=TableColumn(no_wrap=True, min_width=7)),
            TextColumn("{task.fields[note]}", markup=False, table_column=TableColumn(no_wrap=True, overflow="ellipsis")),
        )
        live_console = RichConsole(stderr=True, highlight=False)
        with Progress(*columns, console=live_console, transient=True) as bar:
            yield ProgressLine(bar, bar.add_task(what, total=None, note=""), what, self._err)

    def _out(self) -> RichConsole:
        return _Output(stderr=self.stdout_taken, highlight=False, soft_wrap=True)


class ProgressLine:
    """What a stage's progress callback drives."""

    def __init__(self, bar: Progress | None, task: Any, what: str, plain: RichConsole | None) -> None:
        self._bar, self._task, self._what, self._plain = bar, task, what, plain
        self._start = self._last = time.monotonic()

    def update(self, done: int, total: int, note: str = "", what: str = "") -> None:
        """Show that `done` of `total` is done, with a short note (figures so far) and, if it changed, what is being done."""
        self._what = what or self._what
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, note=note, description=self._what)
            return
        now = time.monotonic()
        if self._plain is None or now - self._last < _PLAIN_EVERY_SECONDS:
            return
        self._last = now
        left = (now - self._start) * (total - done) / max(done, 1)
        self._plain.print(f"{self._what}: {100 * done // max(total, 1)}%, ETA {left:.0f} s  {note}".rstrip(), markup=False)

    def line(self, text: str) -> None:
        """A line that stays, above the bar on a terminal and in a plain log alike."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, soft_wrap=True)
        elif self._plain is not None:
            self._plain.print(text, markup=False)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def percent(value: float, half: float | None = None) -> str:
    """A share as '37.8' or, with the half-width of its interval, '37.8 ± 1.7' (percentage points)."""
    return f"{100 * value:.1f}" if half is None else f"{100 * value:.1f} ± {100 * half:.1f}"
