"""Nine checks of a robust accuracy, each a function of a probe of the model (see `checks`).

Counts are judged by exact binomial tests, which account for the sample size. No check passes on too few points or images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from stages.attacks.gradient import input_gradient
from stages.attacks.losses import LOSSES
from stages.attacks.spec import AttackSpec, parse_attack
from stages.errors import ComputeError, InputError
from stages.evaluation.clean_passes import AGREE, BATCH_TOLERANCE, clean_passes
from stages.evaluation.findings import FAIL, FEW, PASS, WARN, Finding
from stages.evaluation.probe import CLIMB, STEPS, Probe
from stages.models.wrapped import SINGLE, using
from stages.threat import ThreatModel, format_eps

FEWEST = 29  # points of different images that a check needs to pass: none of 29 rules out a share of 10 % at the 5 % level
# a count fails if a true share of 5 % gives as many in less than 1 % of samples, and warns at 2 % and 5 %
FAIL_SHARE, FAIL_LEVEL = 0.05, 0.01
WARN_SHARE, WARN_LEVEL = 0.02, 0.05
QUERIES = 300
LOOKS = (1, 5, STEPS)  # steps after which the loss is compared
DRAWS = STEPS
_ALONE = "the figures hold for these batches only, and an attack reaches an image through its neighbours"


def gradients(probe: Probe) -> Finding:
    """The gradients of cross-entropy and margin at the clean images are finite and not all zero."""
    without = dict.fromkeys(("ce", "margin"), 0)
    for rows in probe.batches():
        x = probe.samples.source(rows)
        labels = probe.samples.labels_of(rows)
        for name in without:
            with torch.enable_grad():
                variable = x.detach().requires_grad_(True)
                loss = LOSSES[name](probe.samples.scores(variable, rows.to(x.device)), labels)
                grad = input_gradient(loss.sum(), variable)
            flat = grad.flatten(1)
            without[name] += int((~flat.isfinite().all(1) | (flat == 0).all(1)).sum())
    figures = {"points": len(probe), "without_ce": without["ce"], "without_margin": without["margin"]}
    counts = f"cross-entropy {without['ce']}, margin {without['margin']} of {len(probe)} samples"
    result = judge_count(max(without.values()), len(probe))
    if result == PASS:
        return Finding("gradients", PASS, figures, f"gradients are not zero (zero or not finite: {counts})")
    return Finding("gradients", result, figures, f"zero or non-finite gradients: {counts}; gradient attacks fail there")


def batch_independence(probe: Probe) -> Finding:
    """Logits of clean and attacked images do not depend on the other images of the batch, to 1e-3 of the largest one.

    The images go through the model in batches of at most 64, each alone, and in batches of other neighbours.
    """
    rows = torch.arange(len(probe))
    others = [part for half in (rows[::2], rows[1::2]) for part in half.split(probe.batch_size) if len(part)]
    kinds = {"clean": None} | ({"attacked": probe.climb.x_adv} if probe.threat.eps else {})
    figures: dict[str, Any] = {"points": len(probe), "allowed": BATCH_TOLERANCE}
    again = apart = 0.0
    changed = 0
    for kind, images in kinds.items():
        with using(probe.samples.classifier, SINGLE):
            first, repeated, alone, mixed = (
                probe.logits_in(groups, images) for groups in (probe.batches(), probe.batches(), rows.split(1), others)
            )
        if not all(bool(one.isfinite().all()) for one in (first, repeated, alone, mixed)):
            return Finding("batch", FAIL, figures, f"logits of {kind} images are not finite in some batches: {_ALONE}")
        largest = max(probe.scale, float(first.abs().max()))
        again = max(again, float((repeated - first).abs().max()) / largest)
        most = max(float((one - first).abs().max()) / largest for one in (alone, mixed))
        wrong = int(((alone.argmax(1) != first.argmax(1)) | (mixed.argmax(1) != first.argmax(1))).sum())
        figures |= {f"difference_{kind}": float(f"{most:.1g}"), f"changed_{kind}": wrong}
        apart, changed = max(apart, most), max(changed, wrong)
    if apart <= BATCH_TOLERANCE and judge_count(changed, len(probe)) == PASS:
        return Finding("batch", PASS, figures, "a decision does not depend on the other images of its batch")
    if not again <= AGREE:
        return Finding("batch", WARN, figures, "whether a decision depends on its batch is unknown: the model is randomised")
    differ = f"logits differ by {apart:.1g} of the largest, {changed} of {len(probe)} predictions change"
    return Finding("batch", FAIL, figures, f"decisions depend on the other images of the batch ({differ}): {_ALONE}")


def loss_grows(probe: Probe) -> Finding:
    """The margin loss after 20 steps is higher than after 1, and does not decrease from 1 to 5 or from 5 to 20 steps."""
    losses = [probe.climb.loss[steps] for steps in LOOKS]
    means = [round(float(loss.mean()), 4) for loss in losses]
    figures = {"points": len(probe), **{f"loss_{steps}": mean for steps, mean in zip(LOOKS, means, strict=True)}}
    values = f"margin loss {means[0]:.3f}, {means[1]:.3f}, {means[2]:.3f} after {LOOKS[0]}, {LOOKS[1]} and {LOOKS[2]} steps"
    gain = float((losses[2] - losses[0]).mean())
    if not gain > 0:
        return Finding("loss", FAIL, figures, f"the loss does not grow with the number of attack steps: {values}")
    for before, after in pairwise(losses):
        lost = before - after
        error = float(lost.std(ddof=1)) / math.sqrt(len(lost)) if len(lost) > 1 else math.inf
        if float(lost.mean()) > max(2 * error, gain / 100):
            return Finding("loss", WARN, figures, f"the loss decreases with more attack steps: {values}")
    return Finding("loss", PASS, figures, f"the loss grows with the number of attack steps: {values}")


def noise(probe: Probe) -> Finding:
    """As many random images at the radius as the gradient attack has steps rarely reach a higher loss than it does.

    Only samples that the attack does not misclassify count: beyond that, at a large radius, its loss says little.
    """
    gradient, random = probe.climb.loss.max(0), probe.noise_loss(DRAWS)
    robust = probe.climb.robust.numpy()
    higher = robust & (random > gradient + AGREE)
    fell = int((higher & (random > 0)).sum())
    count = int(higher.sum())
    figures = {"points": len(probe), "draws": DRAWS, "higher": count, "fell": fell}
    if not robust.any():
        return Finding("noise", PASS, figures, f"{STEPS} gradient steps misclassify every sample, so noise cannot do better")
    against = (
        f"random noise reaches a higher loss than {STEPS} gradient steps on {count} of the {int(robust.sum())} samples "
        "that withstand them"
    )
    result = judge_count(count, len(probe))
    if result == PASS:
        return Finding("noise", PASS, figures, against)
    return Finding("noise", result, figures, f"gradients mislead: {against}, and misclassifies {fell} of these")


def accuracy_falls(probe: Probe) -> Finding:
    """Accuracy does not rise with eps, and a gradient attack brings it near 0 at eps 0.5.

    At eps 0.5 every image can become the same grey one, so no model is better than chance, and a working attack reaches 0. In
    L2 the largest ball contains that grey image: 0.5 * sqrt(pixels).
    """
    radii = _radii(probe)
    last = replace(CLIMB, name="checkx2", restarts=2)

    def robust_at(eps: Fraction) -> Tensor:
        if eps == probe.threat.eps and eps != radii[-1]:
            return probe.climb.robust
        threat = ThreatModel(eps, probe.threat.norm, probe.threat.clip)
        return probe.robust_under(last if eps == radii[-1] else CLIMB, threat)

    norm, robust = probe.threat.norm, [robust_at(eps) for eps in radii]
    counts = {format_eps(eps, norm): int(found.sum()) for eps, found in zip(radii, robust, strict=True)}
    figures: dict[str, Any] = {"points": len(probe), "standing": counts}
    values = ", ".join(f"{100 * count / len(probe):.0f} % at {eps}" for eps, count in counts.items())
    at_largest = judge_count(int(robust[-1].sum()), len(probe))
    rises = [_rise(small, large) for small, large in pairwise(robust)]
    for result in (FAIL, WARN):
        if at_largest == result:
            limit = "every image can become the same grey one there, so a working attack reaches 0"
            return Finding("accuracy", result, figures, f"accuracy does not fall to 0 with eps ({values}): {limit}")
        if result in rises:
            return Finding("accuracy", result, figures, f"accuracy rises with eps: {values}")
    return Finding("accuracy", PASS, figures, f"accuracy falls with eps: {values}")


def strength(probe: Probe) -> Finding:
    """Samples that are robust in the report are also robust to 50 steps of eps/10 on the margin, with 2 restarts."""
    spec = AttackSpec("check-strongx2", "margin", 50, Fraction(1, 10), random_start=True, restarts=2)
    return _more(probe, spec, "strength", "50 margin steps with 2 restarts", "attack too weak")


def black_box(probe: Probe) -> Finding:
    """Samples that are robust in the report are also robust to Square, which uses no gradient."""
    try:
        return _more(probe, parse_attack(f"square-{QUERIES}"), "black box", f"Square ({QUERIES} queries)", "gradients mislead")
    except InputError as error:  # Square in L2 does not support this image size
        return Finding("black box", WARN, {"points": len(probe)}, f"not run: {error.what}")


def losses_agree(probe: Probe) -> Finding:
    """Accuracies under cross-entropy and under margin attacks differ by at most 2 points; otherwise a warning."""
    if probe.pair is None:
        ce, margin = (probe.robust_under(parse_attack(name)).numpy() for name in ("pgd-20", "margin-pgd-20"))
    else:
        ce, margin = probe.pair
    only_ce, only_margin = int((ce & ~margin).sum()), int((margin & ~ce).sum())
    apart = (only_ce - only_margin) / len(ce)
    chance = min(1.0, 2 * at_least(max(only_ce, only_margin), only_ce + only_margin, 0.5))
    figures = {"points": len(ce), "ce": int(ce.sum()), "margin": int(margin.sum()), "p": round(chance, 4)}
    values = f"{100 * ce.mean():.1f} % under cross-entropy, {100 * margin.mean():.1f} % under margin attacks, n = {len(ce):,}"
    if abs(apart) <= WARN_SHARE or chance >= WARN_LEVEL:
        return Finding("losses", PASS, figures, f"the losses agree: {values}")
    return Finding(
        "losses", WARN, figures, f"{'cross-entropy' if apart > 0 else 'the margin'} alone overestimates robustness: {values}"
    )


def not_run(name: str, points: int, error: ComputeError) -> Finding:
    """The finding of a check that the model does not let run."""
    return Finding(name, FAIL, {"points": points}, f"not run: {error.what}")


Check = Callable[[Probe], Finding]
# those that need no attack
OF_MODEL: dict[str, Check] = {"clean passes": clean_passes, "batch": batch_independence, "gradients": gradients}
CHECKS: dict[str, Check] = {
    **OF_MODEL,
    "loss": loss_grows,
    "noise": noise,
    "accuracy": accuracy_falls,
    "strength": strength,
    "black box": black_box,
    "losses": losses_agree,
}


def _more(probe: Probe, spec: AttackSpec, name: str, what: str, verdict: str) -> Finding:
    """Count the samples that are robust in the report but misclassified under `spec`."""
    rows = probe.robust.nonzero()[:, 0]
    wrong = int((~probe.robust_under(spec, rows=rows)).sum()) if len(rows) else 0
    figures = {"points": len(probe), "standing": len(rows), "fell": wrong, "attack": spec.to_record()}
    if not len(rows):
        return Finding(
            name, FEW, figures, f"none of the {len(probe)} samples is robust in the report, so none can be attacked again"
        )
    result = judge_count(wrong, len(probe))
    counts = f"{wrong} of {len(rows)} samples that are robust in the report are misclassified under {what}"
    return Finding(name, result, figures, counts if result == PASS else f"{verdict}: {counts}")


def _radii(probe: Probe) -> list[Fraction]:
    """Half of eps, eps, 2 eps and 4 eps if below the last radius, at which any image can become grey."""
    last = Fraction(1, 2)
    if probe.threat.norm == "L2":
        values = probe.samples.source(torch.zeros(1, dtype=torch.int64)).numel()
        last = Fraction(math.ceil(math.sqrt(values)), 2)
    return [*(eps for eps in (probe.threat.eps * step for step in (Fraction(1, 2), 1, 2, 4)) if eps < last), last]


def _rise(small: Tensor, large: Tensor) -> str:
    """Judge the samples that are robust in the larger ball but not in the smaller one."""
    more, fewer = int((large & ~small).sum()), int((small & ~large).sum())
    share, chance = (more - fewer) / len(small), at_least(more, more + fewer, 0.5)
    if share > FAIL_SHARE and chance < FAIL_LEVEL:
        return FAIL
    return WARN if share > WARN_SHARE and chance < WARN_LEVEL else PASS


def judge_count(count: int, total: int) -> str:
    """'fail' if `count` of `total` rejects a true share of 5 % at the 1 % level, 'warn' for 2 % and 5 %, else 'pass'."""
    if at_least(count, total, FAIL_SHARE) < FAIL_LEVEL:
        return FAIL
    return WARN if at_least(count, total, WARN_SHARE) < WARN_LEVEL else PASS


def at_least(count: int, total: int, share: float) -> float:
    """The probability of `count` or more of `total` independent events of probability `share`."""
    from scipy.special import bdtrc

    return 1.0 if count <= 0 else float(bdtrc(count - 1, total, share))
