"""What was decided at every point of an evaluation, in columns: every figure of a report is computed from these. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

CLEAN = "clean"
WORST = "worst"


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a model said at each of P points, on clean images or after one attack.

    Attributes:
        predicted: (P,) int32, the class, a position among the group's.
        margin: (P,) float32, cosine of the right class minus the best wrong one, in [-2, 2]; at most 0 where the answer is
            wrong; infinite in a head of one class.
        norm: (P,) float32, distance from the clean image in the norm of the threat model, pixel units; 0 where nothing was
            attacked.
        limit: (P,) float32, where seen and novel classes are candidates together (see `sides.limits`), else None: the bias on
            the seen cosines at which the point changes sides, and of what is right under the attack the nearer one. Points
            that have fallen, or were wrong when clean, are attacked with every step for it; the other columns do not say so.
    """

    predicted: np.ndarray
    margin: np.ndarray
    norm: np.ndarray
    limit: np.ndarray | None = None

    @classmethod
    def empty(cls, count: int, *, limits: bool = False) -> Judgement:
        """Room for `count` points; norms are 0. Limits only where they are wanted."""
        floats = (np.empty(count, np.float32), np.zeros(count, np.float32))
        return cls(np.empty(count, np.int32), *floats, np.empty(count, np.float32) if limits else None)

    def copy(self) -> Judgement:
        """The same in memory of its own."""
        limit = None if self.limit is None else self.limit.copy()
        return Judgement(self.predicted.copy(), self.margin.copy(), self.norm.copy(), limit)


@dataclass(frozen=True, eq=False)
class PointRows:
    """P points of one model on one group of classes. The points of an episode lie together, in the order of its head.

    Attributes:
        image: (P,) int32, which image of the set that was evaluated.
        label: (P,) int32, the right class, a position among the group's.
        episode: (P,) int32, ascending; -1 where there are none.
        clean: on clean images.
        attacks: name -> after that attack. A point that is wrong when clean is not attacked: there it is as when clean.
            One that falls is judged on the image that it fell on first. Saved images are judged wherever they are.
        heads: (E, N) int32, the classes of each episode in the order of its head; (0, 0) without episodes.
        support: (E, N, K) int32, the images that the head was made from; (0, 0, 0) without episodes.
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
        """How many there are; 0 for none."""
        return int(self.episode[-1]) + 1 if len(self) else 0

    def correct(self) -> dict[str, np.ndarray]:
        """'clean' and each attack -> (P,) bool: right when clean, and for an attack after it as well."""
        clean = self.clean.predicted == self.label
        return {CLEAN: clean, **{name: clean & (found.predicted == self.label) for name, found in self.attacks.items()}}

    def of_images(self, index: np.ndarray) -> PointRows:
        """The same with images numbered otherwise: image i becomes `index[i]`."""
        renumbered = np.asarray(index, dtype=np.int32)
        return replace(self, image=renumbered[self.image], support=renumbered[self.support])
