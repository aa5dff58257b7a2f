"""Anchors without language, to compare with: maximal-separation centres and random directions."""

from __future__ import annotations

import numpy as np

from stages.errors import UsageError, require_at_least
from stages.randomness import numpy_generator


def simplex_anchors(classes: int, width: int) -> np.ndarray:
    """Maximal-separation centres (MMC): unit vectors with pairwise cosine -1/(C-1), a regular simplex.

    Args:
        classes: C >= 2.
        width: D >= C - 1.

    Returns:
        (C, D) float32 unit rows, lower triangular.

    Raises:
        UsageError: C < 2, or more classes than D + 1, where no such set exists.

    Source: the MMC anchors of Li et al., CVPR 2024, Sec. 4; Pang et al., ICML 2018, Alg. 1.
    """
    if classes < 2:
        raise UsageError("a simplex needs at least 2 classes", "add class names")
    if classes > width + 1:
        raise UsageError(
            f"{classes} classes do not fit a simplex in {width} dimensions", f"choose --dim of at least {classes - 1}"
        )
    cosine = -1 / (classes - 1)
    rows = np.zeros((classes, width))
    for k in range(classes - 1):
        rows[k, k] = np.sqrt(1 - rows[k, :k] @ rows[k, :k])
        rows[k + 1 :, k] = (cosine - rows[k + 1 :, :k] @ rows[k, :k]) / rows[k, k]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def random_anchors(classes: int, width: int, seed: int) -> np.ndarray:
    """Unit vectors (C, D) float32 in uniformly random directions, the same for the same seed. UsageError for D < 1."""
    require_at_least("--dim", width, 1)
    values = numpy_generator(seed, "anchors/random").standard_normal((classes, width))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
