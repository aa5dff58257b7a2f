"""Published figures in a CSV file: one figure a row, with what it was measured on and how surely it is known. No torch."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path

from stages.errors import InputError, LaatError
from stages.files.reading import read_file
from stages.text import decode_text, listed, visible
from stages.threat import format_eps, parse_eps

CLEAN, ROBUST = METRICS = ("clean", "robust")
# how surely a figure is known
CERTAINTIES = {
    "authors": "read in the paper or the repository of its authors",
    "second-hand": "read in a summary or a table of others, and not compared with the original",
    "unverified": "noted without its source",
}


@dataclass(frozen=True)
class Published:
    """One row. Empty text is 'not stated', in every column that may be empty.

    Attributes:
        method: for example TeCoA.
        paper: where the figure was published, which need not be the paper of the method.
        table: of the paper.
        data: the data set, or of an average the data sets.
        trained_on: data set of the training.
        backbone: for example ViT-B/32.
        train_eps: L-inf radius of the attack in training.
        shots: support images a class; 0 is zero-shot.
        ways: candidate classes.
        norm, eps: the threat model; empty for a clean figure, and where it is not stated.
        attack: empty for a clean figure.
        metric: clean or robust, an accuracy.
        figure: in percent.
        source: address.
        certainty: one of `CERTAINTIES`.
    """

    method: str
    paper: str
    table: str
    data: str
    trained_on: str
    backbone: str
    train_eps: str
    shots: str
    ways: str
    norm: str
    eps: str
    attack: str
    metric: str
    figure: str
    source: str
    certainty: str

    @property
    def accuracy(self) -> float:
        """As a fraction of 1."""
        return float(self.figure) / 100


COLUMNS = tuple(one.name for one in fields(Published))
_NEEDED = ("method", "paper", "data", "metric", "figure", "source", "certainty")


def read_published(path: Path) -> list[Published]:
    """Read a file of published figures, strictly.

    Raises InputError, with the line, for other columns than `COLUMNS`, an empty cell that must not be, a figure that is no
    percentage, an eps or a number that is none, an unknown metric or certainty, and a row that is there twice.
    """
    where, fix = f"'{path}'", f"its columns are {','.join(COLUMNS)}"
    text = decode_text(read_file(path), "file of published figures", path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} of {where} is no CSV: {error}", fix) from None
    if not lines or tuple(cell.strip() for cell in lines[0][1]) != COLUMNS:
        head = ", ".join(lines[0][1]) if lines else "nothing"
        raise InputError(f"{where} begins with other columns: {visible(head)[:120]}", fix)
    found: dict[Published, int] = {}
    for number, cells in lines[1:]:
        if len(cells) != len(COLUMNS):
            raise InputError(f"line {number} of {where} has {len(cells)} cells, expected {len(COLUMNS)}", fix)
        row = Published(**{name: cell.strip() for name, cell in zip(COLUMNS, cells, strict=True)})
        reason = _fault(row)
        if reason:
            raise InputError(f"line {number} of {where}: {reason}", "correct the line, or leave it out")
        if row in found:
            raise InputError(f"line {number} of {where} is the same as line {found[row]}", "leave one of them out")
        found[row] = number
    if not found:
        raise InputError(f"{where} has no figure", "add a line for each figure")
    return list(found)


def _fault(row: Published) -> str:
    """What is wrong with a row; '' for nothing."""
    empty = [name for name in _NEEDED if not getattr(row, name)]
    empty += ["attack"] if row.metric == ROBUST and not row.attack else []
    if empty:
        return f"{listed(empty)} must not be empty"
    number = next((name for name in ("shots", "ways") if getattr(row, name) and not getattr(row, name).isdecimal()), "figure")
    faults = {
        f"the metric is '{row.metric}', expected {' or '.join(METRICS)}": row.metric not in METRICS,
        f"the certainty is '{row.certainty}', expected one of {', '.join(CERTAINTIES)}": row.certainty not in CERTAINTIES,
        "a clean figure has no norm, eps and attack": row.metric == CLEAN and bool(row.eps or row.attack or row.norm),
        f"the figure is '{row.figure}', expected a percentage from 0 to 100": not _is_percentage(row.figure),
        f"{number} is '{getattr(row, number)}', expected a whole number": number != "figure",
    }
    said = next((text for text, wrong in faults.items() if wrong), "")
    return said or _eps_fault(row, "eps") or _eps_fault(row, "train_eps")


def _is_percentage(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and 0 <= value <= 100


def _eps_fault(row: Published, name: str) -> str:
    """What is wrong with an eps, which is written in its shortest form: 1/255."""
    text, norm = getattr(row, name), row.norm or "Linf"
    if not text:
        return ""
    try:
        given: Fraction = parse_eps(text, norm)
    except (LaatError, KeyError) as error:
        return f"{name}: {getattr(error, 'what', f'unknown norm {norm}')}"
    return "" if format_eps(given, norm) == text else f"{name} is '{text}', expected '{format_eps(given, norm)}'"
