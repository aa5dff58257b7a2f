"""Scores epochs of objectives without anchors: on episodes of validation classes, or of held-out training images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stages.anchors.anchor_set import AnchorSet
from stages.data.by_class import rows_by_class
from stages.data.episode_shape import PROTONET, RIDGE, EpisodeShape
from stages.data.episodes import Episodes, sample_episodes
from stages.data.image_set import ImageSet
from stages.data.streaming_set import StreamingImageSet
from stages.errors import InputError
from stages.files.artifact_params import Calibration
from stages.models.classifier import Classifier
from stages.models.few_shot import few_shot, head_of
from stages.models.frozen import inference
from stages.models.heads import HEADS
from stages.pixels import to_pixels
from stages.randomness import numpy_generator, torch_generator
from stages.text import counted
from stages.training.objectives import Objective
from stages.training.selection import LARGEST_PART, MAX_IMAGES, SEEN, VALIDATION, Selection, sampled_rows, without
from stages.training.settings import TrainSettings

# of each class of an episode: few, so that there are many episodes
QUERIES = 5


@dataclass(frozen=True, kw_only=True)
class FewShotSelection(Selection):
    """Epochs are scored on the queries of `episodes`, under heads made from their support; see `Selection`.

    Attributes:
        episodes: positions in `images`; about 1,000 queries in all.
        few_shot_head: one of `HEADS`; with learnt parameters it is the head that is trained.
    """

    episodes: Episodes
    few_shot_head: str

    @property
    def judgements(self) -> int:
        """See `Selection`."""
        return self.episodes.query.numel()

    @property
    def shape(self) -> EpisodeShape:
        """Of the episodes."""
        return EpisodeShape(self.episodes.classes.shape[1], self.episodes.support.shape[2], self.episodes.query.shape[2])

    def to_record(self) -> dict[str, Any]:
        """See `Selection`."""
        shape = self.shape
        numbers = {"ways": shape.ways, "shots": shape.shots, "queries": shape.queries, "episodes": len(self.episodes.classes)}
        return {**super().to_record(), "head": self.few_shot_head, **numbers}

    def describe(self) -> tuple[str, str]:
        """See `Selection`."""
        shape, count = self.shape, counted(len(self.episodes.classes), "episode")
        return f"the best epoch is selected on {count}, {shape.ways}-way {shape.shots}-shot: {self.source}", ""

    def judged(
        self, model: nn.Module, head: nn.Module | None, settings: TrainSettings, share: slice
    ) -> tuple[Classifier, Tensor, Tensor]:
        """See `Selection`."""
        trained = head if self.few_shot_head == RIDGE else None  # a head of prototypes has nothing to learn
        judge = few_shot(Classifier(model, self.anchors).train(model.training), trained or HEADS[self.few_shot_head]())
        part, support = head_of(judge), self.episodes.support
        assert part is not None
        with inference(judge):
            batches = support.flatten().split(settings.batch_size)
            shown = torch.cat([judge.embedding(to_pixels(self.images.images, rows, judge.device)) for rows in batches])
            heads = part.heads(shown.view(*support.shape, -1))
        episode = torch.arange(len(heads)).repeat_interleave(self.shape.ways * self.shape.queries)[share]
        rows, labels = self.episodes.query.flatten()[share], self.shape.labels(len(heads))[share]
        return judge.over(heads, head=episode), self.images.images[rows.to(self.images.images.device)], labels

    def calibration(self, model: nn.Module, anchors: AnchorSet, settings: TrainSettings) -> Calibration | None:
        """None: the projection to the anchors is not trained."""
        return None


def plan_few_shot_selection(
    images: ImageSet | StreamingImageSet, anchors: AnchorSet, settings: TrainSettings, objective: type[Objective]
) -> tuple[ImageSet | StreamingImageSet, FewShotSelection]:
    """As `plan_selection`, for objectives without anchors: those that are not episodic are scored by nearest class means.

    Raises InputError for a single validation class, and for classes with too few images.
    """
    shape = settings.episode if objective.episodic else EpisodeShape(ways=5, shots=5, queries=QUERIES)
    head = settings.episode_head if objective.episodic else PROTONET
    group = "val" if anchors.groups.val else "seen"
    seen = images.restricted_to(anchors.names("seen"), names_from="the anchors")
    pool = seen if group == "seen" else images.restricted_to(anchors.names(group), names_from="the anchors")
    if len(pool.classes) < 2:
        raise InputError("a single validation class is always right", "give at least 2 (`laat anchors --val N`), or none")
    counts = [count // LARGEST_PART if group == "seen" else count for count in pool.counts()]
    least = min(range(len(counts)), key=counts.__getitem__)
    if counts[least] <= shape.shots:
        part = f", of which a fifth, {counts[least]}, can be held out" if group == "seen" else ""
        raise InputError(
            f"class '{pool.classes[least]}' has {counted(pool.counts()[least], 'image')}{part}: the episodes that select the "
            f"epoch need {shape.shots} shots and a query",
            f"give {'fewer shots, ' if objective.episodic else ''}more images of that class, or other validation classes "
            "(`laat anchors --val N`)",
        )
    each = max(shape.shots + QUERIES, MAX_IMAGES // len(counts))
    rows = sampled_rows(pool.labels, [min(each, count) for count in counts], torch_generator(settings.seed, "train/selection"))
    held = pool.take(rows).loaded()
    ways, queries = min(shape.ways, len(counts)), min(QUERIES, counts[least] - shape.shots)
    episodes = sample_episodes(
        rows_by_class(held.labels.cpu().numpy(), len(counts)),
        numpy_generator(settings.seed, "train/selection/episodes"),
        episodes=max(1, MAX_IMAGES // (ways * queries)),
        ways=ways,
        shots=shape.shots,
        queries=queries,
    )
    vectors = torch.from_numpy(anchors.vectors[anchors.indices(group)])
    source = SEEN if group == "seen" else VALIDATION
    return (
        without(seen, rows) if group == "seen" else seen,
        FewShotSelection(images=held, anchors=vectors, source=source, episodes=episodes, few_shot_head=head),
    )
