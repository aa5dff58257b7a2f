"""The interface of a training objective. Importing it does not import torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stages.training.embed import Embed
    from stages.training.settings import TrainSettings


def anchor_logits(embeddings: Tensor, anchors: Tensor, tau: float) -> Tensor:
    """Cosines over tau: unit embeddings (N, D) against unit anchors (C, D) -> (N, C). Li et al., CVPR 2024, Sec. 3.3."""
    return embeddings @ anchors.T / tau


def a_ce(logits: Tensor, labels: Tensor) -> Tensor:
    """A-CE, the cross-entropy of each image: (N, C), (N,) -> (N,). Li et al., CVPR 2024, Sec. 3.3."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, labels, reduction="none")


def divergence(one: Tensor, other: Tensor) -> Tensor:
    """KL(one || other) of each image; both log-probabilities (N, C) -> (N,)."""
    return (one.exp() * (one - other)).sum(1)


@dataclass(frozen=True)
class Outcome:
    """One outer step: the terms of each image's loss (N,) by name, and the logits (N, C) that came along (None where a side
    was not run)."""

    terms: dict[str, Tensor]
    clean: Tensor | None
    attacked: Tensor | None
    labels: Tensor | None = None
    """The true class of each row of the logits, where that is not the label of the image."""

    @property
    def losses(self) -> Tensor:
        """The loss of each image, (N,): the sum of the terms."""
        return reduce(add, self.terms.values())


class Objective(ABC):
    """One way to train a model; most of them do so against fixed anchors.

    Args:
        anchors: (C, D) unit rows, on the model's device; they never get gradients.
        tau: temperature; logits are cosine / tau.
        beta: weight of the second term of the loss, where there is one.

    Attributes:
        terms: names of the loss's terms.
        clean, attacks: whether the outer step looks at clean images and at attacked ones.
        labelled: whether the loss depends on the labels; otherwise they are used for accuracies only.
        reference: whether it calls `embed.reference`, a frozen model: the initial weights, or those of `--reference`.
        tokens: whether it calls `embed.tokens`; a model without patch tokens is refused before training.
        anchored: whether it trains the projection to the anchors; otherwise the model is one for few-shot heads alone, and
            epochs are scored by episodes.
        episodic: whether its batches are episodes, of which only the queries are attacked; `shape` is theirs.
        module: what is learnt besides the model, made by `prepare`; in the checkpoint its tensors are `head.*`.
        default_tau: the temperature where none is given; None is the text tower's own, 1 / logit scale.
        default_beta: the weight of the second term where none is given; 0 for a bundled objective that has none.
        alpha: a further weight, which `--alpha` sets; None where there is none.
        help: what it is, in a few words, for `--help`.
    """

    terms: tuple[str, ...] = ("A-CE",)
    clean = True
    attacks = True
    labelled = True
    reference = False
    tokens = False
    anchored = True
    episodic = False
    module: nn.Module | None = None
    default_tau: float | None = 1.0
    default_beta = 0.0
    alpha: float | None = None
    help = ""

    def __init__(self, anchors: Tensor, tau: float, beta: float = 0.0) -> None:
        self.anchors, self.tau, self.beta = anchors, tau, beta

    @property
    def own_weights(self) -> dict[str, float | None]:
        """beta and alpha as a run records them: beta is None at its default, which alpha is left out at."""
        found: dict[str, float | None] = {"beta": None if self.beta == self.default_beta else self.beta}
        return found if self.alpha == type(self).alpha else {**found, "alpha": self.alpha}

    def prepare(self, settings: TrainSettings, features: int) -> None:
        """Called once before training, when the model is known; makes `module`, where something is learnt besides the model.

        Args:
            settings: of the run.
            features: width of `embed.features`.
        """
        settings.check_episodic(episodic=self.episodic)
        self.shape = settings.episode

    def loss_count(self, images: int) -> int:
        """How many losses `outer` has for `images` images of a batch."""
        return self.shape.query_count(images) if self.episodic else images

    def logits(self, embeddings: Tensor) -> Tensor:
        """See `anchor_logits`."""
        return anchor_logits(embeddings, self.anchors, self.tau)

    def inner(self, embed: Embed, x: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """What the inner attack maximises: x_adv (N, 3, H, W) -> loss of each image (N,); A-CE unless overridden.

        `embed` is the model in eval mode, x the clean images, labels (N,). Of episodes, x_adv are the queries alone.
        """
        return lambda x_adv: a_ce(self.logits(embed(x_adv)), labels)

    @abstractmethod
    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """The loss of the outer step, model in training mode; x and x_adv (N, 3, H, W) in [0, 1], labels (N,).

        `embed(x)` are unit embeddings (N, D); `embed.raw(x)`, `embed.tokens(x)` and `embed.reference`: see `Embed`.
        """
