"""Generalized zero-shot figures: seen and novel classes are candidates together (Li et al., CVPR 2024, Sec. 4).

S is the mean over the seen classes of each one's accuracy, U the same over the novel classes, H = 2 S U / (S + U). The
seen-unseen curve (Chao et al., ECCV 2016) follows S and U while a bias is subtracted from the seen classes' logits (see
`sides`). No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.statistics.intervals import NO_SPREAD, Estimate, wilson_share
from stages.statistics.seen_unseen import DRAWS, Sides

CURVE_POINTS = 201
INTERVAL = (
    f"S, U: Wilson 95 % of a per-class mean; H: both combined (square and add); "
    f"AUSUC: 95 % of {DRAWS:,} bootstrap draws over images within class"
)


@dataclass(frozen=True)
class GzslFigures:
    """S, U and H at bias 0 and the area under the seen-unseen curve, each with its 95 % interval, as fractions of 1."""

    seen: Estimate
    novel: Estimate
    harmonic: Estimate
    ausuc: Estimate

    def to_record(self) -> dict[str, Any]:
        """As a JSON-able record."""
        return {
            "S": self.seen.to_record(),
            "U": self.novel.to_record(),
            "H": self.harmonic.to_record(),
            "ausuc": {"area": self.ausuc.accuracy, "low": self.ausuc.low, "high": self.ausuc.high},
        }


@dataclass(frozen=True)
class SeenUnseenCurve:
    """S and U (B,) float64 over ascending biases (B,); at the first every decision is a seen class, at the last a novel one."""

    bias: np.ndarray
    seen: np.ndarray
    novel: np.ndarray

    def area(self) -> float:
        """Area under S over U, trapezoids over the exact breakpoints."""
        return float(((self.seen[1:] + self.seen[:-1]) / 2 * np.diff(self.novel)).sum())

    def thinned(self, most: int = CURVE_POINTS) -> SeenUnseenCurve:
        """At most `most` of its points, first and last among them, spread evenly along the curve."""
        if len(self.bias) <= most:
            return self
        length = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(self.seen)) + np.abs(np.diff(self.novel)))))
        at = np.unique(np.searchsorted(length, np.linspace(0, length[-1], most)).clip(max=len(length) - 1))
        at = np.union1d(at, [0, len(length) - 1])[: most + 1]
        return SeenUnseenCurve(self.bias[at], self.seen[at], self.novel[at])

    def to_record(self) -> dict[str, list[float]]:
        """As a JSON-able record, rounded to six decimals."""
        return {name: np.round(getattr(self, name), 6).tolist() for name in ("bias", "seen", "novel")}


def curve(sides: Sides, limit: np.ndarray) -> SeenUnseenCurve:
    """The exact seen-unseen curve of points with these limits (P,): one point between any two breakpoints and at both ends.

    The bias given for a piece is the breakpoint at which it begins; of the first, one step below the lowest.
    """
    weights = sides.weights()
    ends = np.unique(limit[np.isfinite(limit)])
    seen_at, novel_at = (np.zeros(len(ends) + 1) for _ in "su")
    own = sides.own
    # a seen point falls beyond its limit and a novel one rises: both show in the piece that begins there
    place = np.searchsorted(ends, limit) + 1
    finite = np.isfinite(limit)
    np.add.at(seen_at, place[own & finite], -weights[own & finite])
    np.add.at(novel_at, place[~own & finite], weights[~own & finite])
    seen_at[0] = weights[own & finite].sum()
    lowest = ends[0] - 1e-6 if len(ends) else 0.0
    seen = np.maximum(np.cumsum(seen_at), 0.0)
    return SeenUnseenCurve(np.concatenate(([lowest], ends)), seen, np.cumsum(novel_at))


def figures(sides: Sides, limit: np.ndarray, *, seed: int) -> GzslFigures:
    """S, U, H and AUSUC of points with these limits (P,); `seed` is of the bootstrap."""
    right = sides.right(limit)
    seen, novel = (per_class(sides, right, part) for part in (True, False))
    return GzslFigures(seen, novel, harmonic(seen, novel), _ausuc(sides, limit, seed))


def harmonic(seen: Estimate, novel: Estimate) -> Estimate:
    """H = 2 S U / (S + U), 0 where both are 0; its interval squares and adds what each of the two reaches alone.

    Where S = U = 0 neither reaches anything alone, and the upper end is that of both upper ends.
    Source: R. G. Newcombe, Statistics in Medicine 1998 (the principle); Zou & Donner, Statistics in Medicine 2008.
    """
    value = harmonic_mean(seen.accuracy, novel.accuracy)
    ends = []
    for side in ("low", "high"):
        one, two = harmonic_mean(getattr(seen, side), novel.accuracy), harmonic_mean(seen.accuracy, getattr(novel, side))
        ends.append(float(np.hypot(one - value, two - value)))
    high = value + ends[1] if seen.accuracy or novel.accuracy else harmonic_mean(seen.high, novel.high)
    return Estimate(value, max(0.0, value - ends[0]), min(1.0, high))


def harmonic_mean(one: float, two: float) -> float:
    """H of S and U, 0 where both are 0."""
    return 2 * one * two / (one + two) if one + two > 0 else 0.0


def per_class(sides: Sides, right: np.ndarray, part: bool) -> Estimate:
    """The mean over the classes of a side, the seen one or not, of each one's accuracy; `right` is (P,) bool.

    Wilson's interval of a share among `Sides.size` images: sound also at 0 and 1, where resampling would show no spread.
    """
    chosen = sides.own == part
    hits = np.bincount(sides.labels[chosen & right], minlength=sides.classes)
    hits, counts = (x[: sides.seen] if part else x[sides.seen :] for x in (hits, sides.counts))
    mean = float((hits / counts).mean())
    return Estimate(mean, *wilson_share(mean, sides.size(part)))


def _ausuc(sides: Sides, limit: np.ndarray, seed: int) -> Estimate:
    """The area, and the 2.5 % and 97.5 % points of `DRAWS` areas of images drawn again within each class.

    An area of 0 stays 0 however it is drawn; its upper end is then that of the largest S times that of the largest U. An area
    of 1 stays 1; its lower end is then that of S times that of U.
    """
    weights, area = sides.weights(), sides.area(limit)
    value = area(weights)
    if value == 0:
        ever = np.isfinite(limit)
        return Estimate(0.0, 0.0, per_class(sides, ever, True).high * per_class(sides, ever, False).high)
    if value > 1 - NO_SPREAD:
        sure = np.ones(len(limit), dtype=bool)
        return Estimate(value, per_class(sides, sure, True).low * per_class(sides, sure, False).low, 1.0)
    low, high = np.quantile([area(weights * times) for times in sides.redrawn(seed)], (0.025, 0.975))
    return Estimate(value, min(value, float(low)), max(value, float(high)))


@dataclass(frozen=True)
class GzslResult:
    """The generalized figures of one model.

    Attributes:
        seen, novel: numbers of classes on the two sides.
        clean: on clean images.
        attacks: name -> under that attack; a point that is wrong when clean is wrong here too, at every bias.
        worst: right when clean and under every attack, at the same bias.
        curves: name -> curve, 'clean', each attack and 'worst'.
    """

    seen: int
    novel: int
    clean: GzslFigures
    attacks: dict[str, GzslFigures]
    worst: GzslFigures
    curves: dict[str, SeenUnseenCurve]

    def to_record(self) -> dict[str, Any]:
        """As a JSON-able record, curves thinned (the areas are of the whole ones)."""
        return {
            "attacks": {name: value.to_record() for name, value in self.attacks.items()},
            "clean": self.clean.to_record(),
            "curves": {name: value.thinned().to_record() for name, value in self.curves.items()},
            "interval": INTERVAL,
            "novel_classes": self.novel,
            "seen_classes": self.seen,
            "worst": self.worst.to_record(),
        }


def summarise_gzsl(sides: Sides, found: Mapping[str, np.ndarray], *, seed: int) -> GzslResult:
    """Figures from limits.

    Args:
        sides: the points.
        found: name -> (P,) limits; 'clean' and one entry an attack, each on the images that the attack made.
        seed: of the bootstrap.
    """
    under = {name: sides.worst((found["clean"], value)) for name, value in found.items()}
    whole = {**under, "worst": sides.worst(list(under.values()))}
    told = {name: figures(sides, value, seed=seed) for name, value in whole.items()}
    return GzslResult(
        seen=sides.seen,
        novel=sides.classes - sides.seen,
        clean=told["clean"],
        attacks={name: told[name] for name in found if name != "clean"},
        worst=told["worst"],
        curves={name: curve(sides, value) for name, value in whole.items()},
    )
