"""metrics.jsonl of a run folder: one epoch a line, read strictly. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import PositiveInt

from stages.errors import InputError
from stages.files.reading import read_file
from stages.files.records import Record, Share, parse_record

_AGAIN = "train again"

BEST, METRICS = "model.st", "metrics.jsonl"  # in a run folder


class EpochMetrics(Record, extra="ignore"):
    """What a line must have. Accuracies are fractions of 1, null where none was measured."""

    epoch: PositiveInt
    loss: float | None
    train_clean: Share | None
    train_robust: Share | None
    selection_clean: Share | None
    selection_robust: Share | None
    best_so_far: bool
    collapsed: bool = False
    """Catastrophic overfitting, see `stages.training.reports.collapse`; earlier versions did not look for it."""


def check_epochs(epochs: Sequence[EpochMetrics]) -> None:
    """Raise ValueError unless the epochs count from 1 and the first one is the best so far."""
    for number, one in enumerate(epochs, 1):
        if one.epoch != number:
            raise ValueError(f"entry {number} is epoch {one.epoch}, expected {number}")
    if epochs and not epochs[0].best_so_far:
        raise ValueError("the first epoch is not marked as the best so far")


def read_epochs(path: Path) -> list[EpochMetrics]:
    """The epochs of a metrics.jsonl. Raises InputError, naming the first line that is not an epoch's."""
    lines = read_file(path).split(b"\n")
    if lines[-1]:
        raise InputError(f"'{path}' line {len(lines)} is cut off", "train again, or remove that line")
    if len(lines) == 1:
        raise InputError(f"'{path}' is empty", _AGAIN)
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            rows.append(parse_record(EpochMetrics, line))
        except ValueError as error:
            raise InputError(f"'{path}' line {number}: {error}", _AGAIN) from None
    try:
        check_epochs(rows)
    except ValueError as error:
        raise InputError(f"'{path}' {error}", _AGAIN) from None
    return rows
