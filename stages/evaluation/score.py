"""Score a classifier: predictions for every sample, clean and under each attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from stages.attacks.perturb import attack_samples
from stages.attacks.samples import Samples
from stages.attacks.spec import AttackPlan, AttackSpec
from stages.classes import fold
from stages.data.episodes import Episodes
from stages.data.image_set import ImageSet
from stages.errors import InputError, UsageError
from stages.evaluation.chunks import Chunks, chunk_size
from stages.evaluation.features import CleanFeatures
from stages.evaluation.points import Points, all_way_points, judged_episodes, protocol_episodes
from stages.evaluation.progress import AccuracySoFar, after_clean
from stages.evaluation.protocol import Protocol
from stages.models.classifier import Classifier, Progress, decide
from stages.models.few_shot import head_of
from stages.models.frozen import inference
from stages.pixels import filled, to_pixels
from stages.reports.results import GroupResult, summarise_rows
from stages.reports.rows import CLEAN, Judgement, PointRows
from stages.statistics.gzsl import GzslResult, summarise_at_bias, summarise_gzsl
from stages.statistics.seen_unseen import SeenUnseen, limits
from stages.threat import ThreatModel

# larger batches were slower for conv4-64: 0.9 against 1.6 times a plain loop (few pairs, tests/benchmarks/LOG.md)
MOST_ON_CPU = 64


def evaluate(
    classifier: Classifier,
    images: ImageSet,
    protocol: Protocol,
    attacks: Sequence[AttackSpec] = (),
    threat: ThreatModel | None = None,
    *,
    seed: int = 0,
    batch_size: int = 256,
    episodes: Episodes | None = None,
    features: CleanFeatures | None = None,
    chunks: Chunks | None = None,
    progress: Progress | None = None,
) -> GroupResult:
    """Clean and robust accuracy of a classifier on images of its classes.

    An attack uses exactly the head of its sample. Samples that are misclassified when clean are not attacked and count as
    misclassified.
    Predictions are float32 in eval mode; results depend on the batch size by float rounding only.

    Args:
        classifier: its train/eval modes are restored. With the protocol 'gzsl' its seen classes come first; one with a bias
            (`Classifier.with_bias`) gives S, U and H at that bias, which predictions and attacks have, and no curve.
        images: labels are positions in the classifier's classes.
        protocol: all-way, episodes or gzsl.
        attacks: any number, with different names; without attacks the worst case is the clean accuracy.
        threat: required with attacks.
        seed: of random starts; the protocol has the seed of episodes.
        batch_size: samples in one forward pass.
        episodes: use these instead of sampling them with the protocol's seed.
        features: embeddings of the same images by the same model, to share them among several protocols.
        chunks: processes that share the work, and where finished chunks are saved.
        progress: called between batches with (passes done, total, the current attack and the accuracy so far).

    Raises:
        UsageError: a protocol that does not fit the data, or attacks without a threat model.
        InputError: classes without an image, or anchors of another width than the embeddings.
        ComputeError: non-finite outputs, or a perturbation outside the threat model.
    """
    _check_fit(classifier, images)
    seen = _seen_classes(classifier, images) if protocol.name == "gzsl" else 0
    curve = bool(seen) and not classifier.bias
    size = forward_size(classifier, batch_size)
    scorer = _Scorer(classifier, images, size, features or CleanFeatures(classifier, images, size), chunks or Chunks())
    with inference(classifier):
        points, embeddings, sampled = scorer.points(protocol, episodes, seen if curve else 0)
        clean = scorer.judge(points, embeddings)
        so_far = after_clean(points, clean, progress, attacks)
        so_far.show(1)
        found = {}
        for at, spec in enumerate(attacks):
            if threat is None:
                raise UsageError(f"the attack {spec.name} needs a threat model", "give --eps, for example 8/255")
            so_far = so_far.under(spec.name, 1 + at * (2 if curve else 1), scorer.chunks.world.size)
            found[spec.name] = scorer.judge_under(AttackPlan(spec, threat, seed, size), points, clean, so_far)
    rows = make_rows(points, clean, found, sampled)
    result = summarise_rows(rows, classes=len(classifier.classes), ways=points.ways)
    if not seen:
        return result
    return replace(result, gzsl=gzsl_of(rows, seen, len(classifier.classes), seed, bias=classifier.bias))


def forward_size(classifier: Classifier, batch_size: int) -> int:
    """The number of samples in one forward pass on the classifier's device."""
    return min(batch_size, MOST_ON_CPU) if classifier.device.type == "cpu" else batch_size


