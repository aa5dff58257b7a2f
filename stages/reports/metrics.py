"""The metrics of a training run, read strictly from its metrics.jsonl. Needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.errors import InputError
from stages.files.epoch_metrics import METRICS, read_epochs

ACCURACIES = ("train_clean", "train_robust", "selection_clean", "selection_robust")
_FOLDER = "name a folder that `laat train` wrote"


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

    Raises InputError when there are none, or for the first line that is not the metrics of an epoch, naming it.
    """
    path = folder / METRICS
    if not folder.is_dir():
        raise InputError(f"'{folder}' {'is a file, expected a run folder' if folder.exists() else 'does not exist'}", _FOLDER)
    if not path.exists():
        raise InputError(f"'{folder}' has no {METRICS}: no epoch was finished there", _FOLDER)
    rows = read_epochs(path)
    values = {name: np.array([getattr(row, name) for row in rows], float) for name in ("loss", *ACCURACIES)}
    return RunMetrics(folder, np.arange(1, len(rows) + 1), values, max(row.epoch for row in rows if row.best_so_far))
