"""What an evaluation is and what it gives, as plain values. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stages.errors import UsageError, require_at_least
from stages.reports.rows import CLEAN, PointRows
from stages.statistics.gzsl import GzslResult
from stages.statistics.intervals import Estimate, alike, estimate

PROTOCOLS = ("all-way", "episodes", "gzsl")
WILSON = "Wilson 95 % over images"
STUDENT_T = "Student t 95 % over episodes"
ALIKE = "where all episodes have the same accuracy, its interval is Wilson 95 % over the decisions"


@dataclass(frozen=True)
class Protocol:
    """How images are put to the test.

    Attributes:
        name: 'all-way' (every image once, all classes are candidates), 'episodes' (N-way K-shot) or 'gzsl' (all-way over seen
            and novel classes together).
        ways, shots, queries, episodes: numbers of an episode and of episodes; only used by 'episodes'.
        seed: of the episodes.
        blend: weight of the text anchor in an anchor made from K > 0 images, against a weight of K; 0 is images alone.

    Raises UsageError for another name or a blend below 0; the other numbers are checked when episodes are drawn.
    """

    name: str = "all-way"
    ways: int = 5
    shots: int = 0
    queries: int = 20
    episodes: int = 2000
    seed: int = 0
    blend: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS:
            raise UsageError(f"unknown protocol '{self.name}'", f"known protocols: {', '.join(PROTOCOLS)}")
        require_at_least("--blend", self.blend, 0)

    def to_record(self) -> dict[str, Any]:
        """The protocol as a JSON-able record, with the numbers that it uses."""
        if self.name != "episodes":
            return {"name": self.name}
        numbers = {"ways": self.ways, "shots": self.shots, "queries": self.queries, "episodes": self.episodes}
        blend = {"blend": self.blend} if self.shots else {}
        return {"name": self.name, "episode_seed": self.seed, **numbers, **blend}


@dataclass(frozen=True)
class GroupResult:
    """One model on one group of classes.

    Attributes:
        classes: classes in the group.
        ways: candidates of each decision; chance is 1 / ways.
        images: distinct images that were classified.
        points: decisions, (image, head) pairs.
        episodes: 0 for all-way.
        clean: accuracy on clean images.
        attacks: name -> accuracy under that attack; a point that is wrong when clean is wrong here too.
        worst: share of points that are right when clean and under every attack.
        correct: name -> (P,) bool, the decisions behind the numbers, 'clean' among them; not part of the record.
        rows: what `correct` was computed from; not part of the record.
        gzsl: the figures of the two sides, where seen and novel classes were candidates together.
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
        """Whether all episodes are alike in some measure, whose interval is then Wilson's over the decisions."""
        measures = [*self.correct.values(), np.logical_and.reduce(list(self.correct.values()))] if self.episodes else []
        return any(alike(one.reshape(self.episodes, -1).mean(axis=1)) for one in measures)

    def to_record(self) -> dict[str, Any]:
        """The entry of a report, JSON-able."""
        return {
            "attacks": {name: value.to_record() for name, value in self.attacks.items()},
            "chance": 1 / self.ways,
            "classes": self.classes,
            "clean": self.clean.to_record(),
            "episodes": self.episodes,
            "images": self.images,
            "interval": self.interval,
            "points": self.points,
            "ways": self.ways,
            "worst": self.worst.to_record(),
            **({} if self.gzsl is None else {"gzsl": self.gzsl.to_record()}),
        }


def summarise_rows(rows: PointRows, *, classes: int, ways: int) -> GroupResult:
    """Estimates from rows; `classes` and `ways` as in GroupResult."""
    images = len(np.unique(rows.image))
    found = summarise(rows.correct(), classes=classes, ways=ways, images=images, episodes=rows.episodes)
    return replace(found, rows=rows)


def summarise(correct: Mapping[str, np.ndarray], *, classes: int, ways: int, images: int, episodes: int = 0) -> GroupResult:
    """Estimates from decisions.

    Args:
        correct: name -> (P,) bool; 'clean' and one entry an attack. The points of an episode lie together, and every
            episode has as many.
        classes, ways, images, episodes: as in GroupResult.
    """
    worst = np.logical_and.reduce(list(correct.values()))
    return GroupResult(
        classes=classes,
        ways=ways,
        images=images,
        points=len(worst),
        episodes=episodes,
        clean=estimate(correct[CLEAN], episodes),
        attacks={name: estimate(value, episodes) for name, value in correct.items() if name != CLEAN},
        worst=estimate(worst, episodes),
        correct=correct,
    )
