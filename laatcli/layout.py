"""How a table is laid out in the width that there is: side by side, or one row below the other. No word is ever broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

_GAPS = (2, 1)  # blanks between columns: one where that saves the table


@dataclass(frozen=True)
class Column:
    """One column of a table: its heading and whether it holds figures (right-aligned, never in several lines)."""

    name: str
    figures: bool = False


@dataclass(frozen=True)
class Line:
    """A line of a table, and whether it is a heading."""

    text: str
    heading: bool = False


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """The text in lines of at most `width` characters, broken at blanks only; a longer word has a line of its own.

    Lines after the first begin with `indent`.
    """
    lead = text[: len(text) - len(text.lstrip(" "))]
    lines: list[str] = []
    line = ""
    for word in text[len(lead) :].split(" "):
        start = indent if lines else lead
        if line and cell_len(f"{start}{line} {word}") > width:
            lines.append(start + line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, (indent if lines else lead) + line]


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[Line]:
    """The lines of a table in `width` characters.

    Headings and cells of text are wrapped at blanks. If the longest words and the figures still do not fit beside each other,
    every row becomes a block: its first cell, then a line for each other column. A table of names and values stays one.
    """
    for gap in _GAPS:
        widths = _widths(columns, rows, width - gap * (len(columns) - 1))
        if widths is not None:
            return _side_by_side(columns, rows, widths, " " * gap)
    return _pairs(columns, rows, width) if len(columns) == 2 else _blocks(columns, rows, width)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """The width of each column; None if there is no room for the longest words."""
    least, most = [], []
    for at, column in enumerate(columns):
        cells = [row[at] for row in rows]
        whole = cells if column.figures else [word for cell in cells for word in cell.split(" ")]
        least.append(max(map(cell_len, [*column.name.split(" "), *whole]), default=0))
        most.append(max(map(cell_len, [column.name, *cells]), default=0))
    if sum(least) > room:
        return None
    widths, spare = list(least), room - sum(least)
    lacking = sorted(range(len(widths)), key=lambda at: most[at] - least[at])
    for rank, at in enumerate(lacking):  # equal shares, so that short columns are not wrapped for the sake of long ones
        given = min(most[at] - least[at], spare // (len(widths) - rank))
        widths[at] += given
        spare -= given
    return widths


def _side_by_side(columns: Sequence[Column], rows: Sequence[Sequence[str]], widths: Sequence[int], gap: str) -> list[Line]:
    def lines(cells: Sequence[str]) -> list[str]:
        parts = [wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
        height = max(map(len, parts), default=0)
        padded = [part + [""] * (height - len(part)) for part in parts]
        return [gap.join(map(_pad, line, columns, widths)).rstrip() for line in zip(*padded, strict=True)]

    heading = [Line(text, heading=True) for text in lines([column.name for column in columns])]
    return [*heading, *(Line(text) for row in rows for text in lines(row))]


def _pad(text: str, column: Column, width: int) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if column.figures else text + blanks


def _pairs(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[Line]:
    """Names and values."""
    lines = [(columns[0].name, columns[1].name), *((name, value) for name, value in rows)]
    names = min(width // 2, max(cell_len(name) for name, _ in lines)) + 2
    return [Line(text, heading=not at) for at, (name, value) in enumerate(lines) for text in _entry(name, value, names, width)]


def _blocks(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[Line]:
    """The first cell of a row, then a line for each other column."""
    names = min(width // 2, max((cell_len(column.name) + 2 for column in columns[1:]), default=0)) + 2
    lines = []
    for row in rows:
        title = f"{columns[0].name}: {row[0]}" if columns[0].name else row[0]
        lines += [Line(text, heading=True) for text in wrap(title, width, "    ")]
        for column, cell in zip(columns[1:], row[1:], strict=True):
            lines += [Line(text) for text in _entry(f"  {column.name}", cell, names, width)]
    return lines


def _entry(name: str, value: str, names: int, width: int) -> list[str]:
    """A name and its value, beside it or, if a word is longer than there is room for, below it."""
    if max(map(cell_len, value.split(" "))) <= width - names and cell_len(name) < names:
        first, *rest = wrap(value, width - names)
        return [f"{name}{' ' * (names - cell_len(name))}{first}".rstrip(), *(" " * names + text for text in rest)]
    return [*wrap(name, width, "  "), *("      " + text for text in wrap(value, width - 6))]
