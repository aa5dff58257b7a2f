"""The one place that prints. Results go to standard output, progress and notes to standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column as TableColumn
from rich.text import Text

from laatcli.layout import Column, table_lines, wrap

__all__ = ["Column", "Console", "ProgressLine", "percent"]

# plain lines of progress: every ten seconds, and later every twentieth of the time so far, at most five minutes
_PLAIN_SECONDS, _PLAIN_SHARE, _PLAIN_MOST = 10.0, 1 / 20, 300.0
_WARNINGS_SHOWN = 10
_BAR_WIDTH = 100  # of a terminal: in a narrower one the figures need the room of the bar


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
        self._err = _Output(stderr=True, highlight=False, soft_wrap=True)  # above the bar, while there is one

    @property
    def human(self) -> bool:
        """Whether tables and notes are wanted."""
        return not self.as_json and not self.quiet

    def note(self, text: str) -> None:
        """A remark on standard error."""
        if not self.quiet:
            self._err.print(_fitted(text, self._err), markup=False)

    def warn(self, text: str) -> None:
        """A remark on standard error that the user should not miss."""
        if not self.quiet:
            _, rest = _fitted(f"warning: {text}", self._err).split(" ", 1)
            self._err.print(f"[yellow]warning:[/yellow] {_escaped(rest)}")

    def warn_each(self, texts: Sequence[str], count: int) -> None:
        """Warnings of one kind, of which there can be very many: the first ten, and how many more of `count` there are."""
        for text in texts[:_WARNINGS_SHOWN]:
            self.warn(text)
        if count > _WARNINGS_SHOWN:
            self.note(f"and {count - _WARNINGS_SHOWN:,} more like these; see --json")

    def error(self, text: str) -> None:
        """One line on standard error, in every mode; a terminal shows it wrapped between words."""
        whose = f"[rank {self.rank}] " if self.rank else ""
        before, error, rest = _fitted(f"{whose}error: {' '.join(text.splitlines())}", self._err).partition("error:")
        self._err.print(f"{_escaped(before)}[red]{error}[/red]{_escaped(rest)}")

    def line(self, text: str) -> None:
        """One line of a human result; on a terminal it is wrapped between words."""
        if self.human:
            out = self._out()
            out.print(_fitted(text, out), markup=False)

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
        """A live bar on a terminal; otherwise a plain line now and then; nothing with --quiet.

        Both show what runs, the share of all of it that is done, the time so far, the time left, and a note.
        """
        if self.quiet or not self._err.is_terminal:
            line = ProgressLine(None, None, what, None if self.quiet else self._err)
            yield line
            line.end()
            return
        # the figures keep their places at 80 columns; only the note may be cut
        columns = (
            TextColumn("{task.description}", table_column=TableColumn(no_wrap=True, min_width=len(what))),
            *([BarColumn(bar_width=10)] if self._err.width >= _BAR_WIDTH else []),
            TextColumn("{task.percentage:>3.0f}%", table_column=TableColumn(no_wrap=True, min_width=4)),
            _Times(table_column=TableColumn(no_wrap=True, min_width=11)),
            TextColumn("{task.fields[note]}", markup=False, table_column=TableColumn(no_wrap=True, overflow="ellipsis")),
        )
        err, self._err = self._err, _Output(stderr=True, highlight=False)
        try:
            with Progress(*columns, console=self._err, transient=True) as bar:
                yield ProgressLine(bar, bar.add_task(what, total=None, note="", first=0.0), what, self._err)
        finally:
            self._err = err

    def _out(self) -> RichConsole:
        return _Output(stderr=self.stdout_taken, highlight=False, soft_wrap=True)


class _Times(ProgressColumn):
    """The time so far and the time left, as in 01:23<00:28."""

    max_refresh = 1.0

    def render(self, task: Task) -> Text:
        """As the bar shows it."""
        elapsed = task.elapsed or 0.0
        left = _left(elapsed, task.fields["first"], task.completed / (task.total or 1))
        return Text(f"{_clock(elapsed)}<{'--:--' if left is None else _clock(left)}")


class ProgressLine:
    """What a stage's progress callback drives."""

    def __init__(self, bar: Progress | None, task: Any, what: str, plain: RichConsole | None) -> None:
        self._bar, self._task, self._what, self._plain = bar, task, what, plain
        self._start = self._last = time.monotonic()
        self._first: float | None = None
        self._shown = False

    def update(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` is done, with a short note: what runs now, and the figures so far."""
        if self._first is None:
            self._first = done / max(total, 1)  # more than 0 where a run is resumed
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, note=note, first=self._first)
            return
        now = time.monotonic()
        elapsed = now - self._start
        if self._plain is None or now - self._last < min(max(_PLAIN_SECONDS, _PLAIN_SHARE * elapsed), _PLAIN_MOST):
            return
        self._last, self._shown = now, True
        left = _left(elapsed, self._first, done / max(total, 1))
        remaining = "" if left is None else f", {_clock(left)} left"
        text = f"{self._what} {100 * done // max(total, 1)}% in {_clock(elapsed)}{remaining}"
        self._plain.print(f"{text}: {note}" if note else text, markup=False)

    def end(self) -> None:
        """The last plain line, where there were others."""
        if self._shown and self._plain is not None:
            self._plain.print(f"{self._what} done in {_clock(time.monotonic() - self._start)}", markup=False)

    def line(self, text: str) -> None:
        """A line that stays, above the bar on a terminal and in a plain log alike."""
        if self._bar is not None:
            self._bar.console.print(_fitted(text, self._bar.console), markup=False, soft_wrap=True)
        elif self._plain is not None:
            self._plain.print(text, markup=False)


def _fitted(text: str, console: RichConsole) -> str:
    """The text, on a terminal wrapped between words; elsewhere a line stays one, for `grep` and the like."""
    lines = text.split("\n")
    fitted = [wrap(line, console.width, "    " if line.startswith(" ") else "") for line in lines]
    return "\n".join(part for line in fitted for part in line) if console.is_terminal else text


def _left(elapsed: float, first: float, done: float) -> float | None:
    """Seconds left of work of which the share `first` was done at the beginning and `done` now; None if nothing was since."""
    return elapsed * (1 - done) / (done - first) if done > first else None


def _clock(seconds: float) -> str:
    """1:23:45 or 01:23."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def percent(value: float, half: float | None = None) -> str:
    """A share as '37.8' or, with the half-width of its interval, '37.8 ± 1.7' (percentage points)."""
    return f"{100 * value:.1f}" if half is None else f"{100 * value:.1f} ± {100 * half:.1f}"
