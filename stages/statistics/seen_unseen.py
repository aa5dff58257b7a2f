"""When a sample is correctly classified if seen and novel classes are candidates together, and resampling it. No torch.

A bias is subtracted from the seen classes' logits. The answer changes at one bias, the limit: a sample of a seen class is
correct up to it, one of a novel class beyond it. So the seen-unseen curve is exact, and the area under it (AUSUC) is a weighted
Mann-Whitney count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stages.randomness import numpy_generator

DRAWS = 1000


def limits(cosines: np.ndarray, labels: np.ndarray, seen: int) -> np.ndarray:
    """The bias at which each sample changes from correct to wrong, or from wrong to correct.

    Args:
        cosines: (P, C), the seen classes first; of equal ones the first wins, as in a decision.
        labels: (P,) correct classes.
        seen: how many of the C are seen.

    Returns:
        (P,) float64. A sample of a seen class (label < seen) is correct at every bias <= its limit, -inf for never; one of a
        novel class at every bias > its limit, inf for never.
    """
    values = np.asarray(cosines, dtype=np.float64)
    best = {True: values[:, :seen].argmax(1), False: seen + values[:, seen:].argmax(1)}
    top = values[:, :seen].max(1) - values[:, seen:].max(1)
    own = labels < seen
    first = np.where(own, best[True], best[False]) == labels
    return np.where(first, top, np.where(own, -np.inf, np.inf))


@dataclass(frozen=True)
class SeenUnseen:
    """The samples of a generalized evaluation.

    Attributes:
        labels: (P,) int64, the correct class of each; those below `seen` are seen classes.
        seen, classes: number of seen classes and of all classes; each has a sample.
    """

    labels: np.ndarray
    seen: int
    classes: int

    @property
    def own(self) -> np.ndarray:
        """(P,) bool: whether the sample is of a seen class."""
        return self.labels < self.seen

    def worst(self, several: Sequence[np.ndarray]) -> np.ndarray:
        """The limits (P,) of being correct under every one of `several` limits (P,)."""
        together = np.stack(several)
        return np.where(self.own, together.min(0), together.max(0))

    def right(self, limit: np.ndarray, bias: float = 0.0) -> np.ndarray:
        """(P,) bool: which samples are correct when `bias` is subtracted from the seen logits."""
        return np.where(self.own, bias <= limit, bias > limit)

    @property
    def counts(self) -> np.ndarray:
        """(classes,) samples of each class."""
        return np.bincount(self.labels, minlength=self.classes)

    def weights(self) -> np.ndarray:
        """(P,) what each sample adds to S or U when it is correct: both are means over classes."""
        return 1 / (self.counts[self.labels] * np.where(self.own, self.seen, self.classes - self.seen))

    def size(self, seen: bool) -> float:
        """Effective number of samples of the seen or the novel classes: the variance of a per-class mean is at most that of
        a share among C^2 / n = sum over classes of 1 / n_c samples (with equal n_c; else nearly)."""
        counts = self.counts[: self.seen] if seen else self.counts[self.seen :]
        return len(counts) ** 2 / float((1 / counts).sum())

    def resampled(self, seed: int) -> Iterator[np.ndarray]:
        """`DRAWS` bootstrap draws with replacement within each class: (P,) how often each sample was drawn."""
        generator = numpy_generator(seed, "evaluate/gzsl/bootstrap")
        counts = self.counts
        by_class = np.argsort(self.labels, kind="stable")
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        for _ in range(DRAWS):
            within = (generator.random(len(self.labels)) * np.repeat(counts, counts)).astype(np.int64)
            yield np.bincount(by_class[within + starts], minlength=len(self.labels))

    def area(self, limit: np.ndarray) -> Callable[[np.ndarray], float]:
        """The area under the seen-unseen curve of these limits (P,), as a function of the samples' weights (P,)."""
        order = np.argsort(limit[self.own], kind="stable")
        seen_at, novel_at = np.flatnonzero(self.own)[order], np.flatnonzero(~self.own)
        ranked = limit[seen_at]
        # S just beyond a novel sample's limit: seen samples with a larger limit, and half of those with an equal one
        after = np.searchsorted(ranked, limit[novel_at], side="right")
        upto = np.searchsorted(ranked, limit[novel_at], side="left")
        counted = np.isfinite(limit[novel_at])

        def area(share: np.ndarray) -> float:
            over = np.concatenate((np.cumsum(share[seen_at][::-1])[::-1], [0.0]))
            # rounding can take the sum a little over 1
            return min(1.0, float((share[novel_at] * (over[after] + over[upto]) / 2)[counted].sum()))

        return area
