"""Points: everything that is scored is an image with a head to be judged by and the right answer within that head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stages.data.episodes import Episodes, draw_episodes
from stages.errors import InputError
from stages.reports.results import Protocol


@dataclass(frozen=True)
class Group:
    """One group of classes with its images, to be evaluated.

    Attributes:
        classes: the C names.
        anchors: (C, D) unit rows, in their order.
        images: (N, 3, H, W) uint8.
        labels: (N,) int64 into `classes`.
        seen: how many of the classes, the first ones, are seen; only used by the protocol 'gzsl'.

    Raises InputError when there is no image, or the four do not fit together.
    """

    classes: Sequence[str]
    anchors: Tensor
    images: Tensor
    labels: Tensor
    seen: int = 0

    def __post_init__(self) -> None:
        if not len(self.images):
            raise InputError("there is no image of these classes", "choose other classes or another data set")
        images, labels, anchors, classes = (len(x) for x in (self.images, self.labels, self.anchors, self.classes))
        if images != labels or anchors != classes or not 0 <= int(self.labels.min()) <= int(self.labels.max()) < classes:
            raise InputError(
                f"{images} images, {labels} labels, {anchors} anchors and {classes} classes do not fit together",
                "give one label an image and one anchor a class",
            )


@dataclass(frozen=True)
class Points:
    """P decisions to make.

    Attributes:
        image: (P,) int64 on the CPU, which image.
        label: (P,) int64 on the CPU, the right answer, a row of the point's head.
        head: (P,) int64 on the CPU, which head; ascending.
        heads: (H, N, D) unit rows, on the model's device.
        classes: (H, N) int64 on the CPU, the class of every row of every head.
        seen: how many rows of the head, the first ones, are seen classes, where they are to be told from novel ones; else 0.
        shared: whether all points have one head. The sums then run in another order than for a head each, so that an episode
            has the same bits alone as among others.
    """

    image: Tensor
    label: Tensor
    head: Tensor
    heads: Tensor
    classes: Tensor
    seen: int = 0
    shared: bool = False

    def __len__(self) -> int:
        return len(self.image)

    def logits(self, embeddings: Tensor, head: Tensor) -> Tensor:
        """Cosines of unit embeddings (n, D) with the rows of their heads; head (n,) on their device -> (n, N)."""
        if self.shared:
            return embeddings @ self.heads[0].T
        return torch.einsum("nd,nkd->nk", embeddings, self.heads[head])


def all_way_points(labels: Tensor, anchors: Tensor, seen: int = 0) -> Points:
    """Every image once, against all the anchors (C, D); labels (N,) int64 into them; `seen` as in Points."""
    count = len(labels)
    head = torch.zeros(count, dtype=torch.int64)
    return Points(torch.arange(count), labels.cpu(), head, anchors[None], torch.arange(len(anchors))[None], seen, shared=True)


def protocol_episodes(group: Group, protocol: Protocol) -> Episodes:
    """The episodes of a group that the seed of the protocol draws. Raises UsageError (see `draw_episodes`)."""
    return draw_episodes(
        group.labels,
        group.classes,
        episodes=protocol.episodes,
        ways=protocol.ways,
        shots=protocol.shots,
        queries=protocol.queries,
        seed=protocol.seed,
    )


def episode_points(episodes: Episodes, anchors: Tensor, embeddings: Tensor | None = None, *, blend: float = 0.0) -> Points:
    """Every query of every episode, against that episode's N-way head, in the order of episodes.

    Zero-shot heads are the anchors of the episode's classes. With K > 0 shots a class anchor is
    blend * text anchor + K * mean of its support images' embeddings, normalised (Li et al., CVPR 2024, Sec. 4): with
    blend 0, the images alone.

    Args:
        episodes: E episodes of N ways, K shots and Q queries.
        anchors: (C, D) unit rows on the model's device.
        embeddings: (images, D), clean unit embeddings, right at least at the support images; only needed for K > 0.
        blend: weight of the text anchor, at least 0; 2 is the published suggestion. Without effect at K = 0.
    """
    count, ways, queries = episodes.query.shape
    shots = episodes.support.shape[2]
    heads = anchors[episodes.classes.to(anchors.device)]
    if shots and embeddings is not None:
        shown = embeddings[episodes.support.to(embeddings.device)].mean(2)
        heads = normalize(shown if blend == 0 else blend * heads + shots * shown, dim=-1)
    label = torch.arange(ways).repeat_interleave(queries).repeat(count)
    head = torch.arange(count).repeat_interleave(ways * queries)
    return Points(episodes.query.reshape(-1), label, head, heads, episodes.classes)
