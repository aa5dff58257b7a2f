"""The images of each class."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def rows_by_class(labels: np.ndarray, classes: int) -> list[np.ndarray]:
    """For each class the rows that have its label, int64 ascending; by one sort, whatever the number of classes.

    Args:
        labels: int64 (N,); rows whose label is not in [0, classes) are left out.
        classes: their number.
    """
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(classes + 1))
    return [order[start:end] for start, end in pairwise(bounds.tolist())]
