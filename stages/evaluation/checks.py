"""Check whether the robust accuracy of a report can be trusted, on a random subset of its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from stages.attacks.samples import Samples
from stages.attacks.spec import GRADIENT, AttackSpec, EnsembleSpec
from stages.data.episodes import Episodes
from stages.data.image_set import ImageSet
from stages.errors import ComputeError
from stages.evaluation.check_rules import CHECKS, FEWEST, OF_MODEL, not_run
from stages.evaluation.features import CleanFeatures
from stages.evaluation.findings import FEW, PASS, Finding
from stages.evaluation.points import Points, all_way_points, judged_episodes
from stages.evaluation.probe import Probe
from stages.evaluation.protocol import Protocol
from stages.models.classifier import Classifier, Progress
from stages.models.frozen import inference
from stages.pixels import to_pixels
from stages.randomness import numpy_generator
from stages.reports.rows import CLEAN, PointRows
from stages.threat import ThreatModel

MOST = 64
PURPOSE = "evaluate/checks"
# forward passes, and passes with a gradient, that the checks make of a sample that nothing misclassifies, at most
FORWARD, BACKWARD = 345, 262


@dataclass(frozen=True)
class Checked:
    """The checks of one result: `findings` on `points` of the `right` correct samples, sampled with `seed`."""

    findings: tuple[Finding, ...]
    points: int
    right: int
    seed: int

    def to_record(self) -> dict[str, Any]:
        """JSON-able record."""
        sample = {"of": self.right, "points": self.points, "seed": self.seed}
        return {"findings": [vars(found) for found in self.findings], "sample": sample}


def run_checks(
    classifier: Classifier,
    images: ImageSet,
    protocol: Protocol,
    rows: PointRows,
    attacks: Sequence[AttackSpec],
    threat: ThreatModel,
    *,
    seed: int = 0,
    batch_size: int = MOST,
    most: int = MOST,
    features: CleanFeatures | None = None,
    progress: Progress | None = None,
) -> Checked:
    """Check the result of an evaluation (see `check_rules` for the checks and their thresholds).

    The subset is sampled from the samples that are correct when clean, with their heads of the evaluation. At eps 0 only the
    model is checked, without an attack.

    Args:
        classifier, images, protocol, seed: as given to `score.evaluate`.
        rows: its result, with images numbered as in `images`.
        attacks: those of the report, at least one.
        threat: of the report.
        batch_size: samples in one forward pass; at most `most`, so that larger values do not change the result.
        most: size of the subset.
        features: the embeddings of support images, those of the evaluation; None computes them.
        progress: called with (forward passes done, most of them, current check); a gradient counts as GRADIENT passes.
    """
    correct = rows.correct()
    right = np.flatnonzero(correct[CLEAN])
    spent = _Spent(progress, len(right[:most]))
    words = numpy_generator(seed, PURPOSE).bit_generator.random_raw(len(right))
    picked = np.sort(right[np.argsort(words, kind="stable")[:most]])
    if not len(picked):
        none = Finding("sample", FEW, {"points": 0}, "no sample is classified correctly when clean: nothing to check")
        return Checked((none,), 0, 0, seed)
    size, device = min(batch_size, most), classifier.device
    with inference(classifier):
        features = features or CleanFeatures(classifier, images, size)
        points = _points(classifier, protocol, rows, picked, features)
        samples = Samples(
            points.judge(classifier),
            lambda chosen: to_pixels(images.images, points.image[chosen], device),
            points.label.to(device),
            on_pass=spent.add,
        )
        probe = Probe(
            samples=samples,
            threat=threat,
            seed=seed,
            batch_size=size,
            robust=torch.from_numpy(np.logical_and.reduce(list(correct.values()))[picked]),
            scale=classifier.logit_scale,
            pair=_pair(correct, attacks),
        )
        checks = CHECKS if threat.eps else OF_MODEL
        images_used = len(np.unique(rows.image[picked]))
        found = []
        for name, check in checks.items():
            spent.begin(name)
            try:
                result = check(probe)
            except ComputeError as error:  # the evaluation is done: its report tells what is wrong with the model
                result = not_run(name, len(probe), error)
            found.append(_with_enough(result, len(picked), images_used))
        return Checked(tuple(found), len(picked), len(right), seed)


class _Spent:
    """Counts the passes of the checks of `points` samples, for the progress line."""

    def __init__(self, progress: Progress | None, points: int) -> None:
        self._progress, self._most = progress, most_passes(points)
        self._done, self._name = 0, ""

    def begin(self, name: str) -> None:
        """The next check."""
        self._name = name
        self.add(0)

    def add(self, points: int) -> None:
        """A pass over `points` samples, with or without gradient."""
        self._done += points * (GRADIENT if torch.is_grad_enabled() else 1)
        if self._progress is not None:
            self._progress(min(self._done, self._most), self._most, f"checks: {self._name}")


def most_passes(points: int) -> int:
    """Forward passes that the checks of `points` samples make at most, a gradient counted as GRADIENT of them."""
    return min(points, MOST) * (FORWARD + GRADIENT * BACKWARD)


def _with_enough(found: Finding, points: int, images: int) -> Finding:
    """The finding; 'few' instead of 'pass' on too few points or images."""
    if found.result != PASS or min(points, images) >= FEWEST:
        return found
    return replace(
        found, result=FEW, sentence=f"{points} points of {images} images say too little, at least {FEWEST} are needed"
    )


def _pair(correct: dict[str, np.ndarray], attacks: Sequence[AttackSpec]) -> tuple[np.ndarray, np.ndarray] | None:
    """Correct under a cross-entropy and a margin attack with the same number of steps and restarts, if both were run."""
    plain = [spec for spec in attacks if not isinstance(spec, EnsembleSpec) and spec.name in correct]
    for ce in (spec for spec in plain if spec.loss == "ce"):
        for margin in (spec for spec in plain if spec.loss == "margin"):
            if (ce.steps, ce.restarts) == (margin.steps, margin.restarts):
                return correct[ce.name], correct[margin.name]
    return None


def _points(classifier: Classifier, protocol: Protocol, rows: PointRows, picked: np.ndarray, features: CleanFeatures) -> Points:
    """The samples `picked` (n,) of the evaluation, with their heads."""
    image, label = (torch.from_numpy(column[picked]).long() for column in (rows.image, rows.label))
    if not rows.episodes:
        return replace(all_way_points(label, len(classifier.classes)), image=image)
    used, head = np.unique(rows.episode[picked], return_inverse=True)
    classes = torch.from_numpy(rows.heads[used]).long()
    support = torch.from_numpy(rows.support[used]).long()
    embeddings = features.of(support.unique()) if support.numel() else None
    episodes = Episodes(classes, support, torch.zeros((*classes.shape, 0), dtype=torch.int64))
    heads = judged_episodes(episodes, classifier, embeddings, protocol).heads
    at = torch.from_numpy(head)
    place = (classes[at] == label[:, None]).long().argmax(1)
    return Points(image, place, at, classes, heads)
