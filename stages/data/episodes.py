"""Sample N-way K-shot episodes. They depend only on their seed, so all attacks and models see the same episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.data.by_class import rows_by_class
from stages.errors import UsageError
from stages.randomness import numpy_generator
from stages.text import counted, listed


@dataclass(frozen=True)
class Episodes:
    """Episodes as indices, int64 on the CPU.

    Attributes:
        classes: (E, N), the classes of each episode, in the order of its head.
        support: (E, N, K), support images of each class; K may be 0.
        query: (E, N, Q), images to classify; the label of query[e, n] is n. Support and query are disjoint.
    """

    classes: Tensor
    support: Tensor
    query: Tensor


def draw_episodes(
    labels: Tensor, classes: Sequence[str], *, episodes: int, ways: int, shots: int, queries: int, seed: int
) -> Episodes:
    """Sample episodes (Li et al., CVPR 2024, Sec. 4): `ways` classes, `shots` support and `queries` query images of each.

    The first episodes do not depend on the number of episodes, nor the queries of an episode on the number of shots.

    Args:
        labels: (N,) int64, the class of each image.
        classes: names of the classes, for errors; labels are positions in it.
        episodes, queries: each at least 1.
        ways: at least 2; a single candidate is always right.
        shots: at least 0.
        seed: random seed; the purpose of the stream is 'episodes'.

    Raises:
        UsageError: a number out of range, more ways than classes, or a class with fewer images than shots + queries.
    """
    members = check_episodes(labels, classes, episodes=episodes, ways=ways, shots=shots, queries=queries)
    return sample_episodes(
        members, numpy_generator(seed, "episodes"), episodes=episodes, ways=ways, shots=shots, queries=queries
    )


def sample_episodes(
    members: Sequence[np.ndarray], generator: np.random.Generator, *, episodes: int, ways: int, shots: int, queries: int
) -> Episodes:
    """As `draw_episodes`, from the images of each class that `check_episodes` returned."""
    chosen = np.empty((episodes, ways), dtype=np.int64)
    images = np.empty((episodes, ways, queries + shots), dtype=np.int64)
    for episode in range(episodes):
        chosen[episode] = generator.permutation(len(members))[:ways]
        for way, at in enumerate(chosen[episode]):
            images[episode, way] = generator.permutation(members[at])[: queries + shots]
    sampled = torch.from_numpy(images)
    return Episodes(torch.from_numpy(chosen), sampled[:, :, queries:].contiguous(), sampled[:, :, :queries].contiguous())


def check_episodes(
    labels: Tensor, classes: Sequence[str], *, episodes: int, ways: int, shots: int, queries: int
) -> list[np.ndarray]:
    """The images of each class, int64 ascending. Raises UsageError as `draw_episodes` does."""
    _check_numbers(len(classes), episodes=episodes, ways=ways, shots=shots, queries=queries)
    return _members(labels.cpu().numpy(), classes, shots, queries)


def _check_numbers(available: int, *, episodes: int, ways: int, shots: int, queries: int) -> None:
    least_of = {"episodes": 1, "ways": 2, "queries": 1, "shots": 0}
    for name, value in {"episodes": episodes, "ways": ways, "queries": queries, "shots": shots}.items():
        if value < least_of[name]:
            raise UsageError(f"--{name} {value} is too few", f"give --{name} {least_of[name]} or more")
    if ways > available:
        fix = f"give --ways {available} or less"
        raise UsageError(f"--ways {ways} is more than the {counted(available, 'class', 'classes')} to choose from", fix)


def _members(labels: np.ndarray, classes: Sequence[str], shots: int, queries: int) -> list[np.ndarray]:
    """The images of each class. Raises UsageError when a class is too small for an episode."""
    members = rows_by_class(labels, len(classes))
    small = sorted((at for at, own in enumerate(members) if len(own) < shots + queries), key=lambda at: len(members[at]))
    if not small:
        return members
    count, others = len(members[small[0]]), [classes[at] for at in small[1:]]
    needed = f"{shots} shots + {queries} queries" if shots else f"{queries} queries"
    most = count - shots
    fix = f"give --queries {most} or less" if most >= 1 else "give fewer shots, or more images of that class"
    also = f"; also too small: {listed(others, 3)}" if others else ""
    raise UsageError(f"class '{classes[small[0]]}' has {counted(count, 'image')}, an episode needs {needed}{also}", fix)
