"""What the progress line of an evaluation shows: the accuracy so far, and the share of all jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from stages.attacks.spec import GRADIENT, AttackSpec
from stages.evaluation.points import Points
from stages.models.classifier import Progress
from stages.reports.rows import CLEAN, Judgement


@dataclass
class AccuracySoFar:
    """The accuracy of the samples evaluated so far, clean or under one attack, for the progress line.

    Attributes:
        progress: the callback.
        passes: approximate forward passes per sample of each job: clean, then each attack.
        labels: (P,) true classes.
        right: number of samples that are correct when clean.
        name: of the attack.
        job: position in `passes`.
        processes: number of processes that share the samples.
        points: number of samples in this job.
        accuracy: to show; None for that of the samples so far.
    """

    progress: Progress | None
    passes: Sequence[int]
    labels: np.ndarray
    right: int
    name: str = CLEAN
    job: int = 0
    processes: int = 1
    points: int = 0
    accuracy: float | None = None

    def __post_init__(self) -> None:
        self._attacked = self._robust = self._spent = 0
        self._share = 0.0

    def under(self, name: str, job: int, processes: int) -> AccuracySoFar:
        """A new counter for the attack with number `job`."""
        return replace(self, name=name, job=job, processes=processes, points=self.right, accuracy=None)

    def again(self, points: int) -> AccuracySoFar:
        """A counter for the next job: the same attack on `points` samples, without changing the accuracy."""
        return replace(self, job=self.job + 1, points=points, accuracy=self._so_far())

    def add(self, rows: np.ndarray, predicted: np.ndarray) -> None:
        """Count the attacked samples `rows` (n,), correct when clean; `predicted` (P,) are the predictions of all samples."""
        self._attacked += len(rows)
        self._robust += int((predicted[rows] == self.labels[rows]).sum())
        self._spent = 0
        self._show_points(self._attacked)

    def passed(self, points: int) -> None:
        """Count a forward pass over `points` samples, with or without gradient."""
        self._spent += points * (GRADIENT if torch.is_grad_enabled() else 1)
        self._show_points(self._attacked + self._spent / self.passes[self.job])

    def _show_points(self, done: float) -> None:
        self.show(min(1.0, self.processes * done / max(self.points, 1)))

    def _so_far(self) -> float:
        """The accuracy of the attacked samples, times the clean accuracy."""
        if self.accuracy is not None:
            return self.accuracy
        return self.right / len(self.labels) * (self._robust / self._attacked if self._attacked else 1.0)

    def show(self, share: float) -> None:
        """Report that a share of this job is done, and the accuracy."""
        if self.progress is None:
            return
        self._share = share = max(share, self._share)
        count = len(self.labels)
        done = sum(self.passes[: self.job]) + share * self.passes[self.job]
        known = self.name == CLEAN or self.accuracy is not None or self._attacked
        figure = f" {100 * self._so_far():.1f}%" if known else ""
        self.progress(round(count * done), count * sum(self.passes), f"{self.name}{figure}")


def after_clean(points: Points, clean: Judgement, progress: Progress | None, attacks: Sequence[AttackSpec]) -> AccuracySoFar:
    """The clean accuracy. Each attack is one job, or two with gzsl (see `_Scorer._attack_fully`)."""
    labels = points.classes[points.head, points.label].numpy()
    passes = [1]
    for spec in attacks:
        passes += [spec.passes(points.ways)] * (2 if points.seen else 1)
    return AccuracySoFar(progress, passes, labels, int((clean.predicted == labels).sum()))


def with_checks(progress: Progress | None, passes: int) -> tuple[Progress | None, Progress | None]:
    """The progress of an evaluation and of its checks, of at most `passes`, as one; both count passes of samples."""
    if progress is None:
        return None, None
    before = 0

    def evaluating(done: int, total: int, what: str) -> None:
        nonlocal before
        before = total
        progress(done, total + passes, what)

    return evaluating, lambda done, _, what: progress(before + done, before + passes, what)


def within(progress: Progress | None, at: int, jobs: int, label: str) -> Progress | None:
    """Progress of job `at` of `jobs` equal ones."""
    if progress is None:
        return None
    return lambda done, total, note: progress(at * total + done, jobs * total, f"{label} {note}".strip())
