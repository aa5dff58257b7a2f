"""Cosines of all pairs of anchors, in blocks: a (C, C) matrix is never made. Needs numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from stages.errors import InputError

# anchors with a larger cosine are nearly the same
NEAR_DUPLICATE = 0.98
# so many of the nearest pairs are kept; there are up to C (C - 1) / 2
KEPT_PAIRS = 1000
# rows at a time: large enough for a fast product, small enough for the memory
BLOCK = 2048
# classes of a rank correlation at most: it sorts the cosines of all their pairs
RANKED_CLASSES = 1000
_DIGITS = 5  # of a cosine that are ranked
_SAME = 2 * 10.0**-_DIGITS  # cosines that differ by less are the same

# (done, total)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CosineFigures:
    """Figures of the C (C - 1) / 2 pairs of C anchors; of a single anchor the cosines are 1.

    Attributes:
        mean, low, high: of the cosines. The lowest and the highest pair are found in float32; their cosines are float64.
        near_duplicates: the nearest pairs with a cosine above `NEAR_DUPLICATE`, at most `KEPT_PAIRS`: (index, index, cosine),
            nearest first.
        near_duplicate_count: how many such pairs there are.
    """

    mean: float
    low: float
    high: float
    near_duplicates: tuple[tuple[int, int, float], ...] = ()
    near_duplicate_count: int = 0

    @property
    def equal(self) -> bool:
        """Whether all cosines are the same but for rounding, as those of a regular simplex."""
        return self.high - self.low < _SAME

    @property
    def smallest_angle_degrees(self) -> float:
        """The angle between the nearest two anchors."""
        return float(np.degrees(np.arccos(min(1.0, self.high))))

    def to_record(self) -> dict[str, float]:
        """JSON-able record, without the pairs."""
        return {
            "mean_cosine": self.mean,
            "min_cosine": self.low,
            "max_cosine": self.high,
            "smallest_angle_degrees": self.smallest_angle_degrees,
        }


def cosine_figures(anchors: np.ndarray, progress: Progress | None = None) -> CosineFigures:
    """The figures of anchors (C, D), from one float32 product of each pair of blocks of rows.

    Args:
        anchors: rows of any length.
        progress: called with (products done, in total).

    Raises InputError for a row that is zero or not finite.
    """
    unit, mean = _float32_rows(anchors)
    if len(unit) == 1:
        return CosineFigures(1.0, 1.0, 1.0)
    scan = _Scan(len(unit))
    starts = range(0, len(unit), BLOCK)
    total = len(starts) * (len(starts) + 1) // 2
    for done, (row, column) in enumerate(((r, c) for r in starts for c in starts if c >= r), 1):
        scan.add(unit[row : row + BLOCK] @ unit[column : column + BLOCK].T, row, column)
        if progress is not None:
            progress(done, total)
    return scan.figures(anchors, mean)


def simplex_figures(classes: int) -> CosineFigures:
    """The figures of a regular simplex, known without its anchors: all cosines are -1 / (C - 1)."""
    cosine = -1 / (classes - 1)
    return CosineFigures(cosine, cosine, cosine)


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's rank correlation of the cosines of all pairs of two sets of anchors (C, D) and (C, E), in [-1, 1].

    Cosines are rounded to five digits, so that the rounding of float32 anchors is no order. Of more than `RANKED_CLASSES`
    classes, so many are taken, evenly spaced. None where it is undefined: fewer than three classes, or cosines that are all
    the same.

    Source: Spearman, The American Journal of Psychology 1904; the correlation of average ranks.
    """
    count = len(one)
    if count < 3:
        return None
    taken = np.linspace(0, count - 1, min(count, RANKED_CLASSES)).round().astype(int)
    pairs = np.triu_indices(len(taken), 1)
    ranks = []
    for anchors in (one, other):
        unit = unit_rows(anchors[taken])
        cosines = (unit @ unit.T)[pairs]
        if np.ptp(cosines) < _SAME:
            return None
        centred = _average_ranks(cosines.round(_DIGITS))
        centred -= centred.mean()
        ranks.append(centred / np.linalg.norm(centred))
    return float(np.clip(ranks[0] @ ranks[1], -1, 1))


def _average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks (N,) of values (N,); equal values have the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


def pooled_cosines(anchors: np.ndarray, most: int) -> tuple[np.ndarray, float]:
    """The cosines of anchors (C, D) as a matrix of at most `most` rows, and their mean over all pairs of classes.

    With more anchors, each entry is the mean over the pairs of two runs of consecutive classes: the product of their mean rows.
    """
    runs = np.array_split(np.arange(len(anchors)), min(len(anchors), most))
    means = np.stack([unit_rows(anchors[run[0] : run[-1] + 1]).mean(axis=0) for run in runs])
    sizes = np.array([len(run) for run in runs])
    return means @ means.T, _mean_of_pairs(sizes @ means, len(anchors))


