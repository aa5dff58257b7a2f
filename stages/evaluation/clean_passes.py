"""Whether a model is randomised: two passes over the same images must give the same logits, in any order of the batch.

Attacks that follow the gradient of a single pass chase its noise, and a model looks robust (Athalye et al., ICML 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.conditions import DRAWS
from stages.errors import UsageError
from stages.evaluation.findings import FAIL, PASS, Finding
from stages.evaluation.probe import Probe
from stages.models.classifier import Classifier
from stages.models.frozen import inference
from stages.models.wrapped import SINGLE, draws_of, using
from stages.pixels import to_pixels

AGREE = 1e-5  # largest difference of two clean passes, relative to the largest logit, at least 1
BATCH_TOLERANCE = 1e-3  # largest difference between batches, as for AGREE; other batch sizes round in another order
_IMAGES = 32  # that are looked at before an attack
_OVERESTIMATED = "an attack on a single draw overestimates its robustness"
_ADD_EOT = f"add --eot {DRAWS}, which attacks and decides by the mean over {DRAWS} draws"


@dataclass(frozen=True)
class TwoPasses:
    """How two passes over the same images differ.

    Attributes:
        points: images.
        finite: whether all logits are.
        difference: of two passes over the same batches, relative to the largest logit.
        reordered: the same of a pass over the batches in reverse order.
        changed: predictions that differ in one of these.
    """

    points: int
    finite: bool
    difference: float
    reordered: float
    changed: int

    @property
    def agree(self) -> bool:
        """Whether the model gives the same answer to the same image."""
        return self.difference <= AGREE and self.reordered <= BATCH_TOLERANCE

    def __str__(self) -> str:
        apart = max(self.difference, self.reordered)
        return f"logits differ by {apart:g} of the largest, {self.changed} of {self.points} predictions change"


def two_passes(logits: Callable[[Tensor], Tensor], batches: Sequence[Tensor], scale: float) -> TwoPasses:
    """Compare passes over the rows in `batches`; `logits` are those of rows (n,), `scale` is that of the logits."""
    repeated = reordered = largest = 0.0
    changed, finite = 0, True
    for rows in batches:
        first, again, back = logits(rows), logits(rows), logits(rows.flip(0)).flip(0)
        finite &= all(bool(one.isfinite().all()) for one in (first, again, back))
        repeated = max(repeated, float((first - again).abs().max()))
        reordered = max(reordered, float((first - back).abs().max()))
        largest = max(largest, float(first.abs().max()))
        decided = first.argmax(1)
        changed += int(((decided != again.argmax(1)) | (decided != back.argmax(1))).sum())
    largest = max(scale, largest)
    apart = [float(f"{one / largest:.1g}") if finite else 0.0 for one in (repeated, reordered)]
    return TwoPasses(sum(map(len, batches)), finite, apart[0], apart[1], changed)


def clean_passes(probe: Probe) -> Finding:
    """Two passes over the same clean images give the same logits, to 1e-5 of the largest one, or 1e-3 in another order; a
    randomised model passes if the attacks averaged over its draws."""
    classifier = probe.samples.classifier
    draws = draws_of(classifier)
    with using(classifier, SINGLE):
        found = two_passes(probe.logits, probe.batches(), probe.scale)
    if not found.finite:
        return Finding("clean passes", FAIL, {"points": len(probe)}, "a clean pass gives logits that are not finite")
    figures = {
        "points": len(probe),
        "changed_decisions": found.changed,
        "difference": found.difference,
        "difference_reordered": found.reordered,
        "allowed": AGREE,
        "eot": draws,
    }
    if found.agree:
        needless = "" if draws == 1 else f"; --eot {draws} was not needed"
        return Finding("clean passes", PASS, figures, f"deterministic: two clean passes agree{needless}")
    if draws > 1:
        return Finding("clean passes", PASS, figures, f"randomised, eot {draws}: {found}")
    advice = "the model is randomised and needs attacks that average over its randomness"
    return Finding("clean passes", FAIL, figures, f"two clean passes disagree ({found}): {advice}")


def require_same_passes(
    classifiers: Mapping[str, Classifier], images: Tensor, draws: int, why: str = _OVERESTIMATED, fix: str = _ADD_EOT
) -> None:
    """Raise UsageError for a randomised model that is to be attacked, evaluated or exported by a single draw.

    Args:
        classifiers: name -> classifier; '' for one without a name.
        images: (N, 3, H, W), uint8 or float in [0, 1]; a few of them are looked at.
        draws: that are averaged over; with several nothing is checked.
        why: what is wrong with a single draw.
        fix: what to do about a randomised model.
    """
    if draws > 1 or not len(images):
        return
    for name, one in classifiers.items():
        found = _few_passes(one, images)
        if found.finite and not found.agree:
            raise UsageError(
                f"the model{f' {name!r}' if name else ''} is randomised ({found} between two passes over the same images), and "
                f"{why}",
                fix,
            )


def needless_draws(name: str, classifier: Classifier, images: Tensor, draws: int) -> list[str]:
    """A note where several draws of a deterministic model were asked for; arguments as for `require_same_passes`."""
    if draws == 1 or not len(images) or not _few_passes(classifier, images).agree:
        return []
    return [f"--eot {draws} was not needed for {name}: it is deterministic, two passes over the same images agree"]


def _few_passes(classifier: Classifier, images: Tensor) -> TwoPasses:
    """Two passes over a few of the images."""
    rows = torch.linspace(0, len(images) - 1, min(len(images), _IMAGES)).long()
    with inference(classifier):
        return two_passes(_logits_of(classifier, images), [rows], classifier.logit_scale)


def _logits_of(classifier: Classifier, images: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda rows: classifier.scores(to_pixels(images, rows, classifier.device))