def _check_fit(classifier: Classifier, images: ImageSet) -> None:
    if not len(images):
        raise InputError("there are no images of these classes", "choose other classes or another data set")
    if len(images.classes) != len(classifier.classes):
        raise InputError(
            f"the images are of {len(images.classes)} classes and the classifier has {len(classifier.classes)}",
            "choose the classes with classifier.over(names) and images.restricted_to(names)",
        )
    for one, other in zip(images.classes, classifier.classes, strict=True):
        if fold(one) != fold(other):
            raise InputError(
                f"the images have the class '{one}' where the classifier has '{other}'",
                "put them in one order with images.restricted_to(classifier.classes)",
            )


def _seen_classes(classifier: Classifier, images: ImageSet) -> int:
    """Number of seen classes. Raises InputError unless there are seen and novel classes, each with an image."""
    seen = len(classifier.groups.seen)
    if not 0 < seen < len(classifier.classes) or classifier.groups.seen != tuple(range(seen)):
        raise InputError("gzsl needs seen classes, then novel ones", "name both, or use --protocol all-way")
    counts = images.counts()
    if 0 in counts:
        empty = classifier.classes[counts.index(0)]
        raise InputError(f"class '{empty}' has no image, and gzsl is a mean over classes", "add images, or leave it out")
    return seen


