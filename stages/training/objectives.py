"""Training objectives: what the inner attack maximizes and what the outer step minimizes. One loop runs them all.

A new objective is a subclass of `Objective` and a line in `OBJECTIVES`. Importing this file does not import torch, so that
`--help` and a wrong name are answered at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from inspect import isabstract
from operator import add
from typing import TYPE_CHECKING

from stages.errors import UsageError, nearest
from stages.imports import import_by_path, is_import_path

if TYPE_CHECKING:
    from torch import Tensor


def anchor_logits(embeddings: Tensor, anchors: Tensor, tau: float) -> Tensor:
    """Cosines over tau: unit embeddings (N, D) against unit anchors (C, D) -> (N, C). Li et al., CVPR 2024, Sec. 3.3."""
    return embeddings @ anchors.T / tau


def smoothing_loss(clean: Tensor, attacked: Tensor) -> Tensor:
    """Minus the cosine of each image's unit embeddings (N, D), clean and attacked -> (N,). Li et al., CVPR 2024, Sec. 3.3."""
    return -(clean * attacked).sum(1)


# x (N, 3, H, W) in [0, 1] -> unit embeddings (N, D), float32
Embed = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class Outcome:
    """One outer step: the terms of each image's loss (N,) by name, and the logits (N, C) that came along (None where a side
    was not run)."""

    terms: dict[str, Tensor]
    clean: Tensor | None
    attacked: Tensor | None

    @property
    def losses(self) -> Tensor:
        """The loss of each image, (N,): the sum of the terms."""
        return reduce(add, self.terms.values())


class Objective(ABC):
    """One way to train against fixed anchors.

    Args:
        anchors: (C, D) unit rows, on the model's device; they never get gradients.
        tau: temperature; logits are cosine / tau.
        beta: weight of the second term of the loss, where there is one.

    Attributes:
        terms: names of the loss's terms.
        clean, attacks: whether the outer step looks at clean images and at attacked ones.
        default_beta: the weight of the second term where none is given.
        help: what it is, in a few words, for `--help`.
    """

    terms: tuple[str, ...] = ("A-CE",)
    clean = True
    attacks = True
    default_beta = 0.0
    help = ""

    def __init__(self, anchors: Tensor, tau: float, beta: float = 0.0) -> None:
        self.anchors, self.tau, self.beta = anchors, tau, beta

    def logits(self, embeddings: Tensor) -> Tensor:
        """See `anchor_logits`."""
        return anchor_logits(embeddings, self.anchors, self.tau)

    def inner(self, embed: Embed, x: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """What the inner attack maximises: x_adv (N, 3, H, W) -> loss of each image (N,); A-CE unless overridden.

        `embed` is the model in eval mode, x the clean images, labels (N,).
        """
        return lambda x_adv: a_ce(self.logits(embed(x_adv)), labels)

    @abstractmethod
    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """The loss of the outer step, model in training mode; x and x_adv (N, 3, H, W) in [0, 1], labels (N,)."""


def a_ce(logits: Tensor, labels: Tensor) -> Tensor:
    """A-CE, the cross-entropy of each image: (N, C), (N,) -> (N,). Li et al., CVPR 2024, Sec. 3.3."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, labels, reduction="none")


class Laat(Objective):
    """A-CE(x_adv, y) + beta * smoothing(x, x_adv), two forward passes (Li et al., CVPR 2024, Sec. 3.3)."""

    terms = ("A-CE", "smoothing")
    default_beta = 1.0  # Li et al., CVPR 2024
    help = "A-CE on attacked images + smoothing"

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """The attacked images go through first, as published (it decides the order of the batch-norm updates)."""
        attacked, clean = embed(x_adv), embed(x)
        logits = self.logits(attacked)
        terms = {"A-CE": a_ce(logits, labels), "smoothing": self.beta * smoothing_loss(clean, attacked)}
        return Outcome(terms, self.logits(clean.detach()), logits)


class Adversarial(Objective):
    """Plain adversarial training, A-CE(x_adv, y) (Madry et al., ICLR 2018)."""

    clean = False
    help = "A-CE on attacked images"

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """One forward pass, on the attacked images."""
        logits = self.logits(embed(x_adv))
        return Outcome({"A-CE": a_ce(logits, labels)}, None, logits)


class Trades(Objective):
    """A-CE(x, y) + beta * KL(p(x) || p(x_adv)), the attack on that KL (Zhang et al., ICML 2019)."""

    terms = ("A-CE", "KL")
    default_beta = 6.0  # Zhang et al., ICML 2019
    help = "A-CE on clean images + KL"

    def inner(self, embed: Embed, x: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """KL(p(x) || p(x_adv)); the clean side is looked up once. Its gradient at x itself is zero: start elsewhere."""
        import torch

        with torch.no_grad():
            clean = self.logits(embed(x)).log_softmax(1)
        return lambda x_adv: divergence(clean, self.logits(embed(x_adv)).log_softmax(1))

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """Two forward passes, the clean images first, as published."""
        clean, attacked = self.logits(embed(x)), self.logits(embed(x_adv))
        kl = divergence(clean.log_softmax(1), attacked.log_softmax(1))
        return Outcome({"A-CE": a_ce(clean, labels), "KL": self.beta * kl}, clean, attacked)


def divergence(one: Tensor, other: Tensor) -> Tensor:
    """KL(one || other) of each image; both log-probabilities (N, C) -> (N,)."""
    return (one.exp() * (one - other)).sum(1)


class Clean(Objective):
    """A-CE(x, y) without any attack: the undefended model to compare with."""

    attacks = False
    help = "A-CE on clean images, no attack"

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """One forward pass, on the clean images; `x_adv` is not looked at."""
        logits = self.logits(embed(x))
        return Outcome({"A-CE": a_ce(logits, labels)}, logits, None)


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


OBJECTIVES: dict[str, type[Objective]] = {
    "laat": Laat,
    "at": Adversarial,
    "trades": Trades,
    "clean": Clean,
    "cos": CosineDistance,
    "acos": AngularDistance,
    "l2": EuclideanDistance,
}


def check_objective_name(name: str) -> None:
    """Raise UsageError unless `name` is one of `OBJECTIVES` or an import path; nothing is imported."""
    if name not in OBJECTIVES and not is_import_path(name):
        raise UsageError(f"unknown --objective '{name}'", f"nearest: {nearest(name, OBJECTIVES)}; or package.module:Class")


def find_objective(name: str) -> type[Objective]:
    """The objective called `name`, one of `OBJECTIVES` or the import path of your own, `package.module:Class`.

    Raises UsageError for an unknown name or a class that is no objective, MissingError for a module that cannot be imported.
    """
    check_objective_name(name)
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    found = import_by_path(name, "--objective")
    if not (isinstance(found, type) and issubclass(found, Objective)) or isabstract(found):
        fix = "name a class that derives from stages.training.objectives.Objective and has a method `outer`"
        raise UsageError(f"--objective {name} is not an objective", fix)
    return found
