"""Embedding models around another one: what happens between the pixels of an attack and the network belongs to the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from stages.errors import InputError, UsageError
from stages.models.classifier import Classifier, exact, unit
from stages.models.embedding import Wrapped
from stages.randomness import derive_seed, seeded_globally

# which draws a pass takes
DECISION, NEW, SINGLE = "decision", "new", "single"


class ResizedInside(Wrapped):
    """Resizes images to the input size of `inner` first, so that an attack perturbs them in their own size.

    As TeCoA's and PMG-AFT's programs, which upsample 32 px images to 224 px in every step of the attack. Bicubic interpolation
    can leave [0, 1]; like theirs, it is not clipped.

    Args:
        inner: an embedding model.
        side: of its input, in pixels.
        how: 'bilinear' or 'bicubic', with '-antialias' for downsampling as Pillow's.
    """

    def __init__(self, inner: nn.Module, side: int, how: str) -> None:
        super().__init__(inner)
        self.side, self.how = side, how

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) float in [0, 1] -> embeddings (N, D)."""
        if tuple(x.shape[-2:]) != (self.side, self.side):
            mode, _, antialias = self.how.partition("-")
            x = F.interpolate(x, (self.side, self.side), mode=mode, align_corners=False, antialias=bool(antialias))
        return self.embed(x)

    def does(self, grid: tuple[int, int]) -> str:
        """What happens to images of this height and width: 'none', or interpolation and size."""
        return "none" if grid == (self.side, self.side) else f"{self.how} to {self.side}x{self.side}"


class MeanOfDraws(Wrapped):
    """The mean of the unit embeddings over several random draws of a randomised model.

    It is not normalized again (see `Classifier.unit`): the logits, which are linear in it, are the mean of the logits of the
    draws. Attacks follow the gradient of the loss at this mean, the expectation
    over transformation (Athalye et al., ICML 2018), estimated by new draws in every step. Decisions use the same draws each
    time, so that figures are reproducible; attacks do not see these draws. Draws are taken from the global generators of
    Python, NumPy and PyTorch, which are seeded here and restored afterwards.

    A draw's activations are recomputed in the backward pass: memory does not grow with the number of draws.

    Args:
        inner: an embedding model.
        draws: at least 2.
        seed: of the draws.
        as_is: its outputs are not normalized, see `Classifier.takes_as_is`.
    """

    as_is = True  # means of unit embeddings

    def __init__(self, inner: nn.Module, draws: int, seed: int, *, as_is: bool = False) -> None:
        super().__init__(inner)
        self.draws, self._unit = draws, exact if as_is else unit
        self._seed, self._purpose, self._passes, self._use = seed, "attack", 0, DECISION

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) float in [0, 1] -> mean unit embeddings (N, D)."""
        if self._use == SINGLE:
            return self.embed(x)
        learning, purpose = torch.is_grad_enabled(), DECISION
        if learning or self._use == NEW:
            purpose, self._passes = f"{self._purpose}/{self._passes}", self._passes + 1
        total = torch.zeros(())
        for draw in range(self.draws):
            seed = derive_seed(self._seed, f"draws/{purpose}/{draw}")
            total = total.to(x.device) + (
                checkpoint(self._draw, x, seed, use_reentrant=False) if learning else self._draw(x, seed)
            )
        return total / self.draws

    def _draw(self, x: Tensor, seed: int) -> Tensor:
        with seeded_globally(seed, x.device):
            return self._unit(self.embed(x))

    def begin(self, purpose: str) -> None:
        """The draws of the next passes with gradients are those of `purpose`, whatever was computed before."""
        self._purpose, self._passes = purpose, 0

    @contextmanager
    def using(self, draws: str) -> Iterator[None]:
        """Within, passes without gradients take `NEW` draws, or a `SINGLE` one from generators as they are."""
        before, self._use = self._use, draws
        try:
            yield
        finally:
            self._use = before


def resize_inside(classifier: Classifier, how: str | None, name: str = "the model") -> Classifier:
    """The classifier for square images of any size, which it resizes to its input size; itself for None.

    Args:
        classifier: any.
        how: see `ResizedInside`.
        name: what errors call it.

    Raises UsageError for a classifier without an input size.
    """
    if how is None:
        return classifier
    if classifier.image_size is None:
        raise UsageError(
            f"--resize-inside {how}: {name} takes images of any size", "leave --resize-inside out, or use --resize"
        )
    made = with_embedding(classifier, ResizedInside(classifier.embedding, classifier.image_size, how))
    made.image_size = None
    return made


def mean_of_draws(classifier: Classifier, draws: int, seed: int) -> Classifier:
    """The classifier that decides by the mean of its logits over `draws` random draws; itself for one."""
    if draws == 1:
        return classifier
    return with_embedding(classifier, MeanOfDraws(classifier.embedding, draws, seed, as_is=classifier.takes_as_is))


def with_embedding(classifier: Classifier, embedding: nn.Module) -> Classifier:
    """The same classifier with an embedding model around its own; nothing is copied."""
    made = copy(classifier)
    made._modules, made._buffers = {"embedding": embedding}, dict(classifier._buffers)
    return made.train(classifier.training)


def _averaged(classifier: nn.Module) -> MeanOfDraws | None:
    embedding = getattr(classifier, "embedding", None)
    return embedding if isinstance(embedding, MeanOfDraws) else None


def draws_of(classifier: Classifier) -> int:
    """Over how many random draws the classifier averages."""
    averaged = _averaged(classifier)
    return 1 if averaged is None else averaged.draws


def begin_draws(classifier: Classifier, purpose: str) -> bool:
    """See `MeanOfDraws.begin`; False for a classifier that does not average."""
    averaged = _averaged(classifier)
    if averaged is not None:
        averaged.begin(purpose)
    return averaged is not None


@contextmanager
def using(classifier: Classifier, draws: str) -> Iterator[None]:
    """See `MeanOfDraws.using`; no effect on a classifier that does not average."""
    averaged = _averaged(classifier)
    with nullcontext() if averaged is None else averaged.using(draws):
        yield


def reading_of(classifier: Classifier) -> Mapping[str, Any]:
    """How images are read, see `Origin.reading`; in their own size, if the classifier resizes them."""
    reading = classifier.origin.reading
    return reading if resize_of(classifier) is None else {**reading, "resize": None}


def resize_of(classifier: Classifier) -> ResizedInside | None:
    """The resizing that is part of the classifier."""
    return next((one for one in classifier.embedding.modules() if isinstance(one, ResizedInside)), None)


def check_grid(classifiers: Mapping[str, Classifier], grid: tuple[int, int]) -> None:
    """Raise for images of a height and width that the resizing inside the classifiers cannot take, or does nothing for."""
    resizes = [one for one in map(resize_of, classifiers.values()) if one is not None]
    height, width = grid
    if resizes and height != width:
        raise InputError(f"the images are {width}x{height}, and --resize-inside needs square ones", f"add --resize {min(grid)}")
    if resizes and all(one.does(grid) == "none" for one in resizes):
        raise UsageError(
            f"--resize-inside {resizes[0].how} has no effect: the images are {width}x{height}, as the model's input",
            "leave it out, or choose another --resize",
        )
