"""Benchmark of the expansion: the closed form against the published product of plane rotations."""

from __future__ import annotations

import numpy as np

from stages.expand.paper import PaperExpansion
from stages.randomness import numpy_generator
from tests.benchmarks.timing import Pair, alternate, timed
from tests.stages.plane_rotations import expand_by_rotations

CLASSES = 64


def expansion(width: int, repeats: int) -> Pair:
    """Expand 64 anchors of `width` dimensions both ways, after checking that they agree to 1e-9."""
    anchors = 2 + numpy_generator(0, "bench/anchors").standard_normal((CLASSES, width))

    def ours() -> np.ndarray:
        return PaperExpansion.fit(anchors).apply(anchors)

    def reference() -> np.ndarray:
        return expand_by_rotations(anchors, anchors)

    assert np.abs(ours() - reference()).max() < 1e-9, "the two do not agree"
    return alternate(f"expansion, {CLASSES} anchors of {width}", lambda: timed(ours), lambda: timed(reference), repeats)
