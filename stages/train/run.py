"""The train stage: anchors and images in, a run folder with the best and the last checkpoint and the metrics out."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stages import artifacts
from stages.anchors.anchor_set import AnchorSet
from stages.data.image_set import ImageSet
from stages.errors import InputError, LaatError
from stages.models.checkpoint import Checkpoint
from stages.models.embedding import EmbeddingModel
from stages.train.loop import Figures, Progress, Trainer
from stages.train.selection import Score, plan_selection
from stages.train.settings import TrainSettings

BEST, LAST, METRICS = "model.st", "last.st", "metrics.jsonl"


@dataclass(frozen=True)
class EpochReport:
    """What a finished epoch tells: its number, training figures, selection score, and whether it is the best so far."""

    epoch: int
    figures: Figures
    score: Score
    best: bool


@dataclass(frozen=True)
class RunResult:
    """What a run wrote: folder, best epoch and its score, all reports, and the SHA-256 of the best checkpoint."""

    folder: Path
    best_epoch: int
    score: Score
    reports: list[EpochReport]
    sha256: str


def train_run(
    anchors: AnchorSet,
    images: ImageSet,
    settings: TrainSettings,
    folder: Path,
    *,
    inputs: dict[str, Any],
    device: str = "cpu",
    resize: int | None = None,
    on_step: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> RunResult:
    """Train and write model.st (best epoch), last.st and metrics.jsonl into `folder`, each atomically after every epoch.

    Args:
        anchors: anchors of all groups; seen classes are trained on, validation classes select the epoch.
        images: images of the seen and validation classes.
        settings: see `TrainSettings`.
        folder: the run folder, made when missing.
        inputs: lineage of the anchors artifact.
        device: torch device.
        resize: how the images were resized, kept so that evaluation does the same.
        on_step, on_epoch: called as the run goes.

    Raises:
        InputError: images that are not square.
        ComputeError: a non-finite loss.
    """
    height, width = images.size
    if height != width:
        raise InputError(f"the images are {width}x{height}, expected square ones", f"add --resize {min(height, width)}")
    training, selection = plan_selection(images, anchors, settings.seed)
    mean, std = training.mean_std()
    model = EmbeddingModel(settings.backbone, anchors.vectors.shape[1], height, mean=mean, std=std, seed=settings.seed)
    seen = torch.from_numpy(anchors.vectors[anchors.indices("seen")])
    trainer = Trainer(model, seen, training, settings, device)
    record = {
        "settings": settings.to_record(),
        "data": {**images.provenance.to_record(), "sha256": images.sha256()},
        "images": len(training),
        "resize": resize,
        "selection": selection.to_record(),
    }
    writer = _Writer(folder, trainer, anchors, record, inputs)
    for epoch in range(1, settings.epochs + 1):
        figures = trainer.epoch(epoch, on_step)
        score = selection.score(model, settings, device)
        with _interrupts_wait():
            report = writer.epoch_done(epoch, figures, score)
            if on_epoch is not None:
                on_epoch(report)
    return writer.result()


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Within: Ctrl-C waits, so that the files of a finished epoch are all written or none is."""
    elsewhere = threading.current_thread() is not threading.main_thread()  # only there are signals handled
    if elsewhere or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    waiting: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt


class _Writer:
    """Writes the run folder after each epoch and remembers which epoch is best."""

    def __init__(
        self, folder: Path, trainer: Trainer, anchors: AnchorSet, record: dict[str, Any], inputs: dict[str, Any]
    ) -> None:
        self._folder, self._trainer, self._anchors = folder, trainer, anchors
        self._record, self._inputs = record, inputs
        self._reports: list[EpochReport] = []
        self._best: EpochReport | None = None
        self._sha256 = ""

    def epoch_done(self, epoch: int, figures: Figures, score: Score) -> EpochReport:
        """Save last.st, model.st when this epoch is the best so far, and metrics.jsonl."""
        # of equals the later: it has learnt more
        best = self._best is None or score.key >= self._best.score.key
        report = EpochReport(epoch, figures, score, best)
        self._reports.append(report)
        self._save(LAST, report)
        if best:
            self._best, self._sha256 = report, self._save(BEST, report)
        lines = [json.dumps(_metrics_row(row), sort_keys=True) for row in self._reports]
        artifacts.write_file(self._folder / METRICS, ("\n".join(lines) + "\n").encode())
        return report

    def result(self) -> RunResult:
        """The finished run."""
        assert self._best is not None
        return RunResult(self._folder, self._best.epoch, self._best.score, self._reports, self._sha256)

    def _save(self, name: str, report: EpochReport) -> str:
        chosen = {"epoch": report.epoch, "clean": report.score.clean, "robust": report.score.robust}
        record = {**self._record, "selection": {**self._record["selection"], **chosen}}
        checkpoint = Checkpoint(self._trainer.model, self._anchors, record, self._inputs)
        return artifacts.write(checkpoint.to_artifact(), self._folder / name).sha256


def _metrics_row(report: EpochReport) -> dict[str, Any]:
    return {
        "epoch": report.epoch,
        "loss": report.figures.loss,
        "train_clean": report.figures.clean_accuracy,
        "train_robust": report.figures.robust_accuracy,
        "selection_clean": report.score.clean,
        "selection_robust": report.score.robust,
        "best_so_far": report.best,
    }


def finished_run(folder: Path, anchors_sha256: str, images: ImageSet, settings: TrainSettings) -> bool:
    """Whether `folder` holds the whole run that these inputs and settings would give."""
    try:
        artifact = artifacts.read(folder / LAST, "model")
        epochs = len((folder / METRICS).read_text(encoding="utf-8").splitlines())
        training = artifact.params["training"]
        return bool(
            epochs == settings.epochs
            and (folder / BEST).is_file()
            and artifact.tool == artifacts.Artifact("model", {}, {}).tool
            and training["settings"] == settings.to_record()
            and training["data"]["sha256"] == images.sha256()
            and artifact.inputs["anchors"]["sha256"] == anchors_sha256
        )
    except (LaatError, OSError, KeyError, TypeError, UnicodeDecodeError):
        return False
