"""How a training shows: the progress line, one line an epoch, and the table at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laatcli.console import Column, Console, ProgressLine

if TYPE_CHECKING:
    from stages.training.reports import EpochReport, Progress, RunResult


class Shown:
    """Turns what the run reports into the progress line and one line an epoch."""

    def __init__(self, bar: ProgressLine) -> None:
        self._bar = bar

    def step(self, at: Progress) -> None:
        """A step is done."""
        figures = at.figures
        note = (
            f"{at.images_per_second:.0f} img/s loss {figures.loss:.3f} "
            f"clean {_share(figures.clean_accuracy)} robust {_share(figures.robust_accuracy)}"
        )
        self._bar.update(at.step, at.steps, note, f"epoch {at.epoch}/{at.epochs}")

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


def show(console: Console, result: RunResult) -> None:
    """The finished run: its best and its last checkpoint."""
    last = result.reports[-1]
    console.result(
        {
            "output": str(result.folder),
            "model": str(result.folder / "model.st"),
            "sha256": result.sha256,
            "epochs": last.epoch,
            "best_epoch": result.best_epoch,
            "selection_clean": result.score.clean,
            "selection_robust": result.score.robust,
            "loss": last.figures.loss,
        }
    )
    console.table(
        [
            Column("checkpoint"),
            Column("epoch", True),
            Column("selection clean %", True),
            Column("selection robust %", True),
        ],
        [
            [
                str(result.folder / "model.st"),
                str(result.best_epoch),
                _share(result.score.clean),
                _share(result.score.robust),
            ],
            [str(result.folder / "last.st"), str(last.epoch), _share(last.score.clean), _share(last.score.robust)],
        ],
    )
