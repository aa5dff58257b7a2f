"""What an attack is run on: samples, and the model that judges them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.errors import ComputeError, InputError

# (x (n, 3, H, W) in [0, 1], rows (n,) int64 on the device of x) -> logits (n, K); each row may have its own K-way head
Victim = Callable[[Tensor, Tensor], Tensor]
# (samples done, samples in all, what is going on)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Target:
    """P samples to attack.

    Attributes:
        victim: see `Victim`.
        source: rows (n,) on the CPU -> clean images (n, 3, H, W) in [0, 1] on the model's device.
        labels: (P,) int64, the right answer of every sample in its own head.
        first_row: of the first sample, where they are a part of a larger set: random starts belong to its rows.
    """

    victim: Victim
    source: Callable[[Tensor], Tensor]
    labels: Tensor
    first_row: int = 0


@dataclass(frozen=True)
class Judged:
    """Attacked samples: rows (n,) on the CPU, adversarial images (n, 3, H, W), their predictions (n,) and logits (n, K)."""

    rows: Tensor
    x_adv: Tensor
    predicted: Tensor
    logits: Tensor

    def part(self, mask: Tensor) -> Judged:
        """The samples marked in `mask` (n,) bool, on the CPU."""
        at = mask.nonzero()[:, 0]
        there = at.to(self.x_adv.device)
        return Judged(self.rows[at], self.x_adv[there], self.predicted[there], self.logits[there])


def to_pixels(images: Tensor, rows: Tensor, device: torch.device | str) -> Tensor:
    """Images `rows` of a uint8 set (N, 3, H, W) as float32 in [0, 1] on `device`, channels last (faster)."""
    picked = images[rows.to(images.device)].to(device)
    return picked.to(torch.float32, memory_format=torch.channels_last).div_(255)


@contextmanager
def full_precision() -> Iterator[None]:
    """Within: convolutions on CUDA are true float32 and not TF32, its default, so that decisions repeat elsewhere."""
    cudnn = torch.backends.cudnn
    with cudnn.flags(enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
        yield


def decide(logits: Tensor) -> Tensor:
    """The predicted class of each row, (n, K) -> (n,). Raises ComputeError on a logit that is not finite."""
    if not bool(logits.isfinite().all()):
        raise ComputeError("the model's output is not finite", "check the checkpoint: it may hold non-finite weights")
    return logits.argmax(1)


def checked_width(embeddings: Tensor, anchors: Tensor) -> Tensor:
    """`embeddings` (n, D) unchanged. Raises InputError when the anchors (…, D) have another width."""
    if embeddings.shape[-1] != anchors.shape[-1]:
        raise InputError(
            f"the anchors have width {anchors.shape[-1]}, the model's embeddings {embeddings.shape[-1]}",
            "use the anchors that the model was trained with, or anchors of the same text encoder",
        )
    return embeddings
