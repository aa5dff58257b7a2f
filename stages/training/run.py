"""The train stage: anchors and images in, a run folder with the best and last checkpoint and the metrics out."""

from __future__ import annotations

import json
import time
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.anchors.anchor_set import AnchorSet
from stages.data.image_set import ImageSet
from stages.data.streaming_set import StreamingImageSet
from stages.devices import bf16_units, has_bf16
from stages.errors import InputError, UsageError
from stages.files import artifacts
from stages.files.artifact_params import Calibration
from stages.files.epoch_metrics import BEST, METRICS
from stages.files.writing import write_file
from stages.models.backbones import check_backbone_to_train
from stages.models.checkpoint import checkpoint_of
from stages.models.own_parts import check_embedding, is_own_backbone, load_backbone
from stages.models.reference import NamedReference, check_reference
from stages.training.advice import micro_batches, notes_of, precision_note, warnings_of
from stages.training.build_objective import find_kind
from stages.training.folder import LAST, STATE, Next, check_run_name, locked, other_name, read_state, tidy, what_next
from stages.training.loop import Trainer
from stages.training.objectives import Objective
from stages.training.options import RunOptions
from stages.training.out_of_memory import explained
from stages.training.reports import EpochReport, Progress, RunResult, collapse, to_lines
from stages.training.selection import Score
from stages.training.settings import TrainSettings
from stages.training.signals import StopRequest
from stages.training.state import RunState
from stages.training.sums import Figures
from stages.training.task import Task
from stages.training.temperature import with_tau
from stages.training.trackers import Tracker, open_tracker

_REPORT_EVERY_SECONDS = 0.25


def train_run(
    anchors: AnchorSet,
    images: ImageSet | StreamingImageSet,
    settings: TrainSettings,
    folder: Path,
    *,
    inputs: dict[str, Any],
    init: artifacts.Artifact | None = None,
    resize: int | None = None,
    name: str | None = None,
    model: nn.Module | None = None,
    objective: Objective | type[Objective] | None = None,
    reference: nn.Module | NamedReference | None = None,
    options: RunOptions | None = None,
) -> RunResult | None:
    """Train, and write model.st (best epoch), last.st and metrics.jsonl into `folder`, each atomically after every epoch.

    state.st is written every `save_every` seconds, after every epoch and when the run is interrupted; it is deleted when the
    run is done.

    Args:
        anchors: anchors of all groups; seen classes are trained on, validation classes select the epoch.
        images: images of the seen and validation classes.
        settings: see `TrainSettings`.
        folder: the run folder, created when missing.
        inputs: lineage of the anchors artifact, of `init` and of a named `reference`.
        init: a checkpoint of the same architecture to start from.
        resize: how the images were resized, recorded so that evaluation does the same.
        name: of the run, recorded in its checkpoints; a resumed run keeps its name unless another is given.
        model: any module, images (N, 3, H, W) float in [0, 1] -> embeddings (N, D), D the width of the anchors; trained in
            place, instead of the backbone of the settings.
        objective: an objective or its class, instead of the one of the settings.
        reference: the frozen model of objectives that compare with one (see `find_reference`); None is the initial weights.
        options: see `RunOptions`.

    Returns:
        The finished run; None when the folder already has the same run, finished.

    Raises:
        UsageError: another run is in the folder, or is writing there now; an unknown backbone; a module whose embeddings do not
            fit the anchors; an empty name.
        InputError: images that are not square; a state or a checkpoint that does not fit.
        ComputeError: a non-finite loss; not enough memory.
        KeyboardInterrupt: the run was interrupted; its state is saved.
    """
    options = options or RunOptions()
    check_run_name(name)
    if len(anchors.groups.seen) < 2:
        raise InputError("there is only one seen class, and a single candidate is always right", "train on at least 2 classes")
    kind, asked, device = find_kind(settings, objective), settings, options.device
    if model is None:
        check_backbone_to_train(settings.backbone, tokens=kind.tokens)
    settings = with_tau(settings, anchors, objective)
    settings = settings.with_precision(has_bf16=has_bf16(device), bf16_units=bool(bf16_units(device)), attacks=kind.attacks)
    height, width = images.size
    if height != width:
        raise InputError(f"the images are {width}x{height}, expected square ones", f"add --resize {min(height, width)}")
    if model is not None:
        if init is not None:
            raise UsageError("init cannot be combined with a model of your own", "load the weights into the model first")
        check_embedding(model, height, anchors.vectors.shape[1])
    backbone = load_backbone(settings.backbone, settings.seed) if model is None and is_own_backbone(settings.backbone) else None
    named = reference if isinstance(reference, NamedReference) else None
    if reference is not None:
        if not kind.reference:
            raise UsageError(f"{settings.objective} compares with no reference", "leave the reference out")
        reference = reference.build(height) if isinstance(reference, NamedReference) else reference
        check_reference(reference, height, anchors.vectors.shape[1])
    task = Task(anchors, images, settings, inputs, init, resize, model, backbone, objective, reference, named)
    options.world.agree(json.dumps(task.identity, sort_keys=True), "parameters, anchors and images")
    if options.world.leader:
        what_next(folder, task.identity, resume=options.resume, force=options.force)  # may refuse: before the lock
    with locked(folder) if options.world.leader else nullcontext():
        upcoming = _agreed_next(folder, task.identity, options)
        if upcoming == "done":
            if options.on_warning is not None and (kept := other_name(folder, name)):
                options.on_warning(kept)
            return None
        run = _Run(task, folder, options, name)
        if upcoming == "resume":
            run.restore()
        else:
            run.note_precision(asked)
        log = options.log if options.world.leader else None
        tracker = open_tracker(log, folder, task.identity["settings"], resumed=upcoming == "resume")
        with closing(tracker), closing(run.trainer), explained(run.trainer), StopRequest() as stop:
            return run.go(stop, tracker)


