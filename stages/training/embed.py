"""What objectives call: the model that is trained, and the frozen reference model beside it."""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import Tensor, nn

from stages.errors import UsageError
from stages.models.classifier import exact, unit
from stages.models.clip_tower import no_tokens
from stages.models.embedding import images_for
from stages.models.few_shot import pooled_features
from stages.models.folding import fold
from stages.models.frozen import inference
from stages.models.no_images import at_least_one, features_of

# (raw embeddings (N, D), projected patch tokens (N, T, D))
Tokens = tuple[Tensor, Tensor]


class Embed:
    """A model as objectives call it; matrix products may be in bfloat16, results are in float32 at least.

    Args:
        model: any module, images (N, 3, H, W) in [0, 1] -> embeddings (N, D).
        half: bfloat16 autocast.
        reference: what `reference` returns; None where the objective did not declare that it needs one.
    """

    def __init__(self, model: nn.Module, *, half: bool = False, reference: Reference | None = None) -> None:
        self._model, self._half, self._reference = model, half, reference

    def in_precision(self, *, half: bool) -> Embed:
        """The same model in bfloat16 autocast or not; the reference stays as it is, and so does what it remembers."""
        return Embed(self._model, half=half, reference=self._reference)

    def __call__(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] -> unit embeddings (N, D)."""
        return unit(self.raw(x))

    def raw(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] -> embeddings (N, D) before normalization."""
        with self._autocast(x):
            return exact(features_of(self._model, images_for(self._model, x)))

    def features(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] -> pooled features (N, F) before the projection; of other modules their outputs."""
        with self._autocast(x):
            return exact(features_of(self._model, x, partial(pooled_features, self._model)))

    def tokens(self, x: Tensor) -> Tokens:
        """Images (N, 3, H, W) in [0, 1] -> raw embeddings (N, D), and the patch tokens in the same space (N, T, D)."""
        with self._autocast(x):
            embeddings, tokens = self._model.tokens(at_least_one(images_for(self._model, x)))  # type: ignore[operator]
        return exact(embeddings)[: len(x)], exact(tokens)[: len(x)]

    @property
    def reference(self) -> Embed:
        """The frozen reference model, in eval mode. Its weights get no gradients; `x` does where it asks for them.

        Raises UsageError for an objective without `reference = True`.
        """
        if self._reference is None:
            raise UsageError("the objective uses a reference that it does not declare", "set `reference = True` in its class")
        return self._reference

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self._half)


class Reference(Embed):
    """The reference model on one micro-batch: what it says of the clean images is computed once, or known before.

    Args:
        model: see `frozen_reference`.
        half: bfloat16 autocast.
        clean: the clean images of the micro-batch, recognized as this very tensor.
        known: their embeddings (N, D) by this model, if they are known.
    """

    def __init__(self, model: nn.Module, clean: Tensor, known: Tensor | None = None, *, half: bool = False) -> None:
        super().__init__(model, half=half)
        self._clean, self._known = clean, known
        self._clean_tokens: Tokens | None = None

    def raw(self, x: Tensor) -> Tensor:
        """See `Embed.raw`."""
        if x is not self._clean:
            return super().raw(x)
        if self._known is None:
            with torch.no_grad():
                self._known = super().raw(x)
        return self._known

    def tokens(self, x: Tensor) -> Tokens:
        """See `Embed.tokens`."""
        if x is not self._clean:
            return super().tokens(x)
        if self._clean_tokens is None:
            with torch.no_grad():
                self._clean_tokens = super().tokens(x)
        return self._clean_tokens


def frozen_reference(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy of `model` in eval mode, without gradients for its weights, its constants folded in `dtype` (see `folded`)."""
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    fold(reference, dtype)
    return reference


def check_tokens(model: nn.Module, image_size: int, name: str) -> None:
    """Raise UsageError unless `model.tokens(x)` gives patch tokens (N, T, D) for images (N, 3, image_size, image_size).

    `name` is that of the model in the error.
    """
    call = getattr(model, "tokens", None)
    if not callable(call):
        raise no_tokens(name)
    like = next(model.parameters(), torch.zeros(()))
    try:
        with inference(model):
            found = call(torch.zeros(1, 3, image_size, image_size, device=like.device))
    except UsageError:  # of a backbone without them
        raise no_tokens(name) from None
    if len(found) != 2 or found[1].ndim != 3 or found[1].shape[2] != found[0].shape[1]:
        raise no_tokens(name)
