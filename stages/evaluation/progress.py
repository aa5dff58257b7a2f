"""The accuracy so far, for the progress line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from stages.attacks.spec import GRADIENT, AttackSpec
from stages.evaluation.points import Points
from stages.models.classifier import Progress
from stages.reports.rows import CLEAN, Judgement


class AccuracySoFar:
    """The accuracy of the points evaluated so far, clean or under one attack, for the progress line.

    Args:
        progress: called with it.
        passes: about how many forward passes a point costs in each job: when clean, then under each attack in turn.
        labels: (P,) the right classes.
        right: how many points are correct when clean.
        name: of the attack.
        job: how many of `passes` were done before it.
        processes: how many share the points.
        points: of this job; None for those that are correct when clean.
        accuracy: to be shown; None for that of the points so far.
    """

    def __init__(
        self,
        progress: Progress | None,
        passes: Sequence[int],
        labels: np.ndarray,
        right: int,
        name: str = CLEAN,
        job: int = 0,
        processes: int = 1,
        points: int | None = None,
        accuracy: float | None = None,
    ) -> None:
        self._progress, self._passes, self._labels, self._right = progress, passes, labels, right
        self._name, self._job, self._processes = name, job, processes
        self._points, self._accuracy = right if points is None else points, accuracy
        self._attacked = self._robust = self._spent = 0
        self._share = 0.0

    def under(self, name: str, job: int, processes: int) -> AccuracySoFar:
        """The same for the attack that is job number `job`, before its first point."""
        return AccuracySoFar(self._progress, self._passes, self._labels, self._right, name, job, processes)

    def again(self, points: int) -> AccuracySoFar:
        """The next job: the same attack again on `points` points, which changes no accuracy."""
        common = self._progress, self._passes, self._labels, self._right
        return AccuracySoFar(*common, self._name, self._job + 1, self._processes, points, self._so_far())

    def add(self, rows: np.ndarray, predicted: np.ndarray) -> None:
        """The points `rows` (n,), correct when clean, have been attacked; `predicted` (P,) are the predictions of all."""
        self._attacked += len(rows)
        self._robust += int((predicted[rows] == self._labels[rows]).sum())
        self._spent = 0
        self._tell_points(self._attacked)

    def passed(self, points: int) -> None:
        """A forward pass over `points` points, with gradient or without: a long attack shows progress."""
        self._spent += points * (GRADIENT if torch.is_grad_enabled() else 1)
        self._tell_points(self._attacked + self._spent / self._passes[self._job])

    def _tell_points(self, done: float) -> None:
        self.tell(min(1.0, self._processes * done / max(self._points, 1)))

    def _so_far(self) -> float:
        """The accuracy of the attacked points, times the clean one."""
        if self._accuracy is not None:
            return self._accuracy
        return self._right / len(self._labels) * (self._robust / self._attacked if self._attacked else 1.0)

    def tell(self, share: float) -> None:
        """Show that a share of this job is done, and the accuracy."""
        if self._progress is None:
            return
        self._share = share = max(share, self._share)
        count = len(self._labels)
        done = sum(self._passes[: self._job]) + share * self._passes[self._job]
        self._progress(round(count * done), count * sum(self._passes), f"{self._name} {100 * self._so_far():.1f}%")


def after_clean(points: Points, clean: Judgement, progress: Progress | None, attacks: Sequence[AttackSpec]) -> AccuracySoFar:
    """The accuracy before the first attack. Each attack is a job, or two where its limits are computed as well."""
    labels = points.classes[points.head, points.label].numpy()
    passes = [1]
    for spec in attacks:
        passes += [spec.passes(points.ways)] * (2 if points.seen else 1)
    return AccuracySoFar(progress, passes, labels, int((clean.predicted == labels).sum()))
