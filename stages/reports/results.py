"""The figures of one model on one group of classes, computed from its rows. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.data.source_rows import SourceRows
from stages.reports.rows import CLEAN, WORST, PointRows
from stages.statistics.chance import Verdict, predicts_one_class, verdict
from stages.statistics.gzsl import GzslResult
from stages.statistics.intervals import Estimate, alike, estimate

WILSON = "Wilson 95 % over images"
STUDENT_T = "Student t 95 % over episodes"
ALIKE_NOTE = "where all episodes have the same accuracy, its interval is Wilson 95 % over the decisions"


@dataclass(frozen=True)
class GroupResult:
    """One model on one group of classes.

    Attributes:
        classes: classes in the group.
        ways: candidate classes of each decision; chance is 1 / ways.
        images: distinct images that were classified.
        points: decisions, (image, head) pairs.
        episodes: 0 for all-way.
        clean: clean accuracy.
        attacks: name -> accuracy under that attack; a point that is wrong when clean is wrong here too.
        worst: share of points that are correct when clean and under every attack.
        correct: name -> (P,) bool, the decisions behind the figures, with 'clean'.
        rows: what `correct` was computed from.
        gzsl: the figures of seen and novel classes, if those were candidates together.
    """

    classes: int
    ways: int
    images: int
    points: int
    episodes: int
    clean: Estimate
    attacks: dict[str, Estimate]
    worst: Estimate
    correct: Mapping[str, np.ndarray] = field(repr=False, compare=False, default_factory=dict)
    rows: PointRows | None = field(repr=False, compare=False, default=None)
    gzsl: GzslResult | None = None

    @property
    def interval(self) -> str:
        """Which interval the estimates carry; see also `alike`."""
        return STUDENT_T if self.episodes else WILSON

    @property
    def alike(self) -> bool:
        """Whether all episodes have the same accuracy in some measure; its interval is then Wilson's over the decisions."""
        measures = [*self.correct.values(), np.logical_and.reduce(list(self.correct.values()))] if self.episodes else []
        return any(alike(one.reshape(self.episodes, -1).mean(axis=1)) for one in measures)

    def verdicts(self) -> dict[str, Verdict]:
        """Whether the clean accuracy and the worst case are above chance."""
        one_class = self.rows is not None and predicts_one_class(self.rows.clean.predicted, self.rows.label, self.episodes)
        return {name: verdict(getattr(self, name), 1 / self.ways, one_class=one_class) for name in (CLEAN, WORST)}


@dataclass(frozen=True)
class Row:
    """One result of a report.

    Attributes:
        model, group, result: which model (its name), on which group of classes ('seen', 'novel', …), with which result.
        classes: names of the group's classes, in the order of the labels in `result.rows`.
        protocol: what tells results of one model and group apart; '' is the protocol's name.
        images: the group's images in their source, for `result.rows`.
    """

    model: str
    group: str
    result: GroupResult
    classes: Sequence[str] = ()
    protocol: str = ""
    images: SourceRows | None = None

    def to_record(self, protocol: str) -> dict[str, Any]:
        """The entries of `records.Result`; `protocol` is the name of the report's protocol."""
        found = self.result
        numbers = {name: getattr(found, name) for name in ("classes", "ways", "images", "points", "episodes")}
        estimates = {name: getattr(found, name) for name in ("attacks", "clean", "worst")}
        where = {"model": self.model, "group": self.group, "protocol": self.protocol or protocol}
        gzsl = {} if found.gzsl is None else {"gzsl": found.gzsl}
        chance = {"chance": 1 / found.ways, "verdicts": found.verdicts()}
        return {**where, **numbers, **estimates, **chance, "interval": found.interval, **gzsl}


def summarise_rows(rows: PointRows, *, classes: int, ways: int) -> GroupResult:
    """Estimates from rows; `classes` and `ways` as in GroupResult."""
    correct = rows.correct()
    worst = np.logical_and.reduce(list(correct.values()))
    return GroupResult(
        classes=classes,
        ways=ways,
        images=len(np.unique(rows.image)),
        points=len(rows),
        episodes=rows.episodes,
        clean=estimate(correct[CLEAN], rows.episodes),
        attacks={name: estimate(value, rows.episodes) for name, value in correct.items() if name != CLEAN},
        worst=estimate(worst, rows.episodes),
        correct=correct,
        rows=rows,
    )
