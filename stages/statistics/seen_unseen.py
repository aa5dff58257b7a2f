"""Two sides of classes, seen and novel, that are candidates together: when a point is right, and resampling it. No torch.

A bias is subtracted from the seen classes' logits. A point changes sides at one bias, its limit: a seen point is right up to
it, a novel point beyond it. So the seen-unseen curve is exact, and the area under it (AUSUC) is a weighted Mann-Whitney count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stages.randomness import numpy_generator

DRAWS = 1000


def limits(cosines: np.ndarray, labels: np.ndarray, seen: int) -> np.ndarray:
    """The bias at which each point changes sides.

    Args:
        cosines: (P, C), the seen classes first; of equals the first wins, as in a decision.
        labels: (P,) the right class of each.
        seen: how many of the C are seen.

    Returns:
        (P,) float64. A seen point (label < seen) is right at every bias <= its limit, -inf for never; a novel point at every
        bias > its limit, inf for never.
    """
    values = np.asarray(cosines, dtype=np.float64)
    best = {True: values[:, :seen].argmax(1), False: seen + values[:, seen:].argmax(1)}
    top = values[:, :seen].max(1) - values[:, seen:].max(1)
    own = labels < seen
    first = np.where(own, best[True], best[False]) == labels
    return np.where(first, top, np.where(own, -np.inf, np.inf))


@dataclass(frozen=True)
class Sides:
    """Points of a generalized evaluation.

    Attributes:
        labels: (P,) int64, the right class of each; those below `seen` are seen classes.
        seen, classes: how many classes are seen, and how many there are; each has a point.
    """

    labels: np.ndarray
    seen: int
    classes: int

    @property
    def own(self) -> np.ndarray:
        """(P,) bool: whose class is seen."""
        return self.labels < self.seen

    def worst(self, several: Sequence[np.ndarray]) -> np.ndarray:
        """The limits (P,) of the points that are right in every one of `several` (P,) limits."""
        together = np.stack(several)
        return np.where(self.own, together.min(0), together.max(0))

    def right(self, limit: np.ndarray, bias: float = 0.0) -> np.ndarray:
        """(P,) bool: which points are right when `bias` is subtracted from the seen logits."""
        return np.where(self.own, bias <= limit, bias > limit)

    @property
    def counts(self) -> np.ndarray:
        """(classes,) how many points each class has."""
        return np.bincount(self.labels, minlength=self.classes)

    def weights(self) -> np.ndarray:
        """(P,) what each point adds to S or U when it is right: both are means over classes."""
        return 1 / (self.counts[self.labels] * np.where(self.own, self.seen, self.classes - self.seen))

    def size(self, part: bool) -> float:
        """As how many images a side counts, the seen one or not: the variance of a per-class mean is at most that of a share
        among so many, C^2 / n = sum over classes of 1 / n_c (with as many images a class; else nearly)."""
        counts = self.counts[: self.seen] if part else self.counts[self.seen :]
        return len(counts) ** 2 / float((1 / counts).sum())

    def redrawn(self, seed: int) -> Iterator[np.ndarray]:
        """`DRAWS` bootstrap draws of the points, with replacement within each class: (P,) how often each was drawn."""
        generator = numpy_generator(seed, "evaluate/gzsl/bootstrap")
        counts = self.counts
        by_class = np.argsort(self.labels, kind="stable")
        starts = np.concatenate(([0], np.cumsum(counts)))[:-1]
        for _ in range(DRAWS):
            within = (generator.random(len(self.labels)) * np.repeat(counts, counts)).astype(np.int64) + np.repeat(
                starts, counts
            )
            yield np.bincount(by_class[within], minlength=len(self.labels))

    def area(self, limit: np.ndarray) -> Callable[[np.ndarray], float]:
        """The area under the seen-unseen curve of these limits (P,), for any weights (P,) of the points."""
        order = np.argsort(limit[self.own], kind="stable")
        seen_at, novel_at = np.flatnonzero(self.own)[order], np.flatnonzero(~self.own)
        ranked = limit[seen_at]
        # S right of a novel point's limit: seen points with a larger limit, and half of those with an equal one
        after = np.searchsorted(ranked, limit[novel_at], side="right")
        upto = np.searchsorted(ranked, limit[novel_at], side="left")
        counted = np.isfinite(limit[novel_at])

        def area(share: np.ndarray) -> float:
            over = np.concatenate((np.cumsum(share[seen_at][::-1])[::-1], [0.0]))
            # sums of parts of 1 may round to a little over it
            return min(1.0, float((share[novel_at] * (over[after] + over[upto]) / 2)[counted].sum()))

        return area
