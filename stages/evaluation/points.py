"""Points: the samples of an evaluation, each with an image, a head and a label within that head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stages.data.episodes import Episodes, draw_episodes
from stages.data.image_set import ImageSet
from stages.evaluation.protocol import Protocol
from stages.models.classifier import Classifier
from stages.models.few_shot import HeadFeatures, head_of


@dataclass(frozen=True)
class Points:
    """P samples to classify.

    Attributes:
        image: (P,) int64 on the CPU, index of the image.
        label: (P,) int64 on the CPU, the true class as a row of the sample's head.
        head: (P,) int64 on the CPU, index of the head; ascending.
        classes: (H, N) int64 on the CPU, the class of every row of every head.
        heads: (H, N, D), unit rows unless a few-shot head made them, on the model's device; None for the classifier's own head.
        seen: with gzsl, the number of seen classes, the first rows of the head; else 0.
    """

    image: Tensor
    label: Tensor
    head: Tensor
    classes: Tensor
    heads: Tensor | None = None
    seen: int = 0

    def __len__(self) -> int:
        return len(self.image)

    @property
    def ways(self) -> int:
        """Candidate classes per sample."""
        return self.classes.shape[1]

    def judge(self, classifier: Classifier) -> Classifier:
        """The classifier with the heads of these samples."""
        return classifier if self.heads is None else classifier.over(self.heads, head=self.head)


def all_way_points(labels: Tensor, classes: int, seen: int = 0) -> Points:
    """Every image once, with all classes as candidates; labels (N,) int64; `seen` as in Points."""
    count = len(labels)
    head = torch.zeros(count, dtype=torch.int64)
    return Points(torch.arange(count), labels.cpu(), head, torch.arange(classes)[None], seen=seen)


def protocol_episodes(images: ImageSet, protocol: Protocol) -> Episodes:
    """Sample the episodes of the protocol. Raises UsageError (see `draw_episodes`)."""
    return draw_episodes(images.labels, images.classes, **protocol.numbers, seed=protocol.seed)


def judged_episodes(episodes: Episodes, classifier: Classifier, embeddings: Tensor | None, protocol: Protocol) -> Points:
    """`episode_points` with the heads of the protocol; the classifier is `few_shot` for heads that are not class means."""
    return episode_points(
        episodes,
        classifier.anchors,
        embeddings,
        blend=protocol.blend,
        support_embeddings=protocol.support_embeddings,
        few_shot=head_of(classifier),
    )


def episode_points(
    episodes: Episodes,
    anchors: Tensor,
    embeddings: Tensor | None = None,
    *,
    blend: float = 0.0,
    support_embeddings: str = "unit",
    few_shot: HeadFeatures | None = None,
) -> Points:
    """Every query of every episode with that episode's N-way head, in the order of episodes.

    Zero-shot heads are the anchors of the episode's classes. With K > 0 shots a class anchor is
    blend * text anchor + K * mean of its support images' embeddings, normalized (Li et al., CVPR 2024, Sec. 4). The published
    program averages raw embeddings, whose norms then decide how much a blend of 2 weighs. With random draws, an image's
    embedding is the mean of those of its draws, normalized.

    Args:
        episodes: E episodes of N ways, K shots and Q queries.
        anchors: (C, D) unit rows on the model's device.
        embeddings: (images, D), clean raw embeddings, at least of the support images; only needed for K > 0.
        blend: weight of the text anchor, at least 0. No effect at K = 0.
        support_embeddings: see `Protocol`.
        few_shot: makes the heads instead, from its own outputs as `embeddings`.
    """
    count, ways, queries = episodes.query.shape
    shots = episodes.support.shape[2]
    heads = anchors[episodes.classes.to(anchors.device)]
    if shots and embeddings is not None and few_shot is not None:
        heads = few_shot.heads(embeddings[episodes.support.to(embeddings.device)])
    elif shots and embeddings is not None:
        shown = embeddings[episodes.support.to(embeddings.device)]
        shown = (shown if support_embeddings == "raw" else normalize(shown, dim=-1)).mean(2)
        heads = normalize(shown if blend == 0 else blend * heads + shots * shown, dim=-1)
    label = torch.arange(ways).repeat_interleave(queries).repeat(count)
    head = torch.arange(count).repeat_interleave(ways * queries)
    return Points(episodes.query.reshape(-1), label, head, episodes.classes, heads)
