"""What `laat train` prints: the progress line, one line per epoch, and the table at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laatcli.console import Column, Console, ProgressLine

if TYPE_CHECKING:
    from stages.training.reports import EpochReport, Progress, RunResult


class Shown:
    """Turns what the run reports into the progress line and one line per epoch."""

    def __init__(self, bar: ProgressLine) -> None:
        self._bar = bar

    def step(self, at: Progress) -> None:
        """A training step is done."""
        figures = at.figures
        self._bar.update(
            at.step,
            at.steps,
            f"epoch {at.epoch}/{at.epochs} loss {figures.loss:.3f} clean {_share(figures.clean_accuracy)} "
            f"robust {_share(figures.robust_accuracy)} {at.images_per_second:.0f} img/s",
        )

    def epoch(self, report: EpochReport) -> None:
        """An epoch is done."""
        figures, score = report.figures, report.score
        self._bar.line(
            f"epoch {report.epoch:>3}  loss {figures.loss:.3f}"
            f"  training {_share(figures.clean_accuracy)} / {_share(figures.robust_accuracy)}"
            f"  selection {_share(score.clean)} / {_share(score.robust)}{'  best' if report.best else ''}"
        )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def show(console: Console, result: RunResult, *, anchored: bool) -> None:
    """The finished run: its best and its last checkpoint, and the calibration of the best, if it is for anchors."""
    from stages.statistics.calibration import calibration_lines, calibration_warning
    from stages.training.folder import LAST

    last, calibration = result.reports[-1], result.calibration
    console.result(
        {
            "output": str(result.folder),
            "model": str(result.model),
            "sha256": result.sha256,
            "epochs": last.epoch,
            "best_epoch": result.best_epoch,
            "selection_clean": result.score.clean,
            "selection_robust": result.score.robust,
            "loss": last.figures.loss,
            "calibration": None if calibration is None else calibration.to_record(),
        }
    )
    columns = ("epoch", "selection clean %", "selection robust %")
    rows = [
        [str(path), str(epoch), _share(score.clean), _share(score.robust)]
        for path, epoch, score in (
            (result.model, result.best_epoch, result.score),
            (result.folder / LAST, last.epoch, last.score),
        )
    ]
    console.table([Column("checkpoint"), *(Column(name, True) for name in columns)], rows)
    for line in calibration_lines(calibration, anchored=anchored):
        console.line(line)
    if warning := calibration_warning(calibration):
        console.warn(warning)
