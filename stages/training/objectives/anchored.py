"""LAAT, adversarial training, TRADES and clean training against anchors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stages.training.objectives.objective import Objective, Outcome, a_ce, divergence

if TYPE_CHECKING:
    from torch import Tensor

    from stages.training.embed import Embed


def smoothing_loss(clean: Tensor, attacked: Tensor) -> Tensor:
    """Minus the cosine of each image's unit embeddings (N, D), clean and attacked -> (N,). Li et al., CVPR 2024, Sec. 3.3."""
    return -(clean * attacked).sum(1)


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


class Clean(Objective):
    """A-CE(x, y) without any attack: the undefended model to compare with."""

    attacks = False
    help = "A-CE on clean images, no attack"

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """One forward pass, on the clean images; `x_adv` is not looked at."""
        logits = self.logits(embed(x))
        return Outcome({"A-CE": a_ce(logits, labels)}, logits, None)