def row_norms(values: np.ndarray) -> np.ndarray:
    """The L2 norms (C,) of the rows of values (C, D), in float64."""
    return np.concatenate([np.linalg.norm(np.asarray(values[rows], np.float64), axis=1) for rows in blocks_of(len(values))])


def unit_rows(anchors: np.ndarray) -> np.ndarray:
    """The rows of anchors (C, D) divided by their L2 norms, float64. Raises InputError for a zero or non-finite row."""
    values = np.asarray(anchors, dtype=np.float64)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise InputError("an anchor is zero or not finite", "encode the classes again")
    return values / norms


def blocks_of(rows: int) -> Iterator[slice]:
    """Slices of at most `BLOCK` of so many rows, in order."""
    return (slice(start, start + BLOCK) for start in range(0, rows, BLOCK))


def _float32_rows(anchors: np.ndarray) -> tuple[np.ndarray, float]:
    """The unit rows in float32, and the mean cosine of all pairs, from the sum of the rows in float64."""
    unit = np.empty(anchors.shape, np.float32)
    total = np.zeros(anchors.shape[1])
    for rows in blocks_of(len(anchors)):
        block = unit_rows(anchors[rows])
        unit[rows] = block
        total += block.sum(axis=0)
    return unit, _mean_of_pairs(total, len(anchors))


def _mean_of_pairs(total: np.ndarray, count: int) -> float:
    """From the sum (D,) of `count` unit rows: its square is that of all pairs in both orders and of each row with itself."""
    return float(total @ total - count) / (count * (count - 1)) if count > 1 else 1.0


class _Scan:
    """The extremes and the nearest pairs of the blocks seen so far."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._low, self._high = np.inf, -np.inf
        self._low_pair = self._high_pair = np.zeros(1, np.int64)
        self._near, self._pairs = np.empty(0, np.float32), np.empty(0, np.int64)
        self._count = 0

    def add(self, block: np.ndarray, row: int, column: int) -> None:
        """Add the cosines of the rows from `row` with those from `column` on; `block` is changed."""
        diagonal = row == column
        if diagonal:
            np.fill_diagonal(block, np.inf)
        at = int(block.argmin())
        if block.flat[at] < self._low:
            self._low, self._low_pair = float(block.flat[at]), self._pair(np.array([at]), block, row, column)
        if diagonal:
            np.fill_diagonal(block, -np.inf)
        at = int(block.argmax())
        if block.flat[at] > self._high:
            self._high, self._high_pair = float(block.flat[at]), self._pair(np.array([at]), block, row, column)
        if block.flat[at] > NEAR_DUPLICATE:
            self._add_near(np.triu(block, 1) if diagonal else block, row, column)

    def _add_near(self, block: np.ndarray, row: int, column: int) -> None:
        self._count += int(np.count_nonzero(block > NEAR_DUPLICATE))
        full = len(self._near) == KEPT_PAIRS
        found = np.flatnonzero(block > (self._near.min() if full else NEAR_DUPLICATE))
        near = np.concatenate((self._near, block.reshape(-1)[found]))
        pairs = np.concatenate((self._pairs, self._pair(found, block, row, column)))
        if len(near) > KEPT_PAIRS:
            kept = np.argpartition(-near, KEPT_PAIRS)[:KEPT_PAIRS]
            near, pairs = near[kept], pairs[kept]
        self._near, self._pairs = near, pairs

    def _pair(self, at: np.ndarray, block: np.ndarray, row: int, column: int) -> np.ndarray:
        """Positions in a block as numbers of pairs: row index times size, plus column index."""
        return (row + at // block.shape[1]) * self._size + column + at % block.shape[1]

    def figures(self, anchors: np.ndarray, mean: float) -> CosineFigures:
        """The figures, with the cosines of the pairs that were found in float64."""
        low, high = (self._exact(pair, anchors)[0][2] for pair in (self._low_pair, self._high_pair))
        near = sorted(self._exact(self._pairs, anchors), key=lambda pair: (-pair[2], pair))
        return CosineFigures(mean, low, high, tuple(near), self._count)

    def _exact(self, pairs: np.ndarray, anchors: np.ndarray) -> list[tuple[int, int, float]]:
        one, two = np.divmod(pairs, self._size)
        cosines = np.einsum("nd,nd->n", unit_rows(anchors[one]), unit_rows(anchors[two])).clip(-1, 1)
        return list(zip(one.tolist(), two.tolist(), cosines.tolist(), strict=True))
