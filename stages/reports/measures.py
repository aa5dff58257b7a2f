"""Two models on the same points: accuracies, and for seen and novel classes together S, U, H and AUSUC. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from stages.reports.row_file import RowPart
from stages.reports.rows import CLEAN, WORST
from stages.statistics.gzsl import harmonic_mean
from stages.statistics.intervals import NO_SPREAD, alike
from stages.statistics.paired import Paired, mcnemar, newcombe, paired_classes, paired_episodes, paired_images
from stages.statistics.seen_unseen import DRAWS, SeenUnseen

OVER_IMAGES = "Newcombe 95 % over paired images; p: exact McNemar"
OVER_ALIKE = "where all episodes differ alike, Newcombe 95 % over their paired decisions; p: exact McNemar"
OVER_CLASSES = "mean over the classes, each counting alike [Student t 95 %]"
OVER_EPISODES = "Student t 95 % over paired episodes; p: paired t"
OF_CLASS_MEANS = "Newcombe 95 % of paired per-class means; p: exact McNemar over the images of the side"
OF_DRAWS = f"95 % of {DRAWS:,} paired bootstrap draws over images within class; p: of the same draws"
# one stream for every comparison: the same two reports always give the same figures
_SEED = 0
Make = Callable[..., "Measure"]
# the areas under the curves of two models, as functions of the samples' weights
Areas = tuple[Callable[[np.ndarray], float], Callable[[np.ndarray], float]]


@dataclass(frozen=True)
class Measure:
    """One line of a comparison.

    Attributes:
        models: the names of the two, as in their reports.
        group, protocol: as in both reports.
        measure: 'clean', an attack, 'worst', or with seen and novel classes together also 'clean S' and so on.
        accuracies: of the two; S, U, H and AUSUC are such figures too.
        paired: the difference, the second minus the first.
        only: how many points only the first and only the second got right; None for H and AUSUC.
        points, episodes: in all; episodes 0 for none.
        interval: which interval and which p-value `paired` has.
        over_classes: the mean difference of the classes, which count alike, with its interval for other classes; None where all
            classes differ alike, and where seen classes are among the candidates.
    """

    models: tuple[str, str]
    group: str
    protocol: str
    measure: str
    accuracies: tuple[float, float]
    paired: Paired
    only: tuple[int, int] | None
    points: int
    episodes: int
    interval: str
    over_classes: Paired | None = None

    @property
    def better(self) -> str | None:
        """'A' for the first or 'B' for the second, if the interval of the difference leaves out 0."""
        return "B" if self.paired.low > 0 else "A" if self.paired.high < 0 else None

    def to_record(self) -> dict[str, Any]:
        """As a JSON-able record."""
        record = asdict(self)
        paired = record.pop("paired")
        return {**record, **paired, "better": self.better}


def compare_rows(one: RowPart, other: RowPart, seen: int) -> list[Measure]:
    """Compare two models: clean, under each attack that both have, and in the worst case over those.

    Args:
        one, other: rows of the same points; their classes are in the same order.
        seen: how many of the classes, the first ones, are seen and compete with novel ones; these give S, U, H and AUSUC.
    """
    right = one.rows.correct(), other.rows.correct()
    under = {name: (right[0][name], right[1][name]) for name in right[0] if name in right[1]}
    if len(under) > 2:
        worst = [np.logical_and.reduce(side) for side in zip(*under.values(), strict=True)]
        under[WORST] = worst[0], worst[1]
    models, episodes = (one.model, other.model), one.rows.episodes
    make = partial(Measure, models, one.group, one.protocol, points=len(one.rows), episodes=episodes)
    label = None if seen else one.rows.label
    measures = [_accuracies(partial(make, measure=name), *both, label, episodes) for name, both in under.items()]
    if seen:
        samples = SeenUnseen(one.rows.label.astype(np.int64), seen, len(one.classes))
        if one.rows.clean.limit is None or other.rows.clean.limit is None:  # at a fitted bias there is no curve
            return [*measures, *(found for name, both in under.items() for found in _gzsl(make, name, samples, both, None))]
        first, second = (_limits(part, samples, list(under)) for part in (one, other))
        for name in under:
            decided = samples.right(first[name]), samples.right(second[name])
            measures += _gzsl(make, name, samples, decided, (samples.area(first[name]), samples.area(second[name])))
    return measures


def _accuracies(make: Make, first: np.ndarray, second: np.ndarray, label: np.ndarray | None, episodes: int) -> Measure:
    """The accuracies of decisions (P,) bool on points of these classes (P,); None where no interval is for other classes."""
    paired, interval = paired_points(first, second, episodes)
    only = int((first & ~second).sum()), int((second & ~first).sum())
    over = None if label is None else paired_classes(first[None], second[None], label)
    means = float(first.mean()), float(second.mean())
    return make(accuracies=means, paired=paired, only=only, interval=interval, over_classes=over)


def paired_points(first: np.ndarray, second: np.ndarray, episodes: int) -> tuple[Paired, str]:
    """The difference of two models' decisions (P,) bool on the same points, and which interval and p-value it has.

    Args:
        first, second: whether each decision is correct; episode by episode, if there are `episodes`.
        episodes: 0 for none.
    """
    if not episodes:
        return paired_images(first, second), OVER_IMAGES
    each = [side.reshape(episodes, -1).mean(1) for side in (first, second)]
    if alike(each[1] - each[0]):
        return paired_images(first, second), OVER_ALIKE
    return paired_episodes(*each), OVER_EPISODES


def _limits(part: RowPart, samples: SeenUnseen, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The limits (P,) when clean, after each attack and in the worst case, each of those in `names`."""
    found = {name: one.limit for name, one in {CLEAN: part.rows.clean, **part.rows.attacks}.items() if one.limit is not None}
    under = {name: samples.worst((found[CLEAN], found[name])) for name in names if name != WORST}
    return {**under, WORST: samples.worst(list(under.values()))}


