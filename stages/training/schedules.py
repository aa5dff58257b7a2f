"""Learning-rate schedules as plain functions of the step."""

from __future__ import annotations

import math

SCHEDULES = ("step", "cosine", "one-cycle")
_DROP_AT = 0.6  # of the epochs; the second drop at 80 % in the published program is never reached and left out here
_PEAK_AT = 0.3
_START, _END = 1 / 25, 1e-4


def learning_rate(schedule: str, lr: float, step: int, steps_per_epoch: int, epochs: int, *, warm_up: float = 0.0) -> float:
    """The learning rate of one step.

    Args:
        schedule: 'step' (lr, then lr / 10 from 60 % of the epochs on, as the published program does), 'cosine' (to zero), or
            'one-cycle' (cosine up from lr / 25 over the first 30 %, cosine down to lr / 10,000).
        lr: the highest rate.
        step: counted from 0 over the whole run.
        steps_per_epoch, epochs: length of the run.
        warm_up: epochs (may be a fraction) of linear warm-up from zero: of n steps the first has 1/n of the schedule's rate and
            the last all of it.

    Source: 'step' is Li et al., CVPR 2024, Sec. 4.1; 'one-cycle' is Smith & Topin, 2019.
    """
    steps = warm_up * steps_per_epoch
    factor = min(1.0, (step + 1) / steps) if steps else 1.0
    return factor * _rate(schedule, lr, step, steps_per_epoch, epochs)


def _rate(schedule: str, lr: float, step: int, steps_per_epoch: int, epochs: int) -> float:
    if schedule == "step":
        return lr if step // steps_per_epoch < _DROP_AT * epochs else lr / 10
    done = step / (steps_per_epoch * epochs)
    if schedule == "cosine":
        return _between(lr, 0, done)
    if done < _PEAK_AT:
        return _between(lr * _START, lr, done / _PEAK_AT)
    return _between(lr, lr * _END, (done - _PEAK_AT) / (1 - _PEAK_AT))


def _between(start: float, end: float, done: float) -> float:
    """Cosine annealing from `start` (done = 0) to `end` (done = 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
