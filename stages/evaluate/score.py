"""Scoring a model: which points it gets right, clean and under each attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.attacks.perturb import attack_points
from stages.attacks.spec import AttackSpec
from stages.attacks.target import Progress, Target, checked_width, decide, full_precision, to_pixels
from stages.data.episodes import Episodes
from stages.errors import InputError, UsageError
from stages.evaluate.points import Group, Points, all_way_points, episode_points, protocol_episodes
from stages.evaluate.progress import Known, known_when_clean
from stages.evaluate.work import Work, filled, piece_size
from stages.models.classifier import frozen, unit
from stages.reports.results import GroupResult, Protocol, summarise_rows
from stages.reports.rows import CLEAN, Judgement, PointRows
from stages.statistics.gzsl import GzslResult, summarise_gzsl
from stages.statistics.seen_unseen import Sides, limits
from stages.threat import ThreatModel

# larger ones were slower for conv4-64: 0.9 against 1.6 times a plain loop (few pairs, tests/benchmarks/LOG.md)
MOST_ON_CPU = 64


def evaluate(
    model: nn.Module,
    group: Group,
    protocol: Protocol,
    attacks: Sequence[AttackSpec] = (),
    threat: ThreatModel | None = None,
    *,
    seed: int = 0,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    scale: float = 1.0,
    episodes: Episodes | None = None,
    work: Work | None = None,
    progress: Progress | None = None,
) -> GroupResult:
    """Clean and robust accuracy of a model on one group of classes.

    The attack sees exactly the head of its point. Points that are wrong when clean are not attacked and count as wrong.
    Decisions are float32 in eval mode; results depend on the batch size by float rounding only, and on the CPU, for models
    that treat every image alike, not at all.

    Args:
        model: (n, 3, H, W) in [0, 1] -> unit embeddings (n, D), on `device`; left in the modes it came in.
        group: classes, anchors, images and labels.
        protocol: all-way, episodes or gzsl.
        attacks: any number, of different names; without one the worst case is the clean accuracy.
        threat: needed as soon as there is an attack.
        seed: of the attacks' random starts; episodes have their own in the protocol.
        batch_size: samples in one forward pass.
        device: where the model is.
        scale: logits are scale * cosine; 1 / tau of training.
        episodes: instead of those that the protocol's seed draws; its numbers are theirs.
        work: who evaluates together, and where finished parts are kept; None is alone and nowhere.
        progress: called between batches with (passes done, passes in all, about; what is done now and the accuracy so far).

    Raises:
        UsageError: numbers of the protocol that do not fit the data, an attack without a threat model.
        InputError: anchors of another width than the embeddings.
        ComputeError: non-finite outputs, or a perturbation outside the threat model.
    """
    if protocol.name == "gzsl":
        _check_sides(group)
    size = min(batch_size, MOST_ON_CPU) if torch.device(device).type == "cpu" else batch_size
    scorer = _Scorer(model, group.images, size, torch.device(device), work or Work())
    with frozen(model), full_precision(), torch.no_grad():
        points, embeddings, drawn = scorer.points(group, protocol, episodes)
        clean = scorer.judge(points, embeddings)
        known = known_when_clean(points, clean, progress, attacks)
        known.tell(1)
        found = {}
        for at, spec in enumerate(attacks):
            if threat is None:
                raise UsageError(f"the attack {spec.name} needs a threat model", "give --eps, for example 8/255")
            known = known.under(spec.name, 1 + at * (2 if points.seen else 1), scorer.work.world.size)
            found[spec.name] = scorer.judge_under(spec, threat, points, clean, seed=seed, scale=scale, known=known)
    rows = make_rows(points, clean, found, drawn)
    result = summarise_rows(rows, classes=len(group.classes), ways=points.heads.shape[1])
    return replace(result, gzsl=gzsl_of(rows, points.seen, len(group.classes), seed)) if points.seen else result


def _check_sides(group: Group) -> None:
    """Raise InputError unless there are seen and novel classes, each with an image."""
    counts = torch.bincount(group.labels.cpu(), minlength=len(group.classes))
    if not 0 < group.seen < len(group.classes):
        raise InputError("gzsl needs seen and novel classes", "name both, or use --protocol all-way")
    if not bool(counts.all()):
        empty = group.classes[int(counts.argmin())]
        raise InputError(f"class '{empty}' has no image, and gzsl is a mean over classes", "add images, or leave it out")


def gzsl_of(rows: PointRows, seen: int, classes: int, seed: int) -> GzslResult:
    """The generalized figures of rows with limits; the first `seen` of the `classes` are seen."""
    found = {name: one.limit for name, one in {CLEAN: rows.clean, **rows.attacks}.items() if one.limit is not None}
    return summarise_gzsl(Sides(rows.label.astype(np.int64), seen, classes), found, seed=seed)


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the right class minus the best wrong one, (n, K) and (n,) on one device -> (n,); infinite for K = 1."""
    at = labels[:, None]
    return logits.gather(1, at)[:, 0] - logits.scatter(1, at, -torch.inf).amax(1)


