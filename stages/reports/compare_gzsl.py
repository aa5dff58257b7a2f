"""Comparing two models where seen and novel classes are candidates together: S, U, H and AUSUC. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stages.reports.measure import Measure
from stages.reports.row_file import RowPart
from stages.reports.rows import CLEAN, WORST, PointRows
from stages.statistics.gzsl import harmonic_mean
from stages.statistics.intervals import NO_SPREAD
from stages.statistics.paired import Paired, mcnemar, newcombe
from stages.statistics.seen_unseen import DRAWS, Sides

OF_A_SIDE = "Newcombe 95 % of paired per-class means; p: exact McNemar over the images of the side"
OF_DRAWS = f"95 % of {DRAWS:,} paired bootstrap draws over images within class; p: of the same draws"
# one stream for every comparison: the same two reports always give the same figures
_SEED = 0


def side_measures(one: RowPart, other: RowPart, seen: int) -> list[Measure]:
    """S, U, H and AUSUC of two models: clean, under each attack that both have, and in the worst case over those.

    Args:
        one, other: rows of the same points; their classes are in the same order.
        seen: how many of the classes, the first ones, are seen; with 0 there is nothing to compare.
    """
    if not seen:
        return []
    sides = Sides(one.rows.label.astype(np.int64), seen, len(one.classes))
    common = [name for name in one.rows.attacks if name in other.rows.attacks]
    first, second = (_limits(part.rows, sides, common) for part in (one, other))

    def measure(name: str, figure: str, pair: _Pair) -> Measure:
        return Measure(
            models=(one.model, other.model),
            group=one.group,
            protocol=one.protocol,
            measure=f"{name} {figure}",
            accuracies=pair.values,
            paired=pair.paired,
            only=pair.only,
            points=len(one.rows),
            episodes=0,
            interval=OF_A_SIDE if pair.only else OF_DRAWS,
        )

    return [
        measure(name, figure, pair)
        for name in first
        for figure, pair in zip(("S", "U", "H", "AUSUC"), _pairs(sides, first[name], second[name]), strict=True)
    ]


def _limits(rows: PointRows, sides: Sides, attacks: list[str]) -> dict[str, np.ndarray]:
    """The limits (P,) when clean, after each attack and, where there are several, in the worst case."""
    found = {name: one.limit for name, one in {CLEAN: rows.clean, **rows.attacks}.items() if one.limit is not None}
    under = {name: sides.worst((found[CLEAN], found[name])) for name in (CLEAN, *attacks)}
    return under if len(under) < 3 else {**under, WORST: sides.worst(list(under.values()))}


@dataclass(frozen=True)
class _Pair:
    """A figure of both, and of S and U which points one alone got right."""

    values: tuple[float, float]
    paired: Paired
    only: tuple[int, int] | None = None


def _pairs(sides: Sides, first: np.ndarray, second: np.ndarray) -> list[_Pair]:
    """S, U, H and AUSUC of points with these limits (P,)."""
    right = sides.right(first), sides.right(second)
    seen, novel = (_of_a_side(sides, *right, part) for part in (True, False))
    weights, areas = sides.weights(), (sides.area(first), sides.area(second))
    drawn = np.array([_differences(sides, weights * times, right, areas) for times in sides.redrawn(_SEED)])
    h = harmonic_mean(seen.values[0], novel.values[0]), harmonic_mean(seen.values[1], novel.values[1])
    both = h, (areas[0](weights), areas[1](weights))
    return [seen, novel, *(_of_draws(values, drawn[:, at], seen, novel) for at, values in enumerate(both))]


def _differences(
    sides: Sides,
    share: np.ndarray,
    right: tuple[np.ndarray, np.ndarray],
    areas: tuple[Callable[[np.ndarray], float], Callable[[np.ndarray], float]],
) -> tuple[float, float]:
    """The differences of H and AUSUC, the second minus the first, when the points have the weights `share` (P,)."""
    h = [harmonic_mean(float(share[one & sides.own].sum()), float(share[one & ~sides.own].sum())) for one in right]
    return h[1] - h[0], areas[1](share) - areas[0](share)


def _of_a_side(sides: Sides, first: np.ndarray, second: np.ndarray, part: bool) -> _Pair:
    """S (`part` True) or U: the paired interval of as many images as the mean counts for (see `Sides.size`)."""
    own, share, size = sides.own == part, sides.weights(), sides.size(part)
    cells = [own & one & other for one, other in ((first, second), (first, ~second), (~first, second), (~first, ~second))]
    both, only_first, only_second, neither = (float(share[cell].sum()) for cell in cells)
    low, high = newcombe(*(size * part for part in (both, only_first, only_second, neither)))
    only = int(cells[1].sum()), int(cells[2].sum())
    paired = Paired(only_second - only_first, low, high, mcnemar(*only))
    return _Pair((both + only_first, both + only_second), paired, only)


def _of_draws(values: tuple[float, float], drawn: np.ndarray, seen: _Pair, novel: _Pair) -> _Pair:
    """H or AUSUC from the differences in every draw; where no draw differs from another, as wide as S and U together."""
    difference = values[1] - values[0]
    if float(np.ptp(drawn)) < NO_SPREAD:
        ends = min(seen.paired.low, novel.paired.low), max(seen.paired.high, novel.paired.high)
    else:
        low, high = np.quantile(drawn, (0.025, 0.975))
        ends = float(low), float(high)
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (1 + tail) / (1 + len(drawn)))
    return _Pair(values, Paired(difference, min(difference, ends[0]), max(difference, ends[1]), p))
