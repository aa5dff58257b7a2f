"""One line of a comparison of two models. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.statistics.paired import Paired


@dataclass(frozen=True)
class Measure:
    """One line of a comparison: a measure ('clean', an attack, 'worst', or of seen and novel classes together also 'clean S' …)
    of two models on one group.

    Attributes:
        models: the names of the two, as in their reports.
        group, protocol: as in both reports.
        measure: what is compared.
        accuracies: of the two; S, U, H and AUSUC are such figures too.
        paired: the difference, the second minus the first.
        only: how many points only the first and only the second got right; None where it is about more than that.
        points, episodes: in all; episodes 0 for none.
        interval: which interval and which p-value `paired` has.
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

    def to_record(self) -> dict[str, Any]:
        """As a JSON-able record."""
        return {
            "models": list(self.models),
            "group": self.group,
            "protocol": self.protocol,
            "measure": self.measure,
            "accuracies": list(self.accuracies),
            "difference": self.paired.difference,
            "low": self.paired.low,
            "high": self.paired.high,
            "p": self.paired.p,
            "only": None if self.only is None else list(self.only),
            "points": self.points,
            "episodes": self.episodes,
            "interval": self.interval,
        }
