"""The one place that prints. Results go to standard output, progress and notes to standard error.

All text that is printed may contain names from outside. Here, and nowhere else, characters that a terminal obeys or does not
show are spelled out, and what looks like Rich's markup or an emoji's name is left as it is.
"""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, TextIO

import typer
from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column as TableColumn
from rich.text import Text

from laatcli.layout import Column, table_lines, wrap
from laatcli.streams import fitted, is_utf8
from stages.text import texts_in, visible

__all__ = ["CONSOLE_OPTIONS", "Column", "Console", "ProgressLine", "percent"]

# of every command, for its console
CONSOLE_OPTIONS = {
    "as_json": Annotated[bool, typer.Option("--json", help="Print the result, or the error, as JSON.")],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
}
# plain lines of progress: every ten seconds, and later every twentieth of the time so far, at most five minutes
_PLAIN_SECONDS, _PLAIN_SHARE, _PLAIN_MOST = 10.0, 1 / 20, 300.0
_WARNINGS_SHOWN = 10
_BAR_WIDTH = 100  # of a terminal: in a narrower one the figures need the room of the bar
# what JSON may hold as it is and a terminal should not get: see `stages.text.visible`
_HIDDEN_IN_JSON = re.compile("[\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")


class _Output(RichConsole):
    """Rich ends the process with code 1 when the reader of its output goes away; here the command decides."""

    def __init__(self, *, stderr: bool, soft_wrap: bool = True) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)

    def safe(self, text: str) -> str:
        """Text from outside, as it can be printed: one line."""
        return fitted(visible(text), self.file)

    def wrapped(self, text: str) -> str:
        """The same, on a terminal wrapped between words; elsewhere a line stays one, for `grep` and the like."""
        line = self.safe(text)
        return "\n".join(wrap(line, self.width, "    " if line.startswith(" ") else "")) if self.is_terminal else line

    def on_broken_pipe(self) -> None:
        """Called while the error is handled: let it go on."""
        raise BrokenPipeError


