"""Compare the strength of the attacks with pyautoattack, on a trained model and real images:

    python tests/benchmarks/strength.py run/model.st --data DATA --split train+test

First APGD-CE against pyautoattack's own on the same samples with the same seed; then a suite's worst case against
pyautoattack's ensemble of version 'standard', called directly, all-way over a group of classes. It fails when the first two
differ in a decision, when the worst case is above one of the suite's attacks, or when it is significantly above the ensemble
(McNemar, 5 %); their random numbers differ.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from torch import Tensor

from stages.attacks.autoattack import library_seed
from stages.attacks.spec import MOST_TARGETS, EnsembleSpec, parse_attacks
from stages.data.image_set import ImageSet
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.evaluation.groups import choose_classes
from stages.evaluation.protocol import Protocol
from stages.evaluation.sample import Sample, subset_of
from stages.evaluation.score import evaluate
from stages.files import artifacts
from stages.models.checkpoint import read_checkpoint
from stages.models.classifier import Classifier
from stages.models.frozen import inference
from stages.reports.results import GroupResult
from stages.statistics.paired import mcnemar
from stages.threat import ThreatModel, parse_eps
from tests.benchmarks.timing import environment, show

SUITE = ("apgd-ce", "apgd-t", "fab-t", "square")


@dataclass(frozen=True)
class Setting:
    """A classifier over its novel classes, their images, and the threat model."""

    classifier: Classifier
    images: ImageSet
    threat: ThreatModel
    batch_size: int
    seed: int

    def logits(self, x: Tensor) -> Tensor:
        """Logits of images in [0, 1], all-way."""
        return self.classifier.scores(x)

    def ours(self, *attacks: str) -> GroupResult:
        """The evaluation of `laat` under the attacks."""
        return evaluate(
            self.classifier,
            self.images,
            Protocol(),
            parse_attacks(attacks),
            self.threat,
            seed=self.seed,
            batch_size=self.batch_size,
        )

    def predicted(self, x: Tensor) -> Tensor:
        """Predicted classes of images in [0, 1]."""
        with torch.no_grad():
            return torch.cat([self.logits(part).argmax(1) for part in x.split(self.batch_size)])


def read_setting(options: argparse.Namespace) -> Setting:
    """A sample of images, balanced over a group of classes, evaluated all-way."""
    classifier = read_checkpoint(artifacts.read(options.model, "model"), str(options.model))
    names = choose_classes(classifier.anchor_set, options.classes_from).classes
    request = ImageRequest(options.data, split=options.split, resize=classifier.origin.training.get("resize"))
    found = load_images(request, side="test", classes=names)
    found = subset_of(found, Sample(images=options.images)).restricted_to(names, names_from="the checkpoint")
    return Setting(classifier.over(names), found, ThreatModel(parse_eps(options.eps)), options.batch_size, options.seed)


def apgd_pair(setting: Setting, right: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Which of the samples `right` ((n,) rows) are robust to APGD-CE: ours, and the library's with our seed."""
    from pyautoattack.autopgd_base import APGDAttack

    (spec,) = parse_attacks([f"apgd-ce-{steps}"])
    assert isinstance(spec, EnsembleSpec)
    with torch.random.fork_rng(devices=[]):
        attack = APGDAttack(
            setting.logits,
            n_iter=steps,
            norm="Linf",
            eps=setting.threat.radius,
            seed=library_seed(setting.seed, spec),
            logger=logging.getLogger("strength"),
        )
        x, y = setting.images.images[right] / 255, setting.images.labels[right]
        theirs = setting.predicted(attack.perturb(x, y)) == y
    ours = Setting(setting.classifier, setting.images.take(right), setting.threat, setting.batch_size, setting.seed).ours(
        spec.name
    )
    return torch.from_numpy(ours.correct[spec.name]), theirs


def ensemble(setting: Setting, right: Tensor, steps: int, queries: int) -> Tensor:
    """Which of the samples `right` are robust to pyautoattack's four attacks, each run on the survivors of the last."""
    from pyautoattack import AutoAttack

    x, y = setting.images.images[right] / 255, setting.images.labels[right]
    attack = AutoAttack(
        setting.logits, norm="Linf", eps=setting.threat.radius, seed=setting.seed, version="standard", device="cpu"
    )
    for one in (attack.apgd, attack.apgd_targeted, attack.fab):
        one.n_iter = steps
    for one in (attack.apgd_targeted, attack.fab):
        one.n_target_classes = min(MOST_TARGETS, len(setting.images.classes) - 1)
    attack.square.n_queries = queries
    x_adv, *_ = attack.run_standard_evaluation(x, y, batch_size=setting.batch_size)
    return setting.predicted(x_adv) == y


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a checkpoint, run/model.st")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split")
    parser.add_argument("--classes-from", help="novel, seen, val or all (default: novel)")
    parser.add_argument("--images", type=int, default=500, help="default: 500")
    parser.add_argument("--eps", default="8/255")
    parser.add_argument("--steps", type=int, default=100, help="of APGD and FAB (default: 100)")
    parser.add_argument("--queries", type=int, default=5000, help="of Square (default: 5000)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    setting = read_setting(options)
    before, count = environment("cpu"), len(setting.images)
    with inference(setting.classifier):
        clean = setting.predicted(setting.images.images / 255) == setting.images.labels
        right = clean.nonzero()[:, 0]
        mine, theirs = apgd_pair(setting, right, options.steps)
        start = time.perf_counter()
        names = [f"{name}-{options.queries if name == 'square' else options.steps}" for name in SUITE]
        suite = setting.ours(*names)
        between = time.perf_counter()
        whole = ensemble(setting, right, options.steps, options.queries)
        end = time.perf_counter()
    worst = np.logical_and.reduce(list(suite.correct.values()))[right.numpy()]
    more, fewer = int((worst & ~whole.numpy()).sum()), int((whole.numpy() & ~worst).sum())
    apart = int((mine != theirs).sum())
    below = all(suite.worst.accuracy <= one.accuracy for one in suite.attacks.values())
    not_weaker = more <= fewer or mcnemar(more, fewer) > 0.05

    def share(stands: Tensor | np.ndarray) -> str:
        return f"{100 * int(stands.sum()) / count:.2f} %"

    print(f"{count} images of {len(setting.images.classes)} classes, {len(right)} right when clean")
    show(
        [
            ["what", "ours", "pyautoattack", "apart", "holds"],
            ["APGD-CE, same points and seed", share(mine), share(theirs), f"{apart} decisions", _said(apart == 0)],
            *[[name, f"{100 * value.accuracy:.2f} %", "", "", ""] for name, value in suite.attacks.items()],
            ["worst case of the suite", share(worst), "", "", _said(below)],
            ["all four", share(worst), share(whole), f"{more} only ours stand, {fewer} only theirs", _said(not_weaker)],
            ["seconds", f"{between - start:.0f}", f"{end - between:.0f}", "", ""],
        ]
    )
    print("; ".join(f"{name} {value}" for name, value in before.items()))
    return 0 if apart == 0 and below and not_weaker else 1


def _said(holds: bool) -> str:
    return "yes" if holds else "NO"


if __name__ == "__main__":
    sys.exit(main())