def note(found: Judgement, points: Points, part: Tensor, said: Tensor, cosines: Tensor) -> None:
    """Put what was said at the points `part` ((n,) on the CPU) into `found`: rows of the heads `said` (n,), cosines (n, N)."""
    found.predicted[part.numpy()] = points.classes[points.head[part], said.cpu()].numpy()
    found.margin[part.numpy()] = margins(cosines, points.label[part].to(cosines.device)).float().cpu().numpy()
    if found.limit is not None:
        found.limit[part.numpy()] = limits(cosines.cpu().numpy(), points.label[part].numpy(), points.seen)


def make_rows(points: Points, clean: Judgement, attacks: Mapping[str, Judgement], drawn: Episodes | None) -> PointRows:
    """Rows of points that were judged, clean and after `attacks` by name; `drawn` are the episodes, None for all-way."""
    episodes = {}
    if drawn is not None:
        episodes = {"heads": int32(drawn.classes), "support": int32(drawn.support)}
    return PointRows(
        image=int32(points.image),
        label=int32(points.classes[points.head, points.label]),
        episode=int32(points.head) if drawn is not None else np.full(len(points), -1, np.int32),
        clean=clean,
        attacks=attacks,
        **episodes,
    )


def int32(values: Tensor) -> np.ndarray:
    """Integers as a numpy column."""
    return values.cpu().numpy().astype(np.int32)