class Console:
    """Human output (tables, a live bar, plain lines when not a terminal), `--json` (one object), or `--quiet` (errors only).

    Args:
        as_json: print the result as one JSON object on standard output and nothing else there.
        quiet: no tables, no notes, no progress.
        rank: of this process among several that do one command together; those above 0 print errors only.
        debug: print the tracebacks of errors.

    Attributes:
        stdout_taken: an artifact is written to standard output, so results go to standard error.
        json_errors: whether errors are JSON, for all consoles of the process.
    """

    json_errors: ClassVar[bool] = False

    def __init__(self, *, as_json: bool = False, quiet: bool = False, rank: int = 0, debug: bool = False) -> None:
        self.rank, self.debug = rank, debug
        self.as_json = as_json and rank == 0
        self.quiet = quiet or rank > 0
        self.stdout_taken = False
        self._errors_as_json = as_json or self.json_errors
        self._err = _Output(stderr=True)  # while a bar is shown: above it

    @property
    def human(self) -> bool:
        """Whether tables and notes are wanted."""
        return not self.as_json and not self.quiet

    def note(self, text: str = "") -> None:
        """A remark on standard error, one line."""
        if not self.quiet:
            self._err.print(self._err.wrapped(text))

    def warn(self, text: str) -> None:
        """A remark on standard error that the user should not miss."""
        if not self.quiet:
            word, rest = self._err.wrapped(f"warning: {text}").split(" ", 1)
            self._err.print(Text.assemble((word, "yellow"), " ", rest))

    def warn_each(self, texts: Sequence[str], count: int) -> None:
        """Warnings of one kind, of which there can be very many: the first ten, and how many more of `count` there are."""
        for text in texts[:_WARNINGS_SHOWN]:
            self.warn(text)
        if count > _WARNINGS_SHOWN:
            self.note(f"and {count - _WARNINGS_SHOWN:,} more like these; see --json")

    def error(self, what: str, fix: str = "", code: int = 1) -> None:
        """One line on standard error, in every mode: a sentence, wrapped on a terminal, or with --json an object.

        Args:
            what: what happened.
            fix: what to do next, if that is known.
            code: the exit code.
        """
        if self._errors_as_json:
            rank = {"rank": self.rank} if self.rank else {}
            _write_json(sys.stderr, {"code": code, "what": what, "fix": fix, **rank}, indent=None)
            return
        text = f"{what}. {fix[0].upper()}{fix[1:]}" if fix else what
        whose = f"[rank {self.rank}] " if self.rank else ""
        before, word, rest = self._err.wrapped(f"{whose}error: {' '.join(text.splitlines())}").partition("error:")
        self._err.print(Text.assemble(before, (word, "red"), rest))

    def traceback(self, error: BaseException) -> None:
        """With --debug, the traceback of an error on standard error."""
        if self.debug:
            traceback.print_exception(error)

    def line(self, text: str) -> None:
        """One line of a human result; on a terminal it is wrapped between words."""
        if self.human:
            out = self._out()
            out.print(out.wrapped(text))

    def lines(self, texts: Iterable[str]) -> None:
        """Lines of a human result as they stand, tabs included: many, for other programs, quickly."""
        if self.human:
            stream = self._stream()
            stream.writelines("\t".join(map(visible, text.split("\t"))) + "\n" for text in texts)
            stream.flush()

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], title: str = "") -> None:
        """A table of a human result, as wide as the terminal, or 80 characters."""
        if not self.human:
            return
        if title:
            self.line(title)
        out = self._out()
        heads = [Column(out.safe(column.name), column.figures) for column in columns]
        for line in table_lines(heads, [[*map(out.safe, row)] for row in rows], out.width):
            out.print(line.text, style="bold" if line.heading else "")

    def document(self, text: str) -> None:
        """A human result that is text for other programs, such as LaTeX, as it stands."""
        if self.human:
            stream = self._stream()
            stream.write(text)
            stream.flush()

    def result(self, record: Mapping[str, Any]) -> None:
        """The result of the command as JSON, printed in `--json` mode alone."""
        if self.as_json:
            self.json(record)

    def json(self, record: Mapping[str, Any]) -> None:
        """JSON in every mode."""
        _write_json(self._stream(), record, indent=2)

    def json_lines(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Results that come one after the other, printed in `--json` mode alone, an object a line."""
        if self.as_json:
            for record in records:
                _write_json(self._stream(), record, indent=None)

    @property
    def on_terminal(self) -> bool:
        """Whether results go to a terminal."""
        return self._out().is_terminal

    @property
    def width(self) -> int:
        """Characters in a line of the terminal."""
        return self._out().width

    @contextmanager
    def progress(self, what: str) -> Iterator[ProgressLine]:
        """A live bar on a terminal; otherwise a plain line now and then; nothing with --quiet.

        Both show what runs, the share of all of it that is done, the time so far, the time left, and a note.
        """
        if self.quiet or not self._err.is_terminal or self._err.is_dumb_terminal:
            line = ProgressLine(None, None, what, None if self.quiet else self._err)
            yield line
            line.end()
            return
        # the figures keep their places at 80 columns; only the note may be cut
        columns = (
            TextColumn("{task.description}", markup=False, table_column=TableColumn(no_wrap=True, min_width=len(what))),
            *([BarColumn(bar_width=10)] if self._err.width >= _BAR_WIDTH else []),
            TextColumn("{task.percentage:>3.0f}%", table_column=TableColumn(no_wrap=True, min_width=4)),
            _Times(table_column=TableColumn(no_wrap=True, min_width=11)),
            TextColumn("{task.fields[note]}", markup=False, table_column=TableColumn(no_wrap=True, overflow="ellipsis")),
        )
        err, self._err = self._err, _Output(stderr=True, soft_wrap=False)
        try:
            with Progress(*columns, console=self._err, transient=True, redirect_stdout=False) as bar:
                yield ProgressLine(bar, bar.add_task(what, total=None, note="", first=0.0), what, self._err)
        finally:
            self._err = err

    def _stream(self) -> TextIO:
        return sys.stderr if self.stdout_taken else sys.stdout

    def _out(self) -> _Output:
        return _Output(stderr=self.stdout_taken)


class _Times(ProgressColumn):
    """The time so far and the time left, as in 01:23<00:28."""

    max_refresh = 1.0

    def render(self, task: Task) -> Text:
        """As the bar shows it."""
        elapsed = task.elapsed or 0.0
        left = _left(elapsed, task.fields["first"], task.completed / task.total) if task.total else None
        return Text(f"{_clock(elapsed)}<{'--:--' if left is None else _clock(left)}")


class ProgressLine:
    """What a stage's progress callback drives."""

    def __init__(self, bar: Progress | None, task: Any, what: str, console: _Output | None) -> None:
        self._bar, self._task, self._what, self._console = bar, task, what, console
        self._start = self._last = time.monotonic()
        self._first: float | None = None
        self._shown = False

    def update(self, done: int, total: int | None, note: str = "") -> None:
        """Show that `done` of `total` is done, with a short note: what runs now, and the figures so far.

        `total` is None where it is not known.
        """
        if self._first is None:
            self._first = done / max(total or 0, 1)  # more than 0 where a run is resumed
        if self._console is None:
            return
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, note=self._console.safe(note), first=self._first)
            return
        now = time.monotonic()
        elapsed = now - self._start
        if now - self._last < min(max(_PLAIN_SECONDS, _PLAIN_SHARE * elapsed), _PLAIN_MOST):
            return
        self._last, self._shown = now, True
        left = None if total is None else _left(elapsed, self._first, done / max(total, 1))
        remaining = "" if left is None else f", {_clock(left)} left"
        share = f"{done:,}" if total is None else f"{100 * done // max(total, 1)}%"
        text = f"{self._what} {share} in {_clock(elapsed)}{remaining}"
        self.line(f"{text}: {note}" if note else text)

    def end(self) -> None:
        """The last plain line, where there were others."""
        if self._shown:
            self.line(f"{self._what} done in {_clock(time.monotonic() - self._start)}")

    def line(self, text: str) -> None:
        """A line that stays, above the bar on a terminal and in a plain log alike."""
        if self._console is not None:
            self._console.print(self._console.wrapped(text), soft_wrap=True)


def _left(elapsed: float, first: float, done: float) -> float | None:
    """Seconds left of work of which the share `first` was done at the beginning and `done` now; None if nothing was since."""
    return elapsed * (1 - done) / (done - first) if done > first else None


def _clock(seconds: float) -> str:
    """1:23:45 or 01:23."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def _write_json(stream: TextIO, record: Mapping[str, Any], indent: int | None) -> None:
    """Write valid JSON with the exact values, whatever the stream's encoding; only names that are no text are spelled out."""
    text = json.dumps(texts_in(record), ensure_ascii=not is_utf8(stream), indent=indent, allow_nan=False)
    stream.write(_HIDDEN_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")
    stream.flush()


def percent(value: float, half: float | None = None) -> str:
    """A share as '37.8' or, with the half-width of its interval, '37.8 ± 1.7' (percentage points)."""
    return f"{100 * value:.1f}" if half is None else f"{100 * value:.1f} ± {100 * half:.1f}"
