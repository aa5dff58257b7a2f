"""Generalized zero-shot figures: seen and novel classes are candidates together (Li et al., CVPR 2024, Sec. 4).

S is the mean of the accuracies of the seen classes, U that of the novel classes, H = 2 S U / (S + U). The seen-unseen curve
(Chao et al., ECCV 2016) follows S and U while a bias is subtracted from the seen classes' logits (see `seen_unseen`). No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field, PositiveInt, model_validator
from pydantic.dataclasses import dataclass
from typing_extensions import Self

from stages.files.records import STRICT, Record, Share
from stages.statistics.intervals import NO_SPREAD, Estimate, check_inside, wilson_share
from stages.statistics.seen_unseen import DRAWS, SeenUnseen

CURVE_POINTS = 201
INTERVAL = (
    f"S, U: Wilson 95 % of a per-class mean; H: both combined (square and add); "
    f"AUSUC: 95 % of {DRAWS:,} bootstrap draws over images within class"
)


@dataclass(frozen=True, config=STRICT)
class Area:
    """The area under the seen-unseen curve and its 95 % interval."""

    area: Share
    low: Share
    high: Share

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_inside("area", self.area, self.low, self.high)
        return self


@dataclass(frozen=True, config=STRICT)
class GzslFigures:
    """S on seen classes, U on novel ones and H = 2 S U / (S + U) at one bias, and at bias 0 the area under S over U."""

    S: Estimate
    U: Estimate
    H: Estimate
    ausuc: Area | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if abs(self.H.accuracy - harmonic_mean(self.S.accuracy, self.U.accuracy)) > NO_SPREAD:
            raise ValueError(f"H {self.H.accuracy} is not the harmonic mean of S and U")
        return self


class Curve(Record):
    """S and U by the bias subtracted from the cosines of seen classes: a subset of the exact curve, rounded to 6 decimals."""

    bias: Annotated[list[float], Field(min_length=1)]
    seen: Annotated[list[Share], Field(min_length=1)]
    novel: Annotated[list[Share], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.bias) == len(self.seen) == len(self.novel):
            raise ValueError("bias, seen and novel differ in length")
        return self


class GzslResult(Record):
    """The generalized zero-shot figures of one model."""

    attacks: dict[str, GzslFigures]
    """Under each attack; a sample that is wrong when clean is wrong here too, at every bias."""
    bias: float | None = None
    """Subtracted from the cosines of the seen classes, in predictions and attacks alike; fitted on validation classes (see
    `stages.statistics.calibration`). Null: none."""
    clean: GzslFigures
    curves: dict[str, Curve]
    """Of 'clean', each attack and 'worst'; none at a fitted bias."""
    interval: str
    novel_classes: PositiveInt
    seen_classes: PositiveInt
    worst: GzslFigures
    """Correct when clean and under every attack, at the same bias."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if set(self.curves) != ({"clean", *self.attacks, "worst"} if self.bias is None else set()):
            raise ValueError("the curves are not those of clean, each attack and worst")
        if any((one.ausuc is None) == (self.bias is None) for one in (self.clean, *self.attacks.values(), self.worst)):
            raise ValueError("there is an area under the curve at a fitted bias, or none at bias 0")
        return self