@dataclass(frozen=True)
class _Scorer:
    """A frozen model and the images that it is to judge, `batch_size` at a time."""

    model: nn.Module
    images: Tensor
    batch_size: int
    device: torch.device
    work: Work

    def pixels(self, part: Tensor) -> Tensor:
        return to_pixels(self.images, part, self.device)

    def points(self, group: Group, protocol: Protocol, given: Episodes | None) -> tuple[Points, Tensor, Episodes | None]:
        """The protocol's points, the clean embeddings (images, D), right at every image that they use, and the episodes."""
        anchors = group.anchors.to(self.device, torch.float32)
        if protocol.name != "episodes":
            points = all_way_points(group.labels, anchors, group.seen if protocol.name == "gzsl" else 0)
            return points, checked_width(self.embed(points.image), anchors), None
        episodes = given or protocol_episodes(group, protocol)
        used = torch.cat((episodes.query.reshape(-1), episodes.support.reshape(-1))).unique()
        embeddings = checked_width(self.embed(used), anchors)
        return episode_points(episodes, anchors, embeddings, blend=protocol.blend), embeddings, episodes

    def embed(self, used: Tensor) -> Tensor:
        """A table (images, D) filled at the rows `used` (at least one); each image is embedded once."""
        parts = [unit(self.model(filled(self.pixels(part))))[: len(part)] for part in used.split(self.batch_size)]
        table = torch.zeros((len(self.images), parts[0].shape[1]), device=self.device)
        table[used.to(self.device)] = torch.cat(parts)
        return table

    def judge(self, points: Points, embeddings: Tensor) -> Judgement:
        """What the clean embeddings (images, D) say at every point."""
        found = Judgement.empty(len(points), limits=points.seen > 0)
        for part in torch.arange(len(points)).split(self.batch_size):
            at, head = (filled(index[part].to(self.device)) for index in (points.image, points.head))
            cosines = points.logits(embeddings[at], head)[: len(part)]
            note(found, points, part, decide(cosines), cosines)
        return found

    def judge_under(
        self,
        spec: AttackSpec,
        threat: ThreatModel,
        points: Points,
        clean: Judgement,
        *,
        seed: int,
        scale: float,
        known: Known,
    ) -> Judgement:
        """What the model says after the attack at every point; at those that are wrong when clean, what it said then."""
        target = self._target(points, scale, known)
        found = clean.copy()
        right = points.classes[points.head, points.label].numpy() == clean.predicted
        rows = torch.from_numpy(right).nonzero()[:, 0]
        if not len(rows):
            known.tell(1)

        def judge(piece: Tensor) -> None:
            for judged in attack_points(target, piece, spec, threat, seed=seed, batch_size=self.batch_size):
                note(found, points, judged.rows, judged.predicted, judged.logits / scale)
                x = self.pixels(points.image[judged.rows])
                found.norm[judged.rows.numpy()] = threat.distance(judged.x_adv, x).cpu().numpy()
                known.add(judged.rows.numpy(), found.predicted)

        columns = [found.predicted, found.margin, found.norm, *([] if found.limit is None else [found.limit])]
        about = {
            "attack": spec.to_record(),
            "batch_size": self.batch_size,
            "scale": scale,
            "seed": seed,
            "threat": threat.to_record(),
        }
        self.work.through(
            rows,
            piece_size(spec, self.batch_size),
            columns,
            judge,
            about=about,
            device=self.device,
            known=lambda piece: known.add(piece.numpy(), found.predicted),
        )
        if points.seen:
            self._press(spec, threat, points, clean, found, about=about, known=known)
        return found

    def _press(
        self,
        spec: AttackSpec,
        threat: ThreatModel,
        points: Points,
        clean: Judgement,
        found: Judgement,
        *,
        about: Mapping[str, Any],
        known: Known,
    ) -> None:
        """Attack with every step what is wrong at bias 0, but right at another when clean: `found` gets the nearer limit."""
        limit, label, own = found.limit, points.label.numpy(), points.label.numpy() < points.seen
        assert limit is not None
        assert clean.limit is not None
        rows = torch.from_numpy((found.predicted != label) & np.isfinite(clean.limit)).nonzero()[:, 0]
        known = known.pressing(len(rows))
        target = self._target(points, about["scale"], known)

        def press(piece: Tensor) -> None:
            every_step = attack_points(
                target, piece, spec, threat, seed=about["seed"], batch_size=self.batch_size, early_stop=False
            )
            for judged in every_step:
                at = judged.rows.numpy()
                more = limits((judged.logits / about["scale"]).cpu().numpy(), label[at], points.seen)
                limit[at] = np.where(own[at], np.minimum(limit[at], more), np.maximum(limit[at], more))
                known.add(at, found.predicted)

        self.work.through(
            rows,
            piece_size(spec, self.batch_size),
            [limit],
            press,
            about={**about, "early_stop": False},
            device=self.device,
            known=lambda piece: known.add(piece.numpy(), found.predicted),
        )
        known.tell(1)

    def _target(self, points: Points, scale: float, known: Known) -> Target:
        head = points.head.to(self.device)

        def victim(x: Tensor, rows: Tensor) -> Tensor:
            known.passed(len(x))
            return scale * points.logits(unit(self.model(filled(x))), filled(head[rows]))[: len(x)]

        return Target(victim, lambda part: self.pixels(points.image[part]), points.label.to(self.device))
