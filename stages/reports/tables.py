"""Tables of figures, and their text as console cells, Markdown, CSV and LaTeX. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.errors import UsageError
from stages.text import visible

if TYPE_CHECKING:
    from stages.statistics.over_runs import OverRuns
    from stages.statistics.paired import Paired

FORMATS = ("table", "markdown", "csv", "latex")
# signs with a meaning in a Markdown cell, all of which a backslash takes away
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>&~|$#]")
# what a spreadsheet takes for the beginning of a formula, also after blanks, and the sign that stands before those
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠'\t\r\n]")
MISSING = "–"  # a cell without a figure in a column of figures
_SEPARATORS = re.compile(r'[",;|\t\r\n]')
_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"|": r"\textbar{}", "`": r"\textasciigrave{}", '"': r"\textquotedbl{}"},
    **{"±": r"$\pm$", "−": "$-$", "–": r"\textendash{}", "<": "$<$", ">": "$>$"},
}


@dataclass(frozen=True)
class Figure:
    """A number, its text, and its interval and standard deviation if it has them."""

    value: float
    text: str
    interval: tuple[float, float] | None = None
    sd: float | None = None


def share(value: float, low: float, high: float) -> Figure:
    """An accuracy with its interval, fractions of 1; shown in percent ± the larger side: '37.8 ± 1.7'."""
    return Figure(value, f"{100 * value:.1f} ± {100 * max(high - value, value - low):.1f}", (low, high))


def mean(found: OverRuns) -> Figure:
    """The mean accuracy over training runs in percent, ± the larger side of its interval, and (standard deviation):
    '37.8 ± 1.7 (0.7)'.
    """
    ends = None if found.low is None or found.high is None else (found.low, found.high)
    half = "" if ends is None else f" ± {100 * max(ends[1] - found.mean, found.mean - ends[0]):.1f}"
    deviation = "" if found.sd is None else f" ({100 * found.sd:.1f})"
    return Figure(found.mean, f"{100 * found.mean:.1f}{half}{deviation}", ends, found.sd)


def difference(value: float, low: float, high: float) -> Figure:
    """A difference of two accuracies with its interval, shown in percentage points: '+2.1 [−0.3, +4.5]'."""
    return Figure(value, f"{_signed(value)} [{_signed(low)}, {_signed(high)}]", (low, high))


def difference_of(paired: Paired) -> Figure:
    """As `difference`."""
    return difference(paired.difference, paired.low, paired.high)


def p_value(value: float) -> Figure:
    """A p-value, as '0.0123' or '< 0.0001'."""
    return Figure(value, "< 0.0001" if value < 0.0001 else f"{value:.4f}")


def percent(value: float) -> Figure:
    """A fraction of 1 without an interval, shown in percent: '6.2'."""
    return Figure(value, f"{100 * value:.1f}")


Cell = str | int | Figure


@dataclass(frozen=True)
class FigureTable:
    """Figures in rows.

    Attributes:
        title: one line.
        columns: headings; text columns come first.
        rows: one cell per column.
        notes: what a reader must know, one line each; the interval first.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def figures(self) -> tuple[bool, ...]:
        """Which columns hold figures (right-aligned), some of which may be missing."""
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.columns)
        return tuple(all(cell == MISSING or not isinstance(cell, str) for cell in cells) for cells in columns)

    def texts(self) -> list[list[str]]:
        """The cells as people read them."""
        return [[_text(cell) for cell in row] for row in self.rows]

    def plain_numbers(self) -> list[list[Any]]:
        """Headings and rows with plain numbers: fractions of 1; the ends of an interval and the standard deviation in columns
        of their own."""
        lines: list[list[Any]] = [[] for _ in (self.columns, *self.rows)]
        for at, name in enumerate(self.columns):
            cells = [row[at] for row in self.rows]
            figures = [cell for cell in cells if isinstance(cell, Figure)]
            spread, deviates = any(one.interval for one in figures), any(one.sd is not None for one in figures)
            lines[0] += [name, *[f"{name} low", f"{name} high"] * spread, *[f"{name} sd"] * deviates]
            for cell, line in zip(cells, lines[1:], strict=True):
                value, ends, sd = (cell.value, cell.interval, cell.sd) if isinstance(cell, Figure) else (cell, None, None)
                line += [value, *(ends or ("", "")) * spread, *["" if sd is None else sd] * deviates]
        return lines