def gzsl_of(rows: PointRows, seen: int, classes: int, seed: int, *, bias: float = 0.0) -> GzslResult:
    """The gzsl figures of rows, with limits at bias 0; the first `seen` of the `classes` are seen."""
    samples = SeenUnseen(rows.label.astype(np.int64), seen, classes)
    if bias:
        return summarise_at_bias(samples, rows.correct(), bias)
    found = {name: one.limit for name, one in {CLEAN: rows.clean, **rows.attacks}.items() if one.limit is not None}
    return summarise_gzsl(samples, found, seed=seed)


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the true class minus the best wrong one, (n, K) and (n,) on one device -> (n,); infinite for K = 1."""
    at = labels[:, None]
    return logits.gather(1, at)[:, 0] - logits.scatter(1, at, -torch.inf).amax(1)


def record(found: Judgement, points: Points, rows: Tensor, predicted: Tensor, cosines: Tensor) -> None:
    """Write the results of the samples `rows` ((n,) on the CPU) to `found`: predictions (n,) in their heads, cosines (n, N)."""
    found.predicted[rows.numpy()] = points.classes[points.head[rows], predicted.cpu()].numpy()
    found.margin[rows.numpy()] = margins(cosines, points.label[rows].to(cosines.device)).float().cpu().numpy()
    if found.limit is not None:
        found.limit[rows.numpy()] = limits(cosines.cpu().numpy(), points.label[rows].numpy(), points.seen)


def make_rows(points: Points, clean: Judgement, attacks: Mapping[str, Judgement], episodes: Episodes | None) -> PointRows:
    """Rows of a report from clean results and results of `attacks` by name; `episodes` is None for all-way."""
    heads = {} if episodes is None else {"heads": _int32(episodes.classes), "support": _int32(episodes.support)}
    return PointRows(
        image=_int32(points.image),
        label=_int32(points.classes[points.head, points.label]),
        episode=np.full(len(points), -1, np.int32) if episodes is None else _int32(points.head),
        clean=clean,
        attacks=attacks,
        **heads,
    )


def _int32(values: Tensor) -> np.ndarray:
    return values.cpu().numpy().astype(np.int32)


@dataclass(frozen=True)
class _Scorer:
    """A frozen classifier and the images to classify, `batch_size` at a time."""

    classifier: Classifier
    images: ImageSet
    batch_size: int
    features: CleanFeatures
    chunks: Chunks

    @property
    def device(self) -> torch.device:
        return self.classifier.device

    def pixels(self, rows: Tensor) -> Tensor:
        return to_pixels(self.images.images, rows, self.device)

    def points(self, protocol: Protocol, given: Episodes | None, seen: int) -> tuple[Points, Tensor, Episodes | None]:
        """The protocol's samples, the clean raw embeddings (images, D) of all images in use, and the episodes."""
        if protocol.name != "episodes":
            points = all_way_points(self.images.labels, len(self.classifier.classes), seen)
            return points, self.features.of(points.image), None
        episodes = given or protocol_episodes(self.images, protocol)
        used = torch.cat((episodes.query.reshape(-1), episodes.support.reshape(-1))).unique()
        embeddings = self.features.of(used)
        if head_of(self.classifier) is None:
            self.classifier.logits(embeddings[:1])  # raises for anchors of another width
        return judged_episodes(episodes, self.classifier, embeddings, protocol), embeddings, episodes

    def judge(self, points: Points, embeddings: Tensor) -> Judgement:
        """Predictions from the clean raw embeddings (images, D)."""
        found, judge = Judgement.empty(len(points), limits=points.seen > 0), points.judge(self.classifier)
        for rows in torch.arange(len(points)).split(self.batch_size):
            image, at = (filled(index.to(self.device)) for index in (points.image[rows], rows))
            logits = judge.logits(judge.unit(embeddings[image]), at)[: len(rows)]
            record(found, points, rows, decide(logits), logits / judge.logit_scale)
        return found

    def judge_under(self, plan: AttackPlan, points: Points, clean: Judgement, so_far: AccuracySoFar) -> Judgement:
        """Predictions after the attack; samples that are misclassified when clean keep the clean prediction."""
        samples, found = self._samples(points, so_far), clean.copy()
        right = points.classes[points.head, points.label].numpy() == clean.predicted
        rows = torch.from_numpy(right).nonzero()[:, 0]
        if not len(rows):
            so_far.show(1)

        def judge(chunk: Tensor) -> None:
            for judged in attack_samples(samples, chunk, plan):
                at = judged.rows
                record(found, points, at, judged.predicted, judged.logits / self.classifier.logit_scale)
                found.norm[at.numpy()] = plan.threat.distance(judged.x_adv, self.pixels(points.image[at])).cpu().numpy()
                so_far.add(at.numpy(), found.predicted)

        columns = [found.predicted, found.margin, found.norm, *([] if found.limit is None else [found.limit])]
        self._run(rows, plan, columns, judge, so_far, found)
        if points.seen:
            self._attack_fully(replace(plan, early_stop=False), points, clean, found, so_far)
        return found

    def _attack_fully(
        self, plan: AttackPlan, points: Points, clean: Judgement, found: Judgement, so_far: AccuracySoFar
    ) -> None:
        """Run all steps on samples that are wrong at bias 0 but right at another bias when clean; update their limits."""
        limit, label, own = found.limit, points.label.numpy(), points.label.numpy() < points.seen
        assert limit is not None
        assert clean.limit is not None
        rows = torch.from_numpy((found.predicted != label) & np.isfinite(clean.limit)).nonzero()[:, 0]
        so_far = so_far.again(len(rows))
        samples = self._samples(points, so_far)

        def judge(chunk: Tensor) -> None:
            for judged in attack_samples(samples, chunk, plan):
                at = judged.rows.numpy()
                more = limits((judged.logits / self.classifier.logit_scale).cpu().numpy(), label[at], points.seen)
                limit[at] = np.where(own[at], np.minimum(limit[at], more), np.maximum(limit[at], more))
                so_far.add(at, found.predicted)

        self._run(rows, plan, [limit], judge, so_far, found)
        so_far.show(1)

    def _run(
        self,
        rows: Tensor,
        plan: AttackPlan,
        columns: Sequence[np.ndarray],
        judge: Callable[[Tensor], None],
        so_far: AccuracySoFar,
        found: Judgement,
    ) -> None:
        about = {
            "attack": plan.spec.to_record(),
            "batch_size": plan.batch_size,
            "scale": self.classifier.logit_scale,
            "seed": plan.seed,
            "threat": plan.threat.to_record(),
            **({} if plan.early_stop else {"early_stop": False}),
        }
        self.chunks.run(
            rows,
            chunk_size(plan.spec, plan.batch_size),
            columns,
            judge,
            about=about,
            device=self.device,
            resumed=lambda chunk: so_far.add(chunk.numpy(), found.predicted),
        )

    def _samples(self, points: Points, so_far: AccuracySoFar) -> Samples:
        def source(rows: Tensor) -> Tensor:
            return self.pixels(points.image[rows])

        return Samples(points.judge(self.classifier), source, points.label.to(self.device), on_pass=so_far.passed)