def _gzsl(
    make: Make, name: str, samples: SeenUnseen, right: tuple[np.ndarray, np.ndarray], areas: Areas | None
) -> list[Measure]:
    """S, U, H and, with the areas under both curves, AUSUC of two models with these correct samples, (P,) bool."""
    s, u = (
        _class_means(partial(make, measure=f"{name} {figure}"), samples, *right, seen=figure == "S") for figure in ("S", "U")
    )
    weights = samples.weights()
    drawn = np.array([_differences(samples, weights * times, right, areas) for times in samples.resampled(_SEED)])
    h = [harmonic_mean(s.accuracies[at], u.accuracies[at]) for at in (0, 1)]
    both = {"H": (h[0], h[1])}
    if areas is not None:
        both["AUSUC"] = (areas[0](weights), areas[1](weights))
    draws = [
        _of_draws(partial(make, measure=f"{name} {figure}"), values, drawn[:, at], s.paired, u.paired)
        for at, (figure, values) in enumerate(both.items())
    ]
    return [s, u, *draws]


def _differences(
    samples: SeenUnseen,
    share: np.ndarray,
    right: tuple[np.ndarray, np.ndarray],
    areas: Areas | None,
) -> tuple[float, ...]:
    """The differences of H and AUSUC, the second minus the first, when the samples have the weights `share` (P,)."""
    h = [harmonic_mean(float(share[one & samples.own].sum()), float(share[one & ~samples.own].sum())) for one in right]
    return (h[1] - h[0],) if areas is None else (h[1] - h[0], areas[1](share) - areas[0](share))


def _class_means(make: Make, samples: SeenUnseen, first: np.ndarray, second: np.ndarray, *, seen: bool) -> Measure:
    """S or U, with the paired interval of the effective number of samples (see `SeenUnseen.size`)."""
    own, share, size = samples.own == seen, samples.weights(), samples.size(seen)
    cells = [own & one & other for one, other in ((first, second), (first, ~second), (~first, second), (~first, ~second))]
    both, only_first, only_second, neither = (float(share[cell].sum()) for cell in cells)
    low, high = newcombe(*(size * part for part in (both, only_first, only_second, neither)))
    only = int(cells[1].sum()), int(cells[2].sum())
    paired = Paired(only_second - only_first, low, high, mcnemar(*only))
    return make(accuracies=(both + only_first, both + only_second), paired=paired, only=only, interval=OF_CLASS_MEANS)


def _of_draws(make: Make, values: tuple[float, float], drawn: np.ndarray, seen: Paired, novel: Paired) -> Measure:
    """H or AUSUC from the differences in every draw; if all draws are equal, as wide as S and U together."""
    difference = values[1] - values[0]
    if float(np.ptp(drawn)) < NO_SPREAD:
        ends = min(seen.low, novel.low), max(seen.high, novel.high)
    else:
        low, high = np.quantile(drawn, (0.025, 0.975))
        ends = float(low), float(high)
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (1 + tail) / (1 + len(drawn)))
    paired = Paired(difference, min(difference, ends[0]), max(difference, ends[1]), p)
    return make(accuracies=values, paired=paired, only=None, interval=OF_DRAWS)
