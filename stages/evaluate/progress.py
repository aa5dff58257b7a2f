"""The accuracy so far, for the progress line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from stages.attacks.spec import GRADIENT, AttackSpec
from stages.attacks.target import Progress
from stages.evaluate.points import Points
from stages.reports.rows import CLEAN, Judgement


class Known:
    """What is known so far of the points under one attack, or when clean, for the progress line.

    Args:
        progress: what to tell it to.
        passes: about how many forward passes a point costs in each job: when clean, then under each attack in turn.
        labels: (P,) the right classes.
        right: how many points are right when clean.
        name: of the attack.
        job: how many of `passes` were done before it.
        processes: how many share the points.
        points: how many this job is about; None for those that are right when clean.
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
        self._attacked = self._stood = self._spent = 0
        self._share = 0.0

    def under(self, name: str, job: int, processes: int) -> Known:
        """Nothing known yet of the attack that is job number `job`."""
        return Known(self._progress, self._passes, self._labels, self._right, name, job, processes)

    def pressing(self, points: int) -> Known:
        """The job after this one: the same attack again on `points` points, which changes no accuracy."""
        common = self._progress, self._passes, self._labels, self._right
        return Known(*common, self._name, self._job + 1, self._processes, points, self._so_far())

    def add(self, rows: np.ndarray, predicted: np.ndarray) -> None:
        """The points `rows` (n,), right when clean, have been attacked; `predicted` (P,) says so for all."""
        self._attacked += len(rows)
        self._stood += int((predicted[rows] == self._labels[rows]).sum())
        self._spent = 0
        self._tell_points(self._attacked)

    def passed(self, points: int) -> None:
        """So many points went through the model once, with a gradient or without: a long attack shows that it goes on."""
        self._spent += points * (GRADIENT if torch.is_grad_enabled() else 1)
        self._tell_points(self._attacked + self._spent / self._passes[self._job])

    def _tell_points(self, done: float) -> None:
        self.tell(min(1.0, self._processes * done / max(self._points, 1)))

    def _so_far(self) -> float:
        """The accuracy of the attacked points, times the clean one."""
        if self._accuracy is not None:
            return self._accuracy
        return self._right / len(self._labels) * (self._stood / self._attacked if self._attacked else 1.0)

    def tell(self, share: float) -> None:
        """Show that a share of this job is done, and the accuracy."""
        if self._progress is None:
            return
        self._share = share = max(share, self._share)
        count = len(self._labels)
        done = sum(self._passes[: self._job]) + share * self._passes[self._job]
        self._progress(round(count * done), count * sum(self._passes), f"{self._name} {100 * self._so_far():.1f}%")


def known_when_clean(points: Points, clean: Judgement, progress: Progress | None, attacks: Sequence[AttackSpec]) -> Known:
    """What is known before the first attack. Each is a job, or two where its limits are looked for as well."""
    labels = points.classes[points.head, points.label].numpy()
    passes = [1]
    for spec in attacks:
        passes += [spec.passes(points.heads.shape[1])] * (2 if points.seen else 1)
    return Known(progress, passes, labels, int((clean.predicted == labels).sum()))