def _agreed_next(folder: Path, identity: dict[str, Any], options: RunOptions) -> Next:
    """What the leader finds in the folder, sent to all processes."""
    world = options.world
    answers: tuple[Next, ...] = ("start", "resume", "done")
    answer = torch.zeros(1, device=options.device)
    if world.leader:
        found = what_next(folder, identity, resume=options.resume, force=options.force)
        answer += answers.index(found)
        tidy(folder, old_state=found == "start")
    world.barrier()  # some processes may read their data longer
    world.sum([answer])
    return answers[int(answer)]


class _Run:
    """One run in one folder. Every process has one; the leader writes the files."""

    def __init__(self, task: Task, folder: Path, options: RunOptions, name: str | None) -> None:
        self._task, self._settings, self._folder, self._options = task, task.settings, folder, options
        training, self._selection = task.plan_selection()
        model = task.build_model(training, options.on_note)
        self._note(micro_batches(self._settings, model))
        self.trainer = Trainer(
            model,
            torch.from_numpy(task.anchors.vectors[task.anchors.indices("seen")]),
            training,
            task.settings,
            options.device,
            world=options.world,
            cache=options.cache,
            objective=task.objective,
            reference=task.reference,
        )
        self._state = RunState(task.identity, [], "", name)
        self._record = task.record(training, self._selection)
        self._images = task.image_hashes(training, self._selection) if options.world.leader else {}
        self._saved = self._reported = self._started = time.monotonic()
        self._images_before = 0

    def _advise(self) -> None:
        note, warning = self._selection.describe()
        notes, warnings = [*notes_of(self._task), note], [*warnings_of(self._task), *filter(None, [warning])]
        for texts, show in ((notes, self._options.on_note), (warnings, self._options.on_warning)):
            if show is not None:
                for text in texts:
                    show(text)

    def _note(self, text: str) -> None:
        if text and self._options.on_note is not None:
            self._options.on_note(text)

    def note_precision(self, asked: TrainSettings) -> None:
        """Say it if this CPU attacks in bfloat16, or should not; `asked` are the settings as given."""
        trainer = self.trainer
        images = trainer.batch_size * trainer.steps_per_epoch * self._settings.epochs if trainer.attacks else 0
        self._note(precision_note(asked, self._settings, images, self._options.device))

    def restore(self) -> None:
        """Restore the state saved in the folder."""
        before = RunState.restore(read_state(self._folder), self.trainer, f"'{self._folder / STATE}'")
        self._state = replace(before, name=self._state.name or before.name)

    def go(self, stop: StopRequest, tracker: Tracker) -> RunResult:
        """Train to the end, or until `stop` is asked."""
        self._advise()
        trainer, reports = self.trainer, self._state.reports
        if reports:  # a run killed between writing and logging did not log its last epoch
            tracker.epoch(len(reports), reports[-1].figures_by_name())
        self._options.world.barrier()  # some processes prepare longer
        while len(reports) < self._settings.epochs:
            # a resumed epoch may have all its steps done and only its score missing
            if trainer.step < (len(reports) + 1) * trainer.steps_per_epoch:
                self._train_epoch(stop)
            figures = trainer.sums.figures()
            score = self._scored(stop)
            self._epoch_done(
                EpochReport(len(reports) + 1, figures, score, self._is_best(score), self._collapsed(figures, score))
            )
            tracker.epoch(len(reports), reports[-1].figures_by_name())
        return RunResult.of(self._folder, reports, self._state.best_sha256)

    def _train_epoch(self, stop: StopRequest) -> None:
        world = self._options.world
        self._started, self._images_before = time.monotonic(), self.trainer.images_done
        for _ in self.trainer.steps():
            now = time.monotonic()
            due = world.leader and now - self._saved >= self._options.save_every
            stopping, saving = world.any(stop.asked, due)
            if stopping or saving:
                self._save()
            if stopping:
                raise KeyboardInterrupt
            if now - self._reported >= _REPORT_EVERY_SECONDS:
                self._report(now)

    def _report(self, now: float) -> None:
        self._reported = now
        figures = self.trainer.sums.glance()
        if figures is None or self._options.on_step is None:
            return
        trainer = self.trainer
        rate = (trainer.images_done - self._images_before) / (now - self._started)
        epoch, total = len(self._state.reports) + 1, trainer.steps_per_epoch * self._settings.epochs
        self._options.on_step(Progress(epoch, self._settings.epochs, trainer.step, total, rate, figures))

    def _scored(self, stop: StopRequest) -> Score:
        """The epoch's score. An interrupt during scoring discards it; the resumed run scores the epoch again."""
        alone = self._options.world.size == 1  # other processes would wait for this one

        def poll() -> None:
            if stop.asked and alone:
                self._save()
                raise KeyboardInterrupt

        options, trainer = self._options, self.trainer
        score = partial(self._selection.score, trainer.scored_model, self._settings, options.device, head=trainer.scored_head)
        return score(attack=trainer.attacks, world=options.world, stop=poll)

    def _is_best(self, score: Score) -> bool:
        before = [report.score.key for report in self._state.reports if report.best]
        return not before or score.key >= before[-1]  # of equal epochs the later

    def _collapsed(self, figures: Figures, score: Score) -> bool:
        """Whether the model now resists its inner attack alone; told once."""
        reports, warn = self._state.reports, self._options.on_warning
        found = collapse(reports, figures, score, self._selection.judgements) if self._task.scored_apart else ""
        if found and warn is not None and not reports[-1].collapsed:
            warn(found)
        return bool(found)

    def _epoch_done(self, report: EpochReport) -> None:
        """Save last.st, model.st when this epoch is the best so far, metrics.jsonl, and then the state that refers to them."""
        self._state.reports.append(report)
        if self._options.world.leader:
            calibration = self._selection.calibration(self.trainer.scored_model, self._task.anchors, self._settings)
            self._write(LAST, report, calibration)
            if report.best:
                self._state = replace(self._state, best_sha256=self._write(BEST, report, calibration))
            write_file(self._folder / METRICS, to_lines(self._state.reports))
        self._options.world.barrier()  # while the leader writes
        if report.epoch < self._settings.epochs:
            self._save()
        elif self._options.world.leader:
            (self._folder / STATE).unlink(missing_ok=True)
        if self._options.on_epoch is not None:
            self._options.on_epoch(report)

    def _write(self, name: str, report: EpochReport, calibration: Calibration | None) -> str:
        chosen = {"epoch": report.epoch, "clean": report.score.clean, "robust": report.score.robust}
        record = {**self._record, "selection": {**self._record["selection"], **chosen}}
        record |= {} if self._state.name is None else {"name": self._state.name}
        task, trainer = self._task, self.trainer
        packed = partial(checkpoint_of, image_size=task.images.size[0], images=self._images, calibration=calibration)
        artifact = packed(trainer.scored_model, task.anchors, record, task.inputs, head=trainer.scored_head)
        return artifacts.write(artifact, self._folder / name).sha256

    def _save(self) -> None:
        """Write the state; the last good one stays when this one is not finite. All processes call it."""
        self.trainer.sums.figures()
        if self._options.world.leader:
            artifacts.write(self._state.to_artifact(self.trainer), self._folder / STATE)
        self._options.world.barrier()  # while the leader writes
        self._saved = time.monotonic()
