"""Out of memory, said in terms of what would fit."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from stages.errors import ComputeError
from stages.train.loop import Trainer

# the last is oneDNN's only word when an allocation of its own fails
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|bad_alloc|cannot allocate|could not create a (primitive|memory)",
    re.IGNORECASE,
)


@contextmanager
def explained(trainer: Trainer) -> Iterator[None]:
    """Within: running out of memory becomes a ComputeError that says in how many pieces the batch would fit."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else "out of memory"
    else:
        return
    raise ComputeError(f"not enough memory on {trainer.device} for this batch: {reason}", _what_fits(trainer))


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or bool(_OUT_OF_MEMORY.search(str(error)))


def _what_fits(trainer: Trainer) -> str:
    """Tries ever smaller pieces; outside of the failed call, so that what it held is free."""
    settings = trainer.settings
    if trainer.world.size > 1:  # the others are not there to rehearse with
        return "add --accumulate 2 or more, or take a smaller --batch-size"
    pieces = settings.accumulate
    while pieces < settings.batch_size:
        pieces = min(2 * pieces, settings.batch_size)
        gc.collect()
        if trainer.device.startswith("cuda"):
            torch.cuda.empty_cache()
        size = -(-settings.batch_size // pieces)
        if _fits(trainer, size):
            return f"{size} images at a time fit: add --accumulate {pieces}, or take --batch-size {max(size, 2)}"
    return "not even one image at a time fits: take a smaller --backbone or --resize"


def _fits(trainer: Trainer, size: int) -> bool:
    try:
        trainer.rehearse(size)
    except (RuntimeError, MemoryError) as error:
        if _is_out_of_memory(error):
            return False
        raise
    return True
