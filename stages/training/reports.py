"""What a run reports during training and at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.files import artifacts
from stages.files.artifact_params import Calibration
from stages.files.epoch_metrics import BEST
from stages.statistics.calibration import calibration_of
from stages.training.selection import Score
from stages.training.sums import Figures


@dataclass(frozen=True)
class Progress:
    """The current epoch (from 1) and step of the whole run, images per second since the start or resume, figures so far."""

    epoch: int
    epochs: int
    step: int
    steps: int
    images_per_second: float
    figures: Figures


@dataclass(frozen=True)
class EpochReport:
    """A finished epoch: its number, training figures, selection score, and whether it is the best so far and `collapsed`."""

    epoch: int
    figures: Figures
    score: Score
    best: bool
    collapsed: bool = False

    def figures_by_name(self) -> dict[str, float | None]:
        """The figures as metrics.jsonl and the logs name them; None where there is none."""
        return {
            "loss": self.figures.loss,
            "train_clean": self.figures.clean_accuracy,
            "train_robust": self.figures.robust_accuracy,
            "selection_clean": self.score.clean,
            "selection_robust": self.score.robust,
        }

    def to_row(self) -> dict[str, Any]:
        """The line of metrics.jsonl, as a dict."""
        return {"epoch": self.epoch, **self.figures_by_name(), "best_so_far": self.best, "collapsed": self.collapsed}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> EpochReport:
        """The inverse of `to_row`, of a row that was checked (see `stages.files.artifact_params.EpochMetrics`)."""
        figures = Figures(row["loss"], row["train_clean"], row["train_robust"])
        return cls(
            row["epoch"],
            figures,
            Score(row["selection_clean"], row["selection_robust"]),
            row["best_so_far"],
            row.get("collapsed", False),
        )


def collapse(before: Sequence[EpochReport], figures: Figures, score: Score, images: int) -> str:
    """What to tell of catastrophic overfitting (Wong et al., ICLR 2020): the model resists its inner attack alone.

    The robust accuracy on the selection images is less than half of what it was in the best epoch, by more than three standard
    errors, while that on the training images, under the inner attack, has risen.

    Args:
        before: the earlier epochs.
        figures, score: of this epoch.
        images: how many images the score counts.

    Returns:
        A warning; '' if it has not happened.
    """
    best = max(before, key=lambda one: one.score.robust or 0.0, default=None)
    now, trained = score.robust, figures.robust_accuracy
    if best is None or now is None or trained is None:
        return ""
    then, trained_then = best.score.robust or 0.0, best.figures.robust_accuracy or 0.0
    error = ((then * (1 - then) + now * (1 - now)) / images) ** 0.5
    if now >= then / 2 or then - now <= 3 * error or trained <= trained_then:
        return ""
    selected, fitted = _from_to(then, now), _from_to(trained_then, trained)
    return (
        f"catastrophic overfitting since epoch {best.epoch}: robust accuracy {selected} on the selection images and {fitted} "
        "in training, under the inner attack alone; use --inner pgd with more --steps, or a smaller --step-size or --lr"
    )


def _from_to(then: float, now: float) -> str:
    return f"from {100 * then:.1f} to {100 * now:.1f} %"


def to_lines(reports: list[EpochReport]) -> bytes:
    """The content of metrics.jsonl."""
    return "".join(json.dumps(report.to_row(), sort_keys=True) + "\n" for report in reports).encode()


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, best epoch and score, the reports of all epochs, and the SHA-256 of the best checkpoint."""

    folder: Path
    best_epoch: int
    score: Score
    reports: list[EpochReport]
    sha256: str

    @classmethod
    def of(cls, folder: Path, reports: list[EpochReport], sha256: str) -> RunResult:
        """The run with these reports of all its epochs."""
        best = [report for report in reports if report.best][-1]
        return cls(folder, best.epoch, best.score, reports, sha256)

    @property
    def model(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.folder / BEST

    @property
    def calibration(self) -> Calibration | None:
        """That of the checkpoint of the best epoch, read from its file."""
        return calibration_of(artifacts.read(self.model, "model"))
