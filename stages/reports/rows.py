"""The decisions of an evaluation in columns, one row per point: every figure of a report is computed from these. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

CLEAN = "clean"
WORST = "worst"


@dataclass(frozen=True, eq=False)
class Judgement:
    """The predictions of a model at each of P points, on clean images or after one attack.

    Attributes:
        predicted: (P,) int32, index of the predicted class in the group.
        margin: (P,) float32, cosine of the correct class minus that of the best other one, in [-2, 2]; of few-shot heads and
            of classifiers of fixed classes the logit instead, without bounds. At most 0 where the prediction is wrong; infinite
            with a single class.
        norm: (P,) float32, distance from the clean image in the norm of the threat model, in pixel units; 0 without attack.
        limit: (P,) float32, where seen and novel classes are candidates together (see `seen_unseen.limits`), else None:
            the bias on the seen cosines at which the prediction changes between correct and wrong. Under an attack it is the
            smallest range of biases found; for it misclassified points are attacked with every step, which the other columns
            do not show.
    """

    predicted: np.ndarray
    margin: np.ndarray
    norm: np.ndarray
    limit: np.ndarray | None = None

    @classmethod
    def empty(cls, count: int, *, limits: bool = False) -> Judgement:
        """Memory for `count` points, with norms of 0, and with limits if asked for."""
        floats = (np.empty(count, np.float32), np.zeros(count, np.float32))
        return cls(np.empty(count, np.int32), *floats, np.empty(count, np.float32) if limits else None)

    def copy(self) -> Judgement:
        """A copy in its own memory."""
        limit = None if self.limit is None else self.limit.copy()
        return Judgement(self.predicted.copy(), self.margin.copy(), self.norm.copy(), limit)


@dataclass(frozen=True, eq=False)
class PointRows:
    """P points of one model on one group of classes. The points of an episode are contiguous, in the order of its classes.

    Attributes:
        image: (P,) int32, position of the image in the evaluated group (see `RowPart.images`).
        label: (P,) int32, index of the correct class in the group.
        episode: (P,) int32, ascending; -1 without episodes.
        clean: on clean images.
        attacks: name -> after that attack. A point that is misclassified when clean is not attacked and keeps its clean
            values; any other has those of the first image that is misclassified. Saved images are always evaluated.
        heads: (E, N) int32, the classes of each episode in order; (0, 0) without episodes.
        support: (E, N, K) int32, the support images of each class; (0, 0, 0) without episodes.
    """

    image: np.ndarray
    label: np.ndarray
    episode: np.ndarray
    clean: Judgement
    attacks: Mapping[str, Judgement] = field(default_factory=dict)
    heads: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    support: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), np.int32))

    def __len__(self) -> int:
        return len(self.image)

    @property
    def episodes(self) -> int:
        """Number of episodes; 0 for none."""
        return int(self.episode[-1]) + 1 if len(self) else 0

    def correct(self) -> dict[str, np.ndarray]:
        """'clean' and each attack -> (P,) bool: correct when clean, and for an attack also after it."""
        clean = self.clean.predicted == self.label
        return {CLEAN: clean, **{name: clean & (found.predicted == self.label) for name, found in self.attacks.items()}}
