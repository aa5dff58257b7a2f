"""Tables of figures, and their text as console cells, Markdown, CSV and LaTeX. No torch."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from stages.errors import UsageError

FORMATS = ("table", "markdown", "csv", "latex")
_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "−": "$-$", "–": "--", "<": "$<$", ">": "$>$"},
}


@dataclass(frozen=True)
class Share:
    """An accuracy with its interval, fractions of 1; shown in percent ± the larger side."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        """As '37.8 ± 1.7'."""
        half = max(self.high - self.value, self.value - self.low)
        return f"{100 * self.value:.1f} ± {100 * half:.1f}"


@dataclass(frozen=True)
class Difference:
    """A difference of two accuracies with its interval, fractions of 1; shown in percentage points."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        """As '+2.1 [−0.3, +4.5]'."""
        return f"{_signed(self.value)} [{_signed(self.low)}, {_signed(self.high)}]"


@dataclass(frozen=True)
class Chance:
    """A p-value."""

    value: float

    def text(self) -> str:
        """As '0.0123' or '< 0.0001'."""
        return "< 0.0001" if self.value < 0.0001 else f"{self.value:.4f}"


@dataclass(frozen=True)
class Percent:
    """A fraction of 1 without an interval, shown in percent."""

    value: float

    def text(self) -> str:
        """As '6.2'."""
        return f"{100 * self.value:.1f}"


Cell = str | int | Share | Difference | Chance | Percent


@dataclass(frozen=True)
class FigureTable:
    """Figures in rows.

    Attributes:
        title: one line.
        columns: headings; text columns come first.
        rows: a cell a column.
        notes: what a reader must know, one line each; the interval first.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def figures(self) -> tuple[bool, ...]:
        """Which columns hold figures (right-aligned)."""
        return tuple(all(not isinstance(row[at], str) for row in self.rows) for at in range(len(self.columns)))

    def texts(self) -> list[list[str]]:
        """The cells as people read them."""
        return [[_text(cell) for cell in row] for row in self.rows]

    @property
    def width(self) -> int:
        """Characters of the widest line as plain text, two blanks between columns."""
        heads = [max(map(len, name.split("\n"))) for name in self.columns]
        return sum(max(head, cell) + 2 for head, cell in zip(heads, self._cell_widths(), strict=True)) - 2

    def _cell_widths(self) -> list[int]:
        return [max((len(line[at]) for line in self.texts()), default=0) for at in range(len(self.columns))]

    def within(self, width: int) -> FigureTable:
        """This table where it is no wider than `width` characters, if need be with headings of several lines; else, if its
        rows are made of accuracies, the same figures one below the other."""
        if self.width <= width:
            return self
        names = zip(self.columns, self._cell_widths(), strict=True)
        folded = replace(self, columns=tuple(_folded(name, room) for name, room in names))
        return folded if folded.width <= width else self._long()

    def _long(self) -> FigureTable:
        figures = self.figures()
        labels = [at for at, one in enumerate(figures) if not one]
        accuracies = sum(any(isinstance(row[at], Share) for row in self.rows) for at in range(len(self.columns)))
        if accuracies < 2:
            return self
        rows: list[tuple[Cell, ...]] = []
        for row in self.rows:
            for number, at in enumerate(at for at, one in enumerate(figures) if one):
                rows.append((*("" if number else row[label] for label in labels), self.columns[at], row[at]))
        return FigureTable(self.title, (*(self.columns[at] for at in labels), "measure", "%"), tuple(rows), self.notes)


def check_format(name: str) -> None:
    """Raise UsageError unless `name` is a format."""
    if name not in FORMATS:
        raise UsageError(f"unknown format '{name}'", f"known formats: {', '.join(FORMATS)}")


def render(table: FigureTable, form: str) -> str:
    """The table as 'markdown', 'csv' or 'latex' text with a final newline.

    CSV has plain numbers (accuracies as fractions of 1, intervals in columns of their own) and no notes; the others show
    what the console shows.

    Raises UsageError for another format.
    """
    check_format(form)
    return {"markdown": _markdown, "csv": _csv, "latex": _latex, "table": _plain}[form](table)


def _plain(table: FigureTable) -> str:
    lines = [table.columns, *table.texts()]
    widths = [max(len(line[at]) for line in lines) for at in range(len(table.columns))]
    shown = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, table.figures(), strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([table.title, *shown, *table.notes]) + "\n"


def _markdown(table: FigureTable) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rule = line(["---:" if right else "---" for right in table.figures()])
    notes = [f"\n{note}" for note in table.notes]
    return "\n".join([f"{table.title}\n", line(table.columns), rule, *map(line, table.texts()), *notes]) + "\n"


def _latex(table: FigureTable) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(_LATEX.get(sign, sign) for sign in cell) for cell in cells) + r" \\"

    comments = [f"% {text}" for text in (table.title, *table.notes)]
    places = "".join("r" if right else "l" for right in table.figures())
    head = [rf"\begin{{tabular}}{{{places}}}", r"\toprule", line(table.columns), r"\midrule"]
    return "\n".join([*comments, *head, *map(line, table.texts()), r"\bottomrule", r"\end{tabular}"]) + "\n"


def _csv(table: FigureTable) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(plain_numbers(table))
    return stream.getvalue()


def plain_numbers(table: FigureTable) -> list[list[Any]]:
    """Headings and rows with plain numbers: fractions of 1, and the ends of an interval in columns of their own."""
    heads: list[Any] = []
    rows: list[list[Any]] = [[] for _ in table.rows]
    for at, name in enumerate(table.columns):
        spread = any(isinstance(row[at], Share | Difference) for row in table.rows)
        heads += [name, f"{name} low", f"{name} high"] if spread else [name]
        for row, out in zip(table.rows, rows, strict=True):
            cell = row[at]
            if isinstance(cell, Share | Difference):
                out += [cell.value, cell.low, cell.high]
            else:
                out += [cell.value if isinstance(cell, Chance | Percent) else cell, *([""] * 2 * spread)]
    return [heads, *rows]


def _folded(name: str, room: int) -> str:
    """A heading in lines of about `room` characters, broken behind its hyphens alone."""
    lines = [""]
    for part in re.findall(r"[^-]*-|[^-]+", name):
        if lines[-1] and len(lines[-1]) + len(part) > room:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _text(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else cell.text()


def _signed(value: float) -> str:
    rounded = round(100 * value, 1)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else ''}{abs(rounded):.1f}"
