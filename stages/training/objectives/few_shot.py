"""Few-shot rivals without anchors: adversarial querying, and transfer from a linear classifier of the seen classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stages.training.objectives.objective import Objective, Outcome, a_ce

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stages.training.embed import Embed
    from stages.training.settings import TrainSettings


class AdversarialQuerying(Objective):
    """Cross-entropy of attacked queries under a head made from clean support (AQ; Goldblum et al., NeurIPS 2020).

    The head is on the features before the projection; see `stages.models.heads`. The attack does not change it. In the outer
    step support and attacked queries go through the model together, so that gradients flow through both and batch norm has
    the statistics of both.
    """

    terms = ("CE",)
    clean = False
    anchored = False
    episodic = True
    help = "adversarial querying: episodes with attacked queries"

    def prepare(self, settings: TrainSettings, features: int) -> None:
        """See `Objective.prepare`."""
        from stages.models.heads import HEADS

        super().prepare(settings, features)
        self._head: nn.Module = HEADS[settings.episode_head]()
        self.module = self._head if any(True for _ in self._head.parameters()) else None

    def inner(self, embed: Embed, x: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """The cross-entropy of the queries, x_adv (queries, 3, H, W), under the head of the clean support in `x`."""
        import torch

        shape = self.shape
        with torch.no_grad():
            support = shape.support(x)
            shown = embed.features(support.flatten(0, 2).contiguous(memory_format=torch.channels_last))
            heads = self._head(shown.unflatten(0, support.shape[:3]))
        classes = shape.labels(len(heads)).to(x.device)
        return lambda x_adv: a_ce(_logits(heads, embed.features(x_adv)), classes)

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """One forward pass on all images of the episodes; the losses are those of the queries."""
        shape, features = self.shape, embed.features(x_adv)
        heads = self._head(shape.support(features))
        logits = _logits(heads, shape.query(features).flatten(0, 1))
        classes = shape.labels(len(heads)).to(x.device)
        return Outcome({"CE": a_ce(logits, classes)}, None, logits, classes)


def _logits(heads: Tensor, queries: Tensor) -> Tensor:
    """Heads (E, N, D + 1) and the features of their queries (E * M, D), in order -> logits (E * M, N)."""
    from stages.models.heads import head_logits

    return head_logits(heads, queries.unflatten(0, (len(heads), len(queries) // max(len(heads), 1)))).flatten(0, 1)


class LinearClassifier(Objective):
    """Adversarial training of a linear classifier of the seen classes, on the features before the projection.

    The transfer baseline of few-shot learning (Chen et al., ICLR 2019; adversarially trained in Goldblum et al., NeurIPS
    2020): novel classes are then told apart by their nearest class mean, `laat eval --head protonet`.
    """

    terms = ("CE",)
    clean = False
    anchored = False
    help = "AT of a learnt linear classifier, for few-shot transfer"
    module: nn.Module

    def prepare(self, settings: TrainSettings, features: int) -> None:
        """See `Objective.prepare`."""
        from torch import nn

        from stages.randomness import torch_generator
        from stages.uninitialised import Uninitialised

        super().prepare(settings, features)
        with Uninitialised():
            self.module = nn.Linear(features, len(self.anchors))
        bound, generator = features**-0.5, torch_generator(settings.seed, "weights/head")
        nn.init.uniform_(self.module.weight, -bound, bound, generator=generator)
        nn.init.zeros_(self.module.bias)

    def inner(self, embed: Embed, x: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """The cross-entropy of the linear classifier."""
        return lambda x_adv: a_ce(self.module(embed.features(x_adv)), labels)

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """One forward pass, on the attacked images."""
        logits = self.module(embed.features(x_adv))
        return Outcome({"CE": a_ce(logits, labels)}, None, logits)
