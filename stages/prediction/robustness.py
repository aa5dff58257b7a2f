"""Whether the answer for an image stands under attacks, and at which eps it falls. The attacks aim away from that answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import torch
from torch import Tensor

from stages.attacks.perturb import attack_samples
from stages.attacks.samples import Samples
from stages.attacks.spec import AttackPlan, AttackSpec
from stages.evaluation.clean_passes import require_same_passes
from stages.models.classifier import Classifier
from stages.models.frozen import inference
from stages.models.wrapped import draws_of
from stages.pixels import to_pixels
from stages.prediction.predict import Batch
from stages.threat import ThreatModel, format_eps

# the radii that are tried, as parts of the largest: for 8/255 these are 8, 4, 2 and 1 of 255
PARTS = (Fraction(1), Fraction(1, 2), Fraction(1, 4), Fraction(1, 8))


@dataclass(frozen=True)
class Attack:
    """The attacks on answers.

    Attributes:
        specs: run one after the other, each on the answers that still stand.
        threat: the threat model, with the largest eps.
        seed: of random starts; they belong to the image's number in the stream.
        batch_size: images in one forward pass.
    """

    specs: Sequence[AttackSpec]
    threat: ThreatModel
    seed: int = 0
    batch_size: int = 256


@dataclass(frozen=True)
class Attacked:
    """Images after the attacks at one eps.

    Attributes:
        x_adv: (n, 3, H, W) float32 on the CPU: the first image that changes the answer, or the last one that was tried.
        fell: bool (n,), whether the answer changed.
    """

    x_adv: Tensor
    fell: Tensor


def attack_answers(classifier: Classifier, batch: Batch, attack: Attack, chosen: Tensor | None = None) -> Attacked:
    """Attack the answers for a batch's images.

    Args:
        classifier: that gave the answers.
        batch: the images and answers.
        attack: the attacks and the threat model.
        chosen: (m,) int64, ascending, which images to attack; None is all.

    Raises ComputeError as `attack_samples`, and UsageError for a randomised model.
    """
    if batch.first_row == 0:
        require_same_passes({"": classifier}, batch.pixels, draws_of(classifier))
    rows = torch.arange(len(batch.pixels))
    source = partial(to_pixels, batch.pixels, device=classifier.device)
    x_adv = to_pixels(batch.pixels, rows, "cpu").clone()
    fell = torch.zeros(len(rows), dtype=torch.bool)
    samples = Samples(classifier, source, batch.classes.to(classifier.device), batch.first_row)
    standing = rows if chosen is None else chosen
    with inference(classifier):
        for spec in attack.specs:
            plan = AttackPlan(spec, attack.threat, seed=attack.seed, batch_size=attack.batch_size)
            for judged in attack_samples(samples, standing, plan) if len(standing) else ():
                x_adv[judged.rows] = judged.x_adv.cpu()
                fell[judged.rows] = judged.predicted.cpu() != batch.classes[judged.rows]
            standing = standing[~fell[standing]]
    return Attacked(x_adv, fell)


def judge_answers(classifier: Classifier, batch: Batch, attack: Attack) -> tuple[Batch, Attacked]:
    """The batch with `stands` and `falls_at` in its predictions, and its images after the attacks at the largest eps.

    The largest eps is tried first, then, for the answers that fell, half of it, and so on. That an answer stands is an upper
    bound on its robustness: another attack may change it.
    """
    largest = attack_answers(classifier, batch, attack)
    at: list[Fraction | None] = [attack.threat.eps if fell else None for fell in largest.fell.tolist()]
    falling = largest.fell.nonzero()[:, 0]
    for part in PARTS[1:]:
        if not len(falling):
            break
        eps = part * attack.threat.eps
        threat = ThreatModel(eps, attack.threat.norm, attack.threat.clip)
        smaller = attack_answers(classifier, batch, replace(attack, threat=threat), falling)
        falling = falling[smaller.fell[falling]]
        for row in falling.tolist():
            at[row] = eps
    predictions = list(batch.predictions)
    for place, eps_found in zip(batch.read, at, strict=True):
        text = "" if eps_found is None else format_eps(eps_found, attack.threat.norm)
        predictions[place] = replace(predictions[place], stands=eps_found is None, falls_at=text)
    return replace(batch, predictions=predictions), largest
