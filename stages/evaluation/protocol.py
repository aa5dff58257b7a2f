"""The evaluation protocol as a value. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.errors import UsageError, require_at_least

PROTOCOLS = ("all-way", "episodes", "gzsl")


@dataclass(frozen=True)
class Protocol:
    """Which classes are candidates for which images.

    Attributes:
        name: 'all-way' (every image once, all classes are candidates), 'episodes' (N-way K-shot) or 'gzsl' (all-way over seen
            and novel classes together).
        ways, shots, queries, episodes: numbers of an episode and of episodes; only used by 'episodes'.
        seed: of the episodes.
        blend: weight of the text anchor in an anchor made from K > 0 images, against a weight of K; 0 is images alone.

    Raises UsageError for another name or a blend below 0; the other numbers are checked when episodes are sampled.
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
