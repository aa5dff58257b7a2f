"""The evaluation protocol as a value. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.data.episode_shape import HEADS
from stages.errors import UsageError
from stages.parameters import SEEDS, check, parameter

PROTOCOL = "Protocol"  # the panel of --help
PROTOCOLS = ("all-way", "episodes", "gzsl")
SUPPORT_EMBEDDINGS = ("unit", "raw")
CLASS_MEANS = "class-means"


@dataclass(frozen=True)
class Protocol:
    """Which classes are candidates for which images.

    Attributes:
        name: 'all-way' (every image once, all classes are candidates), 'episodes' (N-way K-shot) or 'gzsl' (all-way over seen
            and novel classes together).
        ways, shots, queries, episodes: classes, support and query images per class of an episode, and number of episodes.
        seed: of the episodes.
        head: how support images become a classifier: 'class-means' (their mean embeddings are anchors), or 'protonet' or 'r2d2'
            on the features before the projection (see `stages.models.heads`).
        blend: weight of the text anchor when K > 0 images have the weight K; 0 uses the images alone.
        support_embeddings: 'unit' (support embeddings are normalized before they are averaged) or 'raw' (they are not).

    Raises UsageError for an unknown name, and for numbers out of range: a single candidate is always right.
    """

    name: str = parameter(
        "all-way",
        "all-way (all classes of the group are candidates), episodes (N-way K-shot), or gzsl (seen and novel together).",
        option="protocol",
        panel=PROTOCOL,
        choices=PROTOCOLS,
    )
    ways: int = parameter(5, "Classes per episode.", panel=PROTOCOL, at_least=2, below=2**20)
    shots: int = 0
    queries: int = parameter(20, "Query images per class and episode.", panel=PROTOCOL, at_least=1, below=2**20)
    episodes: int = parameter(2000, "Number of episodes.", panel=PROTOCOL, at_least=1, below=10**7)
    seed: int = parameter(0, "Random seed of the episodes.", option="episode-seed", panel=PROTOCOL, below=SEEDS)
    head: str = parameter(
        CLASS_MEANS,
        "Head made from the support images: class-means (their mean embeddings are the anchors), or on the features before the "
        "projection protonet (nearest class mean) or r2d2 (ridge regression, of a model trained with it).",
        panel=PROTOCOL,
        choices=(CLASS_MEANS, *HEADS),
    )
    blend: float = parameter(
        0.0,
        "Weight of the name's anchor; each of the K support images has weight 1. 0 uses the images alone.",
        panel=PROTOCOL,
        at_least=0,
    )
    support_embeddings: str = parameter(
        "unit",
        "unit (normalized before they are averaged) or raw (not normalized, as in the published program, whose blend is 2).",
        panel=PROTOCOL,
        choices=SUPPORT_EMBEDDINGS,
    )

    def __post_init__(self) -> None:
        check(self)
        of_means = {"--blend": self.blend > 0, "--support-embeddings raw": self.support_embeddings != "unit"}
        for option, used in of_means.items():
            if used and self.head != CLASS_MEANS:
                raise UsageError(f"{option} has no effect on --head {self.head}", f"leave it out, or use --head {CLASS_MEANS}")

    @property
    def numbers(self) -> dict[str, int]:
        """Number of episodes, and ways, shots and queries of each."""
        return {"ways": self.ways, "shots": self.shots, "queries": self.queries, "episodes": self.episodes}

    def to_record(self) -> dict[str, Any]:
        """JSON-able record, with the numbers in use."""
        if self.name != "episodes":
            return {"name": self.name}
        return {"name": self.name, "episode_seed": self.seed, **self.numbers, **(self.heads if self.shots else {})}

    @property
    def heads(self) -> dict[str, Any]:
        """How heads are made from support images, JSON-able."""
        if self.head != CLASS_MEANS:
            return {"head": self.head}
        return {"blend": self.blend, **({"support_embeddings": "raw"} if self.support_embeddings == "raw" else {})}
