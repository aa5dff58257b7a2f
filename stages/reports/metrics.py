"""The metrics of a training run, read strictly from its metrics.jsonl. Needs no torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages import artifacts
from stages.errors import InputError

FILE = "metrics.jsonl"
ACCURACIES = ("train_clean", "train_robust", "selection_clean", "selection_robust")


@dataclass(frozen=True)
class RunMetrics:
    """One run, epoch by epoch.

    Attributes:
        folder: the run folder.
        epochs: (E,) int64, 1 to E.
        values: 'loss' and each of `ACCURACIES` -> (E,) float64, accuracies in [0, 1]; NaN where the run measured none.
        best: the number of the best epoch.
    """

    folder: Path
    epochs: np.ndarray
    values: dict[str, np.ndarray]
    best: int

    def at_best(self, name: str) -> float | None:
        """The value of `name` at the best epoch, None where the run measured none."""
        value = float(self.values[name][self.best - 1])
        return None if math.isnan(value) else value


def read_metrics(folder: Path) -> RunMetrics:
    """Read the metrics of the run in `folder`.

    Raises InputError when there are none, or for the first line that is not an epoch's metrics, naming it.
    """
    path = folder / FILE
    if not folder.is_dir():
        what = "is a file, expected a run folder" if folder.exists() else "does not exist"
        raise InputError(f"'{folder}' {what}", "name a folder that `laat train` wrote")
    if not path.exists():
        raise InputError(f"'{folder}' has no {FILE}: no epoch was finished there", "name a folder that `laat train` wrote")
    lines = artifacts.read_file(path).split(b"\n")
    if lines[-1]:
        raise InputError(f"'{path}' line {len(lines)} is cut off", "train again, or remove that line")
    rows = [_row(line, number, f"'{path}' line {number}") for number, line in enumerate(lines[:-1], 1)]
    if not rows:
        raise InputError(f"'{path}' is empty", "train again")
    if not rows[0]["best_so_far"]:
        raise InputError(f"'{path}' line 1: the first epoch is the best so far, but is not marked so", "train again")
    values = {
        name: np.array([math.nan if row[name] is None else row[name] for row in rows], float) for name in ("loss", *ACCURACIES)
    }
    return RunMetrics(folder, np.arange(1, len(rows) + 1), values, max(row["epoch"] for row in rows if row["best_so_far"]))


def _row(line: bytes, number: int, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{where} is not JSON", "train again") from None
    if not isinstance(row, dict):
        raise InputError(f"{where} is not an epoch's metrics: no JSON object", "train again")
    missing = [name for name in ("epoch", "loss", *ACCURACIES, "best_so_far") if name not in row]
    if missing:
        raise InputError(f"{where} has no '{missing[0]}'", "train again")
    if type(row["epoch"]) is not int or row["epoch"] != number:
        raise InputError(f"{where} is epoch {json.dumps(row['epoch'])[:40]}, expected {number}", "train again")
    if not isinstance(row["best_so_far"], bool):
        raise InputError(f"{where}: 'best_so_far' is not true or false", "train again")
    for name in ("loss", *ACCURACIES):
        _check(row[name], name, where)
    return row


def _check(value: Any, name: str, where: str) -> None:
    """None, or a finite number; an accuracy within [0, 1]."""
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300
    if not number or (name != "loss" and not 0 <= value <= 1):
        wanted = "a finite number" if name == "loss" else "a share from 0 to 1"
        raise InputError(f"{where}: '{name}' is {str(value)[:40]}, expected {wanted}", "train again")
