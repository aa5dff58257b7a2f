"""Running out of memory, reported with what would fit."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from stages.devices import is_out_of_memory, release_freed_memory
from stages.errors import ComputeError
from stages.models.recompute import can_recompute
from stages.text import first_line
from stages.training.loop import Trainer


@contextmanager
def explained(trainer: Trainer) -> Iterator[None]:
    """Within: running out of memory becomes a ComputeError that says which options would make the batch fit."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = first_line(error)
        traceback.clear_frames(error.__traceback__)  # they refer to the tensors of the failed step
    else:
        return
    raise ComputeError(f"not enough memory on {trainer.device} for this batch: {reason}", _what_fits(trainer))


def _what_fits(trainer: Trainer) -> str:
    """Tries smaller batches; called after the failed step has freed its memory."""
    settings = trainer.settings
    recompute = can_recompute(trainer.model) and not settings.grad_checkpointing
    option = "--grad-checkpointing and " if recompute else ""
    unit = trainer.unit
    most = trainer.batch_size // unit
    if trainer.world.size > 1:  # the other processes do not take part in a trial
        smaller = "fewer --episodes-per-step" if unit > 1 else "a smaller --batch-size"
        return f"add {option}--accumulate 2 or more, or use {smaller}"
    if recompute:
        trainer.training_step.grad_checkpointing = True
        if _fits(trainer, unit * -(-most // settings.accumulate)):
            return "it fits with recomputed activations: add --grad-checkpointing"
    count = settings.accumulate
    while count < most:
        count = min(2 * count, most)
        parts = -(-most // count)
        if _fits(trainer, unit * parts):
            smaller = f"--episodes-per-step {parts}" if unit > 1 else f"--batch-size {max(parts, 2)}"
            return f"{unit * parts} images at a time fit: add {option}--accumulate {count}, or {option}{smaller}"
    what = "episode" if unit > 1 else "image"
    return f"not even one {what} at a time fits: use a smaller --backbone or --resize"


def _fits(trainer: Trainer, size: int) -> bool:
    release_freed_memory(trainer.device)
    try:
        trainer.try_batch(size)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return False
        raise
    return True
