"""The maps of `laat expand` as plain loops over the formulas, to compare the library with; `python -m` this writes the golden.

Whitening is by the eigenvectors of the covariance, the graded expansion by spherical interpolation: neither as in the library.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.where import GOLDEN

FILE = GOLDEN / "expansion_maps.json"
SEEN = 6
CASES: dict[str, dict[str, Any]] = {
    "centre": {"method": "centre"},
    "graded": {"method": "paper", "angle": 60.0},
    "whiten": {"method": "whiten"},
    "full": {"method": "whiten", "shrinkage": 0.0},
    "three": {"method": "whiten", "components": 3, "shrinkage": 0.25},
}


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / math.sqrt(sum(x * x for x in vector))


def mean_of(seen: np.ndarray) -> np.ndarray:
    total = np.zeros(seen.shape[1])
    for one in seen:
        total += unit(one)
    return total / len(seen)


def centre(seen: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    return np.array([unit(unit(one) - mean_of(seen)) for one in anchors])


def paper(seen: np.ndarray, anchors: np.ndarray, angle: float) -> np.ndarray:
    c = unit(mean_of(seen))
    theta_max = max(math.acos(float(unit(one) @ c)) for one in seen)
    moved = []
    for one in anchors:
        theta = math.acos(float(unit(one) @ c))
        t = math.radians(angle) / theta_max  # how far along the great circle from c, where 1 is the anchor
        moved.append((math.sin((1 - t) * theta) * c + math.sin(t * theta) * unit(one)) / math.sin(theta))
    return np.array(moved)


def whiten(seen: np.ndarray, anchors: np.ndarray, components: int | None = None, shrinkage: float = 0.1) -> np.ndarray:
    m = mean_of(seen)
    covariance = sum(np.outer(unit(one) - m, unit(one) - m) for one in seen) / len(seen)
    values, vectors = np.linalg.eigh(covariance)
    kept = sorted((at for at in range(len(values)) if values[at] > 1e-12), key=lambda at: -values[at])[:components]
    mean_variance = sum(values[at] for at in kept) / len(kept)
    moved = []
    for one in anchors:
        total = np.zeros(len(m))
        for at in kept:
            weight = 1 / math.sqrt((1 - shrinkage) * values[at] + shrinkage * mean_variance)
            total += weight * float(vectors[:, at] @ (unit(one) - m)) * vectors[:, at]
        moved.append(unit(total))
    return np.array(moved)


MAPS: dict[str, Callable[..., np.ndarray]] = {"centre": centre, "paper": paper, "whiten": whiten}


def main() -> None:
    generator = np.random.default_rng(14)
    anchors = (2 * generator.standard_normal(7) + generator.standard_normal((9, 7))).round(3)
    moved = {}
    for name, case in CASES.items():
        options = {key: value for key, value in case.items() if key != "method"}
        moved[name] = MAPS[case["method"]](anchors[:SEEN], anchors, **options).tolist()
    FILE.write_text(json.dumps({"anchors": anchors.tolist(), "seen": SEEN, "moved": moved}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
