"""Classifiers with the few-shot heads of `stages.models.heads`, on the features of the backbone before its projection."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor, nn

from stages.errors import InputError, UsageError
from stages.models.classifier import Classifier, exact
from stages.models.embedding import EmbeddingModel, Wrapped
from stages.models.fit import REMAKE, kinds_of, require_fit
from stages.models.heads import HEADS, RidgeHead, with_one
from stages.models.wrapped import with_embedding


class HeadFeatures(Wrapped):
    """The pooled features of an embedding model before its projection, with a one appended; `head` makes heads from them.

    Args:
        inner: an embedding model; of a module that is not ours its outputs are the features.
        head: see `stages.models.heads`.
    """

    as_is = True

    def __init__(self, inner: nn.Module, head: nn.Module) -> None:
        super().__init__(inner)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) float in [0, 1] -> (N, features + 1)."""
        return with_one(exact(pooled_features(self.inner, x)))

    def heads(self, support: Tensor) -> Tensor:
        """Outputs of this model for support images (E, N, K, features + 1) -> heads (E, N, features + 1)."""
        heads: Tensor = self.head(support[..., :-1])
        return heads


def pooled_features(model: nn.Module, x: Tensor) -> Tensor:
    """The features (N, F) of the backbone of `model` before the projection, for images (N, 3, H, W) in [0, 1]."""
    if isinstance(model, EmbeddingModel):
        return model.features(x)
    features: Tensor = model(x.contiguous())
    return features


def few_shot(classifier: Classifier, head: str | nn.Module, name: str = "the model") -> Classifier:
    """The classifier of a head on support images: `over(heads, head=…)` then has logits of the head, and attacks see it.

    Args:
        classifier: nothing of it is copied.
        head: one of `HEADS`, with the learnt parameters of the checkpoint, or such a module.
        name: what errors call the model.

    Raises:
        InputError: a head with learnt parameters, which the model does not have or has in other shapes.
        UsageError: a classifier of fixed classes.
    """
    if classifier.closed:
        raise UsageError(f"{name} is a classifier of fixed classes, without features of support images", "give --shots 0")
    module = _loaded(classifier, head, name) if isinstance(head, str) else head
    made = with_embedding(classifier, _around(classifier.embedding, module.to(classifier.device).eval()))
    made.logit_scale = 1.0
    return made


def head_of(classifier: Classifier) -> HeadFeatures | None:
    """The part of a `few_shot` classifier that makes heads; None for other classifiers."""
    return next((one for one in classifier.embedding.modules() if isinstance(one, HeadFeatures)), None)


def _around(embedding: nn.Module, head: nn.Module) -> nn.Module:
    """The embedding model with the features of its innermost part, inside what is around it."""
    if not isinstance(embedding, Wrapped):
        inner = HeadFeatures(embedding, head)
        inner.training = embedding.training
        return inner
    made = copy(embedding)
    made._modules = {**embedding._modules, "inner": _around(embedding.inner, head)}
    return made


def _loaded(classifier: Classifier, head: str, name: str) -> nn.Module:
    module = HEADS[head]()
    if isinstance(module, RidgeHead):
        learnt = classifier.origin.head
        if learnt.keys() != module.state_dict().keys():
            raise InputError(
                f"{name} has no head {head}: its lambda, a and b are learnt with `laat train --objective aq --head {head}`",
                "use --head protonet, which has nothing to learn, or a model that was trained with it",
            )
        given = {key: torch.from_numpy(value.copy()) for key, value in learnt.items()}
        require_fit(module.state_dict(), kinds_of(given), name=f"a head {head}", where=f"the head of {name}", fix=REMAKE)
        module.load_state_dict(given)
    return module