def check_format(name: str, *more: str) -> None:
    """Raise UsageError unless `name` is a format, or one of `more` that the command knows."""
    if name not in (*FORMATS, *more):
        raise UsageError(f"unknown format '{name}'", f"known formats: {', '.join((*FORMATS, *more))}")


def render(table: FigureTable, form: str) -> str:
    """The table as 'markdown', 'csv' or 'latex' text with a final newline.

    CSV has plain numbers (accuracies as fractions of 1, intervals in columns of their own) and no notes; the others show
    what the console shows. Characters that do not show are spelled out in all three (see `stages.text.visible`).

    In CSV, text that a spreadsheet would take for a formula, or that begins with an apostrophe, has an apostrophe in front: the
    text is what follows the first one.
    """
    return {"markdown": _markdown, "csv": _csv, "latex": _latex}[form](table)


def markdown_text(text: str) -> str:
    """Text from outside as one line of Markdown that shows it as it is."""
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", visible(text))


def _markdown(table: FigureTable) -> str:
    plain = markdown_text

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    # only names may have such signs; those of figures mean nothing here
    rows = [
        [plain(cell) if isinstance(cell, str) else text for cell, text in zip(row, texts, strict=True)]
        for row, texts in zip(table.rows, table.texts(), strict=True)
    ]
    rule = line(["---:" if right else "---" for right in table.figures()])
    notes = [f"\n{plain(note)}" for note in table.notes]
    return "\n".join([f"{plain(table.title)}\n", line([*map(plain, table.columns)]), rule, *map(line, rows), *notes]) + "\n"


def _latex(table: FigureTable) -> str:
    def plain(text: str) -> str:
        return "".join(_LATEX.get(sign, sign) for sign in visible(text)).replace("--", "-{}-")

    def line(cells: Sequence[str]) -> str:
        first, *others = map(plain, cells)
        # a bracket or a star at the beginning of a line belongs to the command before it
        first = f"{{{first[0]}}}{first[1:]}" if first[:1] in ("[", "*") else first
        return " & ".join([first, *others]) + r" \\"

    comments = [f"% {visible(text)}" for text in (table.title, *table.notes)]
    places = "".join("r" if right else "l" for right in table.figures())
    head = [rf"\begin{{tabular}}{{{places}}}", r"\toprule", line(table.columns), r"\midrule"]
    return "\n".join([*comments, *head, *map(line, table.texts()), r"\bottomrule", r"\end{tabular}"]) + "\n"


def _csv(table: FigureTable) -> str:
    return "".join(map(csv_line, table.plain_numbers()))


def csv_line(cells: Iterable[Any]) -> str:
    """One line of CSV, its text escaped as `render` says; None is an empty cell."""
    return ",".join("" if cell is None else _csv_cell(cell) for cell in cells) + "\n"


def csv_path(path: str) -> str:
    """A cell of CSV with the path of a file, every character kept; './' in front of what would be a formula names the same."""
    return _quoted(f"./{path}" if _FORMULA.match(path) else path)


def _csv_cell(cell: Any) -> str:
    return _quoted(f"{chr(39) if _FORMULA.match(cell) else ''}{visible(cell)}") if isinstance(cell, str) else str(cell)


def _quoted(text: str) -> str:
    # also where another separator than the comma would divide it, as in many countries
    return '"{}"'.format(text.replace('"', '""')) if _SEPARATORS.search(text) else text


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else f"{cell:,}" if isinstance(cell, int) else cell.text


def _signed(value: float) -> str:
    rounded = round(100 * value, 1)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else ''}{abs(rounded):.1f}"
