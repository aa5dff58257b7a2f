"""The accuracy so far, for the progress line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from stages.attacks.spec import GRADIENT, AttackSpec
from stages.attacks.target import Progress
from stages.evaluate.points import Points
from stages.evaluate.rows import CLEAN, Judgement


class Known:
    """What is known so far of the points under one attack, or when clean, for the progress line.

    Args:
        progress: what to tell it to.
        passes: about how many forward passes a point costs, when clean and under each attack in turn.
        labels: (P,) the right classes.
        right: how many points are right when clean.
        name: of the attack.
        job: how many of `passes` were done before it.
        processes: how many share the points.
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
    ) -> None:
        self._progress, self._passes, self._labels, self._right = progress, passes, labels, right
        self._name, self._job, self._processes = name, job, processes
        self._attacked = self._stood = self._spent = 0
        self._share = 0.0

    def under(self, name: str, processes: int) -> Known:
        """Nothing known yet of the next attack."""
        return Known(self._progress, self._passes, self._labels, self._right, name, self._job + 1, processes)

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
        self.tell(min(1.0, self._processes * done / max(self._right, 1)))

    def tell(self, share: float) -> None:
        """Show that a share of this job is done, and the accuracy: of the attacked points, times the clean one."""
        if self._progress is None:
            return
        self._share = share = max(share, self._share)
        count = len(self._labels)
        accuracy = self._right / count * (self._stood / self._attacked if self._attacked else 1.0)
        done = sum(self._passes[: self._job]) + share * self._passes[self._job]
        self._progress(round(count * done), count * sum(self._passes), f"{self._name} {100 * accuracy:.1f}%")


def known_when_clean(points: Points, clean: Judgement, progress: Progress | None, attacks: Sequence[AttackSpec]) -> Known:
    """What is known before the first attack."""
    labels = points.classes[points.head, points.label].numpy()
    passes = [1, *(spec.passes(points.heads.shape[1]) for spec in attacks)]
    return Known(progress, passes, labels, int((clean.predicted == labels).sum()))
