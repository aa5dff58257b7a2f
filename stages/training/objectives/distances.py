"""Adversarial training on distances between an image and its anchor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from stages.training.objectives.objective import Objective, Outcome

if TYPE_CHECKING:
    from torch import Tensor

    from stages.training.embed import Embed


class Distance(Objective):
    """Adversarial training on a distance to the image's own anchor alone (ablations of Li et al., CVPR 2024, Sec. 4.3).

    `tau` only scales the logits that accuracies are counted from.
    """

    clean = False

    @abstractmethod
    def distance(self, cosine: Tensor) -> Tensor:
        """Cosine with the anchor (N,) -> distance (N,)."""

    def inner(self, embed: Embed, x: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """The same distance, which the attack drives up."""
        return lambda x_adv: self._to_own_anchor(embed(x_adv), labels)

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """One forward pass, on the attacked images."""
        attacked = embed(x_adv)
        return Outcome({self.terms[0]: self._to_own_anchor(attacked, labels)}, None, self.logits(attacked.detach()))

    def _to_own_anchor(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return self.distance((embeddings * self.anchors[labels]).sum(1))


_EDGE = 1e-6


class CosineDistance(Distance):
    """Minus the cosine."""

    terms = ("cosine",)
    help = "cosine to the image's own anchor"

    def distance(self, cosine: Tensor) -> Tensor:
        """See `Distance`."""
        return -cosine


class AngularDistance(Distance):
    """The angle, in radians."""

    terms = ("angle",)
    help = "angle to it"

    def distance(self, cosine: Tensor) -> Tensor:
        """The slope of arccos is infinite at +-1, so the cosine is clamped."""
        return cosine.clamp(-1 + _EDGE, 1 - _EDGE).acos()


class EuclideanDistance(Distance):
    """The Euclidean distance between unit vectors."""

    terms = ("distance",)
    help = "Euclidean distance to it"

    def distance(self, cosine: Tensor) -> Tensor:
        """The slope of the root is infinite at 0, so the square is clamped."""
        return (2 - 2 * cosine).clamp(min=2 * _EDGE).sqrt()
