"""Losses that attacks maximize: logits (n, K) and labels (n,) int64 -> loss of each sample (n,)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from stages.attacks.spec import check_dlr


def ce_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample."""
    return cross_entropy(logits, labels, reduction="none")


def margin_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest wrong logit minus the right one; positive when misclassified."""
    right = logits.gather(1, labels[:, None])
    return logits.scatter(1, labels[:, None], -torch.inf).amax(1) - right[:, 0]


def cw_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The negative of max(z_y - max other z, 0) (Carlini & Wagner, S&P 2017)."""
    return margin_loss(logits, labels).clamp(max=0)


def dlr_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The difference of logits ratio (Croce & Hein, ICML 2020): the margin over the gap of the first and third logit.

    Invariant to scaling and shifting the logits. Raises UsageError for fewer than 4 classes: with 3 the ratio is constant
    where the right class comes last, with 2 it does not exist.
    """
    check_dlr("dlr", logits.shape[1])
    top = logits.topk(3, dim=1).values
    return margin_loss(logits, labels) / (top[:, 0] - top[:, 2] + 1e-12)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ce": ce_loss, "margin": margin_loss, "cw": cw_loss, "dlr": dlr_loss}
