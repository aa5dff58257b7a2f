"""Sums over the images of an epoch, kept on the device so that training does not wait for them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.devices import widest_float
from stages.errors import ComputeError

NOT_FINITE_FIX = (
    "train again with a lower --lr or with --clip-norm 1, and with usual values of --tau, --beta, --awp, --jitter, --momentum "
    "and --weight-decay; the last good state is kept"
)
_FIXED = 3  # loss, correct clean predictions, correct adversarial predictions; the terms follow


@dataclass(frozen=True)
class Figures:
    """Means over the images of an epoch (so far).

    Attributes:
        loss: the objective's loss.
        clean_accuracy, robust_accuracy: on the training batches, model in training mode; None where the objective does not use
            clean or adversarial images.
    """

    loss: float
    clean_accuracy: float | None
    robust_accuracy: float | None


class Sums:
    """Adds up the results of an epoch's steps, and remembers the first step at which a term was not finite.

    Args:
        device: of the sums.
        terms: names of the loss's terms.
        sides: whether the objective uses clean and adversarial images.
    """

    def __init__(self, device: str, terms: tuple[str, ...], sides: tuple[bool, bool]) -> None:
        self._terms, self._sides = terms, sides
        self.images = 0
        # one tensor, read by one copy: the sums, then for each term its first non-finite step or -1
        self._values = torch.zeros(_FIXED + 2 * len(terms), dtype=widest_float(device), device=device)
        self._totals, self._first_bad = self._values.split([_FIXED + len(terms), len(terms)])
        self._first_bad.fill_(-1)
        self._copy: tuple[int, Tensor, torch.cuda.Event] | None = None

    def add(self, step: Tensor, images: int, number: int) -> None:
        """Add step `number` on `images` images; `step` is what `TrainingStep.take` returned."""
        self.images += images
        self._totals += step
        self._first_bad.masked_fill_(~step[_FIXED:].isfinite() & (self._first_bad < 0), number)

    def figures(self) -> Figures:
        """The means so far; waits for the device. Raises ComputeError when a term was not finite, naming it and the step."""
        return self._read(self.images, self._values.cpu())

    def glance(self) -> Figures | None:
        """As `figures`, but possibly of an earlier step and without waiting for the device; None while nothing is available."""
        if not self._values.is_cuda:
            return self.figures()
        if self._copy is None:
            here = torch.empty(self._values.shape, dtype=self._values.dtype, pin_memory=True)
            here.copy_(self._values, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self._copy = (self.images, here, event)
        images, here, event = self._copy
        if not event.query():
            return None
        self._copy = None
        return self._read(images, here)

    def _read(self, images: int, values: Tensor) -> Figures:
        means = (values[:_FIXED] / max(images, 1)).tolist()
        bad = values[_FIXED + len(self._terms) :].tolist()
        first = {term: int(at) for term, at in zip(self._terms, bad, strict=True) if at >= 0}
        if first:
            step = min(first.values())
            names = " and ".join(f"'{term}'" for term, at in first.items() if at == step)
            where = "term" if list(first.values()).count(step) == 1 else "terms"
            raise ComputeError(f"the loss became non-finite at step {step}, in its {where} {names}", NOT_FINITE_FIX)
        clean, robust = (value if looked else None for value, looked in zip(means[1:], self._sides, strict=True))
        return Figures(means[0], clean, robust)

    def state(self) -> Tensor:
        """Everything as one float64 tensor on the CPU, for `load`."""
        return torch.cat([torch.tensor([float(self.images)], dtype=torch.float64), self._values.cpu().double()])

    def load(self, state: Tensor) -> None:
        """The inverse of `state`."""
        self.images = int(state[0])
        self._values.copy_(state[1:])
