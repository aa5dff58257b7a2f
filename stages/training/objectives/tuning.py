"""Adversarial fine-tuning of a CLIP image tower: the published rivals of LAAT.

They use the raw text anchors of the training classes and the text tower's own logit scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stages.training.objectives.anchored import Adversarial
from stages.training.objectives.objective import Objective, Outcome, a_ce, divergence

if TYPE_CHECKING:
    from torch import Tensor

    from stages.training.embed import Embed


class Tecoa(Adversarial):
    """A-CE(x_adv, y) at the text tower's logit scale, which is also attacked (TeCoA: Mao et al., ICLR 2023)."""

    default_tau = None
    help = "A-CE on attacked images at the text tower's logit scale"


class Fare(Objective):
    """|g(x_adv) - g_0(x)|^2, embeddings before normalization, summed over D; no labels (FARE: Schlarmann et al., ICML 2024).

    The published attack has a momentum of 0.9. It is left out: there, it adds signs to 0.9 times signs and takes the sign
    again, which is the sign of the gradient wherever that is not zero.

    The anchors and `tau` only serve the accuracies and the checkpoint.
    """

    terms = ("distance",)
    clean = False
    labelled = False
    reference = True
    default_tau = None
    help = "squared distance of attacked images to the reference's embeddings, no labels"

    def inner(self, embed: Embed, x: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """The same distance."""
        target = embed.reference.raw(x)
        return lambda x_adv: _squared_distance(embed.raw(x_adv), target)

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """One forward pass, on the attacked images."""
        from torch.nn.functional import normalize

        attacked = embed.raw(x_adv)
        terms = {"distance": _squared_distance(attacked, embed.reference.raw(x))}
        return Outcome(terms, None, self.logits(normalize(attacked.detach(), dim=1)))


def _squared_distance(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).square().sum(1)


class PmgAft(Objective):
    """A-CE(x_adv, y) + beta (KL(p_0(x_adv) || p(x_adv)) + KL(p(x) || p(x_adv))), p_0 of the reference; the attack is on the
    A-CE alone (PMG-AFT: Wang et al., CVPR 2024).

    Each term is a mean over the images, weighted 1 : 1 : 1 as in the paper. The published program sums both KL terms over the
    batch: that is beta = the batch size.
    """

    terms = ("A-CE", "KL to the reference", "KL to clean images")
    reference = True
    default_tau = None
    default_beta = 1.0  # Wang et al., CVPR 2024
    help = "tecoa + KL to the reference + KL to clean images"

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """Gradients flow through p(x) too, as published."""
        attacked, clean = self.logits(embed(x_adv)), self.logits(embed(x))
        reference = self.logits(embed.reference(x_adv)).log_softmax(1)
        p = attacked.log_softmax(1)
        terms = {
            "A-CE": a_ce(attacked, labels),
            "KL to the reference": self.beta * divergence(reference, p),
            "KL to clean images": self.beta * divergence(clean.log_softmax(1), p),
        }
        return Outcome(terms, clean, attacked)


class Agft(Objective):
    """Cross-entropy of the logits s cos(g(x_adv), T) with the reference's soft labels softmax(gamma s cos(g_0(x), T)), which is
    also attacked; no labels (AGFT: CVPR 2026, github.com/YuboCui/AGFT).

    s is 1.8 times the logit scale 1 / tau: the published 180 for CLIP's 100. The checkpoint keeps the logit scale itself.
    """

    terms = ("soft A-CE",)
    clean = False
    labelled = False
    reference = True
    default_tau = None
    help = "soft labels of the reference on attacked images, no labels"
    sharpening, gamma = 1.8, 0.4

    def inner(self, embed: Embed, x: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """The same cross-entropy."""
        target = self._soft_labels(embed, x)
        return lambda x_adv: self._cross_entropy(self.logits(embed(x_adv)), target)

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """One forward pass, on the attacked images."""
        logits = self.logits(embed(x_adv))
        return Outcome({"soft A-CE": self._cross_entropy(logits, self._soft_labels(embed, x))}, None, logits)

    def _soft_labels(self, embed: Embed, x: Tensor) -> Tensor:
        """(N, C), of the clean images."""
        return (self.gamma * self.sharpening * self.logits(embed.reference(x))).softmax(1)

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        return -(target * (self.sharpening * logits).log_softmax(1)).sum(1)