def curve(samples: SeenUnseen, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The exact seen-unseen curve of samples with these limits (P,).

    Returns:
        Bias, S and U, each (B,): one point between any two breakpoints and at both ends, where every answer is a seen or a
        novel class. The bias is the breakpoint at which the constant interval begins; of the first, a little less than the
        lowest.
    """
    weights = samples.weights()
    ends = np.unique(limit[np.isfinite(limit)])
    seen_at, novel_at = (np.zeros(len(ends) + 1) for _ in "su")
    own = samples.own
    # beyond its limit a seen sample is wrong and a novel one is correct: in the interval that begins there
    place = np.searchsorted(ends, limit) + 1
    finite = np.isfinite(limit)
    np.add.at(seen_at, place[own & finite], -weights[own & finite])
    np.add.at(novel_at, place[~own & finite], weights[~own & finite])
    seen_at[0] = weights[own & finite].sum()
    lowest = ends[0] - 1e-6 if len(ends) else 0.0
    seen = np.maximum(np.cumsum(seen_at), 0.0)
    return np.concatenate(([lowest], ends)), seen, np.cumsum(novel_at)


def _thinned(bias: np.ndarray, seen: np.ndarray, novel: np.ndarray) -> Curve:
    """About `CURVE_POINTS` points of a curve, spread evenly along it, with the first and the last."""
    at = np.arange(len(bias))
    if len(bias) > CURVE_POINTS:
        length = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(seen)) + np.abs(np.diff(novel)))))
        at = np.unique(np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS)).clip(max=len(length) - 1))
        at = np.union1d(at, [0, len(length) - 1])[: CURVE_POINTS + 1]
    bias, seen, novel = (np.round(values[at], 6) for values in (bias, seen, novel))
    return Curve(bias=bias.tolist(), seen=seen.tolist(), novel=novel.tolist())


def figures(samples: SeenUnseen, limit: np.ndarray, *, seed: int) -> GzslFigures:
    """S, U, H and AUSUC of samples with these limits (P,); `seed` is of the bootstrap."""
    return _figures(samples, samples.right(limit), _ausuc(samples, limit, seed))


def _figures(samples: SeenUnseen, right: np.ndarray, area: Area | None = None) -> GzslFigures:
    seen, novel = (per_class(samples, right, seen=side) for side in (True, False))
    return GzslFigures(seen, novel, harmonic(seen, novel), area)


def harmonic(seen: Estimate, novel: Estimate) -> Estimate:
    """H = 2 S U / (S + U), 0 where both are 0; its interval combines the effects of both intervals (square and add).

    Where S = U = 0 neither has an effect alone, and the upper end is that of both upper ends.
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


def per_class(samples: SeenUnseen, right: np.ndarray, *, seen: bool) -> Estimate:
    """The mean accuracy of the seen or the novel classes; `right` is (P,) bool.

    The interval is Wilson's of a share among `SeenUnseen.size` samples: valid also at 0 and 1, where resampling has no spread.
    """
    chosen = samples.own == seen
    hits = np.bincount(samples.labels[chosen & right], minlength=samples.classes)
    hits, counts = (x[: samples.seen] if seen else x[samples.seen :] for x in (hits, samples.counts))
    mean = float((hits / counts).mean())
    return Estimate(mean, *wilson_share(mean, samples.size(seen)))


def _ausuc(samples: SeenUnseen, limit: np.ndarray, seed: int) -> Area:
    """The area, and the 2.5 % and 97.5 % quantiles of `DRAWS` areas of samples drawn again within each class.

    Areas of 0 and 1 are the same in every draw. The upper end of 0 is then that of the largest S times that of the largest U,
    the lower end of 1 that of S times that of U.
    """
    weights, area = samples.weights(), samples.area(limit)
    value = area(weights)
    if value == 0:
        ever = np.isfinite(limit)
        return Area(0.0, 0.0, per_class(samples, ever, seen=True).high * per_class(samples, ever, seen=False).high)
    if value > 1 - NO_SPREAD:
        sure = np.ones(len(limit), dtype=bool)
        return Area(value, per_class(samples, sure, seen=True).low * per_class(samples, sure, seen=False).low, 1.0)
    low, high = np.quantile([area(weights * times) for times in samples.resampled(seed)], (0.025, 0.975))
    return Area(value, min(value, float(low)), max(value, float(high)))


def summarise_gzsl(samples: SeenUnseen, found: Mapping[str, np.ndarray], *, seed: int) -> GzslResult:
    """Figures from limits.

    Args:
        samples: their labels and the number of seen classes.
        found: name -> (P,) limits; 'clean' and one entry per attack, each on the images that the attack made.
        seed: of the bootstrap.
    """
    under = {name: samples.worst((found["clean"], value)) for name, value in found.items()}
    whole = {**under, "worst": samples.worst(list(under.values()))}
    shown = {name: figures(samples, value, seed=seed) for name, value in whole.items()}
    return GzslResult(
        attacks={name: shown[name] for name in found if name != "clean"},
        clean=shown["clean"],
        curves={name: _thinned(*curve(samples, value)) for name, value in whole.items()},
        interval=INTERVAL,
        novel_classes=samples.classes - samples.seen,
        seen_classes=samples.seen,
        worst=shown["worst"],
    )


def summarise_at_bias(samples: SeenUnseen, right: Mapping[str, np.ndarray], bias: float) -> GzslResult:
    """Figures at one bias.

    Args:
        samples: their labels and the number of seen classes.
        right: 'clean' and each attack -> (P,) bool: correct when clean, and after the attack at this bias.
        bias: subtracted from the cosines of the seen classes.
    """
    shown = {name: _figures(samples, one) for name, one in right.items()}
    return GzslResult(
        attacks={name: one for name, one in shown.items() if name != "clean"},
        bias=bias,
        clean=shown["clean"],
        curves={},
        interval=INTERVAL,
        novel_classes=samples.classes - samples.seen,
        seen_classes=samples.seen,
        worst=_figures(samples, np.logical_and.reduce(list(right.values()))),
    )
