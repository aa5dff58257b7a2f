"""Can the robust accuracy of a report be believed? Checks on a seeded sample of the points that were evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.attacks.ensemble import EnsembleSpec
from stages.attacks.spec import AttackSpec
from stages.attacks.target import Target, full_precision, to_pixels
from stages.data.episodes import Episodes
from stages.evaluate.check_rules import CHECKS, FAIL, WARN, Finding, Probe, clean_passes, gradients
from stages.evaluate.points import Group, Points, all_way_points, episode_points
from stages.models.classifier import frozen, unit
from stages.randomness import numpy_generator
from stages.reports.results import Protocol
from stages.reports.rows import CLEAN, PointRows
from stages.threat import ThreatModel

MOST = 64
PURPOSE = "evaluate/checks"


@dataclass(frozen=True)
class Checked:
    """The checks of one result: `findings` on `points` of the `right` ones, drawn with `seed`."""

    findings: tuple[Finding, ...]
    points: int
    right: int
    seed: int

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(found.name for found in self.findings if found.result == FAIL)

    def to_record(self) -> dict[str, Any]:
        """As a JSON-able record."""
        sample = {"of": self.right, "points": self.points, "seed": self.seed}
        return {"findings": [found.to_record() for found in self.findings], "sample": sample}


def run_checks(
    model: nn.Module,
    group: Group,
    protocol: Protocol,
    rows: PointRows,
    attacks: Sequence[AttackSpec],
    threat: ThreatModel,
    *,
    seed: int = 0,
    batch_size: int = MOST,
    device: torch.device | str = "cpu",
    scale: float = 1.0,
    most: int = MOST,
) -> Checked:
    """Check the result of an evaluation (see `check_rules` for what, and when it fails).

    The sample is drawn from the points that are right on clean images, as the others say nothing of an attack. Every point has
    the head that it had in the evaluation. At eps 0 only clean passes and gradients are looked at.

    Args:
        model, group, protocol, seed, device, scale: as given to `score.evaluate`.
        rows: what it found, its images numbered as in `group`.
        attacks: those of the report, at least one.
        threat: of the report.
        batch_size: points in one forward pass; never more than `most`, so that larger ones change no bit.
        most: points in the sample.
    """
    correct = rows.correct()
    right = np.flatnonzero(correct[CLEAN])
    words = numpy_generator(seed, PURPOSE).bit_generator.random_raw(len(right))
    picked = np.sort(right[np.argsort(words, kind="stable")[:most]])
    if not len(picked):
        none = Finding("sample", WARN, {"points": 0}, "no point is right on clean images: there is nothing to check")
        return Checked((none,), 0, 0, seed)
    with frozen(model), full_precision(), torch.no_grad():
        points = _points(model, group, protocol, rows, picked, min(batch_size, most), torch.device(device))
        head = points.head.to(device)

        def victim(x: Tensor, at: Tensor) -> Tensor:
            return scale * points.logits(unit(model(x)), head[at])

        probe = Probe(
            target=Target(victim, lambda part: to_pixels(group.images, points.image[part], device), points.label.to(device)),
            threat=threat,
            seed=seed,
            batch_size=min(batch_size, most),
            stands=torch.from_numpy(np.logical_and.reduce(list(correct.values()))[picked]),
            scale=scale,
            pair=_pair(correct, attacks),
        )
        checks = CHECKS if threat.eps and points.heads.shape[1] > 1 else (clean_passes, gradients)
        return Checked(tuple(check(probe) for check in checks), len(picked), len(right), seed)


def _pair(correct: dict[str, np.ndarray], attacks: Sequence[AttackSpec]) -> tuple[np.ndarray, np.ndarray] | None:
    """Right under a cross-entropy attack and under a margin attack of as many steps and restarts, if both were run."""
    plain = [spec for spec in attacks if not isinstance(spec, EnsembleSpec) and spec.name in correct]
    for ce in (spec for spec in plain if spec.loss == "ce"):
        for margin in (spec for spec in plain if spec.loss == "margin"):
            if (ce.steps, ce.restarts) == (margin.steps, margin.restarts):
                return correct[ce.name], correct[margin.name]
    return None


def _points(
    model: nn.Module,
    group: Group,
    protocol: Protocol,
    rows: PointRows,
    picked: np.ndarray,
    batch_size: int,
    device: torch.device,
) -> Points:
    """The points `picked` (n,) of the evaluation, with the heads that they had."""
    anchors = group.anchors.to(device, torch.float32)
    image, label = (torch.from_numpy(column[picked]).long() for column in (rows.image, rows.label))
    if not rows.episodes:
        return replace(all_way_points(label, anchors), image=image)
    used, head = np.unique(rows.episode[picked], return_inverse=True)
    classes = torch.from_numpy(rows.heads[used]).long()
    shown, support = torch.from_numpy(rows.support[used]).long().unique(return_inverse=True)
    embeddings = None
    if len(shown):
        parts = [unit(model(to_pixels(group.images, part, device))) for part in shown.split(batch_size)]
        embeddings = torch.cat(parts)
    episodes = Episodes(classes, support, torch.zeros((*classes.shape, 0), dtype=torch.int64))
    heads = episode_points(episodes, anchors, embeddings, blend=protocol.blend).heads
    at = torch.from_numpy(head)
    place = (classes[at] == label[:, None]).long().argmax(1)
    return Points(image, place, at, heads, classes)
