"""Projected gradient ascent, in two loops that take the same steps (`ThreatModel.step` and `project`).

`maximise` is the inner maximization of training: every image takes every step, without synchronizing with the device.
`projected_gradient` is for evaluation: misclassified samples leave the batch and others replace them. Gradients are computed
for the input only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from stages.attacks.samples import Finished, no_gradient, require_gradient
from stages.threat import ThreatModel

# (x (n, 3, H, W), rows (n,)) -> (loss of each image (n,), misclassified (n,) bool, or None to run every step)
Objective = Callable[[Tensor, Tensor], tuple[Tensor, "Tensor | None"]]
# rows (n,) int64 on the CPU -> (clean images (n, 3, H, W), starting points, same shape)
Load = Callable[[Tensor], tuple[Tensor, Tensor]]


def maximise(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float,
    noise: Tensor | None = None,
    start_noise: float | None = None,
) -> Tensor:
    """The inner maximization of adversarial training: every image takes all steps.

    With `start_noise` K it is N-FGSM (de Jorge et al., NeurIPS 2022) for one step of eps: the start is uniform in [-K eps,
    K eps] around each pixel, and images are clipped to the pixel range alone, so that they can be (K + 1) eps away.

    Args:
        loss: x_adv (N, 3, H, W) -> loss of each image (N,), or their sum; the model should be in eval mode.
        x: clean images (N, 3, H, W) in [0, 1].
        threat: the threat model.
        steps: gradient steps.
        step_size: in pixel units, for example threat.radius / 4.
        noise: uniform on [0, 1), shaped like `x`, for a random start; None starts at `x`.
        start_noise: half-width in eps of a start that need not be in the ball, L-inf only; None projects onto the ball.

    Returns:
        x_adv (N, 3, H, W), without a graph.
    """
    bounds = threat.bounds(x) if start_noise is None else threat.clip
    if noise is None:
        x_adv = x
    elif start_noise is None:
        x_adv = threat.random_start(x, noise)
    else:
        x_adv = (x + (2 * noise - 1) * (start_noise * threat.radius)).clamp_(*threat.clip)
    for _ in range(steps):
        with torch.enable_grad():
            variable = x_adv.detach().requires_grad_(True)
            grad = input_gradient(loss(variable).sum(), variable)
        x_adv = threat.climb(x_adv, grad, step_size, x, bounds)
    return x_adv.detach()


def input_gradient(loss: Tensor, x: Tensor) -> Tensor:
    """The gradient of `loss`, a sum, with respect to the images `x` (N, 3, H, W). Raises ComputeError if there is none."""
    require_gradient(loss)
    (grad,) = torch.autograd.grad(loss, x, allow_unused=True)
    if grad is None:
        raise no_gradient()
    return grad


def projected_gradient(
    objective: Objective, load: Load, rows: Tensor, threat: ThreatModel, *, steps: int, step_size: float, batch_size: int
) -> Iterator[Finished]:
    """Maximize `objective` for each row by `steps` projected steps, `batch_size` rows at a time.

    A misclassified row leaves the batch and the next one replaces it, so batches stay full until the queue is empty. The
    caller classifies the iterate after the last step.

    Args:
        objective: see `Objective`; called with gradients enabled.
        load: see `Load`; called once for each row, in the order of `rows`.
        rows: (M,) int64 on the CPU, the samples to attack.
        threat: the threat model.
        steps: maximum number of gradient steps per row.
        step_size: pixel units.
        batch_size: rows in one forward pass, at least 1.

    Yields:
        Each row once, in the order in which they finish.
    """
    if steps == 0:
        for chunk in rows.split(batch_size):
            x, start = load(chunk)
            yield Finished(chunk.to(x.device), x, start.detach())
        return
    batch = _Batch(load, rows)
    while batch.refill(batch_size):
        grad, misclassified = _input_gradient(objective, batch.x_adv, batch.rows)
        ahead = threat.project(threat.step(batch.x_adv, grad, step_size), batch.x)
        if misclassified is not None:
            ahead = torch.where(misclassified[:, None, None, None], batch.x_adv, ahead)
        batch.x_adv = ahead
        batch.taken += 1
        out = batch.taken >= steps
        if misclassified is not None:
            out |= misclassified.cpu()
        if bool(out.any()):
            yield batch.release(out)


class _Batch:
    """The rows under attack, and the queue of the next ones."""

    def __init__(self, load: Load, queue: Tensor) -> None:
        self._load = load
        self._queue = queue
        # steps taken by each row; on the CPU, so that counting does not synchronize with the device
        self.taken = torch.empty(0, dtype=torch.int64)
        self.rows = self.x = self.x_adv = torch.empty(0)

    def refill(self, size: int) -> bool:
        """Fill the batch to `size` rows from the queue; False if it stays empty."""
        room = size - len(self.taken)
        if room > 0 and len(self._queue):
            chunk, self._queue = self._queue[:room], self._queue[room:]
            x, start = self._load(chunk)
            new = (chunk.to(x.device), x, start.detach())
            if len(self.taken):
                new = (torch.cat((self.rows, new[0])), torch.cat((self.x, new[1])), torch.cat((self.x_adv, new[2])))
            self.rows, self.x, self.x_adv = new
            self.taken = torch.cat((self.taken, torch.zeros(len(chunk), dtype=torch.int64)))
        return len(self.taken) > 0

    def release(self, out: Tensor) -> Finished:
        """Remove the rows selected by `out` (bool, CPU) from the batch and return them."""
        if bool(out.all()):
            done = Finished(self.rows, self.x, self.x_adv)
            self.taken = self.taken[:0]
            return done
        leave, stay = (mask.nonzero()[:, 0].to(self.rows.device) for mask in (out, ~out))
        done = Finished(self.rows[leave], self.x[leave], self.x_adv[leave])
        self.rows, self.x, self.x_adv = self.rows[stay], self.x[stay], self.x_adv[stay]
        self.taken = self.taken[~out]
        return done


def _input_gradient(objective: Objective, x_adv: Tensor, rows: Tensor) -> tuple[Tensor, Tensor | None]:
    with torch.enable_grad():
        variable = x_adv.detach().requires_grad_(True)
        loss, misclassified = objective(variable, rows)
        grad = input_gradient(loss.sum(), variable)
    return grad, misclassified
