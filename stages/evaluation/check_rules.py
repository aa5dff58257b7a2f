"""What can be wrong with a robust accuracy: seven checks, each a function of a probe of the model (see `checks`).

Counts are judged by exact binomial tests, so that the size of the sample is accounted for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.attacks.losses import LOSSES, margin_loss
from stages.attacks.named import parse_attack
from stages.attacks.perturb import attack_samples
from stages.attacks.samples import Samples
from stages.attacks.spec import AttackSpec
from stages.errors import InputError
from stages.threat import ThreatModel, format_eps

PASS, WARN, FAIL = "pass", "warn", "fail"
AGREE = 1e-5  # of two clean passes, as a part of the largest logit, or of 1
# a count fails when a true share of 5 % gives as many in less than 1 % of samples, and warns at 2 % and 5 %
FAIL_SHARE, FAIL_LEVEL = 0.05, 0.01
WARN_SHARE, WARN_LEVEL = 0.02, 0.05
QUERIES = 300
STEPS = (1, 5, 20)


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        name: of the check.
        result: 'pass', 'warn' or 'fail'.
        figures: those that decided, JSON-able.
        sentence: the same in words.
    """

    name: str
    result: str
    figures: dict[str, Any]
    sentence: str

    def to_record(self) -> dict[str, Any]:
        """As a JSON-able record."""
        return {"figures": self.figures, "name": self.name, "result": self.result, "sentence": self.sentence}


@dataclass(frozen=True)
class Probe:
    """n sampled points that are right on clean images, ready to be attacked.

    Attributes:
        samples: the points.
        threat: of the report.
        seed: of the random starts.
        batch_size: points in one forward pass.
        stands: (n,) bool on the CPU, right under every attack of the report.
        scale: logits are scale * cosine.
        pair: right under the report's cross-entropy attack and under its margin attack, (P,) bool each, over all points;
            None when it has no such two of equal steps.
    """

    samples: Samples
    threat: ThreatModel
    seed: int
    batch_size: int
    stands: Tensor
    scale: float = 1.0
    pair: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.stands)

    def parts(self) -> Sequence[Tensor]:
        """The rows of the points, a batch each."""
        return torch.arange(len(self)).split(self.batch_size)

    def logits(self, part: Tensor) -> Tensor:
        """The clean logits of the rows `part`."""
        x = self.samples.source(part)
        return self.samples.scores(x, part.to(x.device))

    def stand(self, spec: AttackSpec, threat: ThreatModel | None = None, rows: Tensor | None = None) -> Tensor:
        """Which points stand after the attack, (n,) bool; of those in `rows` if given, the others stand."""
        stands = torch.ones(len(self), dtype=torch.bool)
        labels = self.samples.labels.cpu()
        rows = torch.arange(len(self)) if rows is None else rows
        batch_size, threat = self.batch_size, threat or self.threat
        for judged in attack_samples(self.samples, rows, spec, threat, seed=self.seed, batch_size=batch_size):
            stands[judged.rows] = judged.predicted.cpu() == labels[judged.rows]
        return stands

    def lead(self, spec: AttackSpec) -> np.ndarray:
        """How far the best wrong class is ahead after all steps of the attack, in cosine, (n,)."""
        found = np.empty(len(self))
        rows = torch.arange(len(self))
        results = attack_samples(
            self.samples, rows, spec, self.threat, seed=self.seed, batch_size=self.batch_size, early_stop=False
        )
        for judged in results:
            labels = self.samples.labels[judged.rows.to(self.samples.labels.device)]
            found[judged.rows.numpy()] = margin_loss(judged.logits / self.scale, labels).double().cpu().numpy()
        return found


def clean_passes(probe: Probe) -> Finding:
    """Two passes over the same clean images give the same logits, to 1e-5 of the largest one; randomised models fail."""
    most = largest = 0.0
    changed = 0
    for part in probe.parts():
        first, again = (probe.logits(part) for _ in range(2))
        most = max(most, float((first - again).abs().max()))
        largest = max(largest, float(first.abs().max()))
        changed += int((first.argmax(1) != again.argmax(1)).sum())
    apart = float(f"{most / max(probe.scale, largest):.1g}")
    figures = {"points": len(probe), "changed_decisions": changed, "difference": apart, "allowed": AGREE}
    if apart <= AGREE:
        return Finding("clean passes", PASS, figures, "two clean passes agree")
    differ = f"logits differ by {apart:g} of the largest"
    return Finding(
        "clean passes",
        FAIL,
        figures,
        f"two clean passes disagree ({differ}, {changed} of {len(probe)} decisions): the model is randomised, and needs "
        "attacks that average over its draws",
    )


def gradients(probe: Probe) -> Finding:
    """The gradients of cross-entropy and margin at the clean images are finite and not all zero."""
    without = dict.fromkeys(("ce", "margin"), 0)
    for part in probe.parts():
        x = probe.samples.source(part)
        labels = probe.samples.labels[part.to(probe.samples.labels.device)]
        for name in without:
            with torch.enable_grad():
                variable = x.detach().requires_grad_(True)
                (grad,) = torch.autograd.grad(
                    LOSSES[name](probe.samples.scores(variable, part.to(x.device)), labels).sum(), variable
                )
            flat = grad.flatten(1)
            without[name] += int((~flat.isfinite().all(1) | (flat == 0).all(1)).sum())
    figures = {"points": len(probe), "without_ce": without["ce"], "without_margin": without["margin"]}
    counts = f"cross-entropy {without['ce']}, margin {without['margin']} of {len(probe)} points"
    result = judge_count(max(without.values()), len(probe))
    if result == PASS:
        return Finding("gradients", PASS, figures, f"gradients are not zero (without one: {counts})")
    return Finding(
        "gradients", result, figures, f"points without a usable gradient: {counts}; gradient attacks are blind there"
    )


def loss_grows(probe: Probe) -> Finding:
    """The margin loss after 20 steps is higher than after 1, and falls neither to 5 nor from there to 20."""
    leads = [probe.lead(AttackSpec("check", "margin", steps, Fraction(1, 4), random_start=True)) for steps in STEPS]
    means = [round(float(lead.mean()), 4) for lead in leads]
    figures = {"points": len(probe), **{f"loss_{steps}": mean for steps, mean in zip(STEPS, means, strict=True)}}
    told = f"margin loss {means[0]:.3f}, {means[1]:.3f}, {means[2]:.3f} after {STEPS[0]}, {STEPS[1]} and {STEPS[2]} steps"
    gain = float((leads[2] - leads[0]).mean())
    if gain <= 0:
        return Finding("loss", FAIL, figures, f"the loss does not grow with the steps: {told}")
    for before, after in pairwise(leads):
        lost = before - after
        error = float(lost.std(ddof=1)) / math.sqrt(len(lost)) if len(lost) > 1 else math.inf
        if float(lost.mean()) > max(2 * error, gain / 100):
            return Finding("loss", WARN, figures, f"the loss falls between steps: {told}")
    return Finding("loss", PASS, figures, f"the loss grows with the steps: {told}")


def accuracy_falls(probe: Probe) -> Finding:
    """Accuracy does not rise with eps, and gradients bring it near 0 at eps 0.5.

    There every image can be made the same grey one, so that no model keeps more than chance, and an attack that works gets
    to 0. In L2 the largest ball is the one that holds that grey image: 0.5 * sqrt(pixels).
    """
    radii = _radii(probe)
    spec = AttackSpec("check", "margin", STEPS[-1], Fraction(1, 4), random_start=True)
    last = AttackSpec("checkx2", "margin", STEPS[-1], Fraction(1, 4), random_start=True, restarts=2)
    stands = [
        probe.stand(last if eps == radii[-1] else spec, ThreatModel(eps, probe.threat.norm, probe.threat.clip)) for eps in radii
    ]
    ladder = {format_eps(eps, probe.threat.norm): int(found.sum()) for eps, found in zip(radii, stands, strict=True)}
    figures: dict[str, Any] = {"points": len(probe), "standing": ladder}
    told = ", ".join(f"{100 * count / len(probe):.0f} % at {eps}" for eps, count in ladder.items())
    kept = judge_count(int(stands[-1].sum()), len(probe))
    rises = [_rise(small, large) for small, large in pairwise(stands)]
    for result in (FAIL, WARN):
        if kept == result:
            limit = "every image can be made the same grey one there, and an attack that works gets to 0"
            return Finding("accuracy", result, figures, f"accuracy does not fall to 0 with eps ({told}): {limit}")
        if result in rises:
            return Finding("accuracy", result, figures, f"accuracy rises with eps: {told}")
    return Finding("accuracy", PASS, figures, f"accuracy falls with eps: {told}")


def strength(probe: Probe) -> Finding:
    """What stands in the report stands against 50 steps of eps/10 on the margin, twice, too."""
    spec = AttackSpec("check-strongx2", "margin", 50, Fraction(1, 10), random_start=True, restarts=2)
    return _more(probe, spec, "strength", "50 margin steps, twice", "attack too weak")


def black_box(probe: Probe) -> Finding:
    """What stands in the report stands against Square, which sees no gradient, too."""
    try:
        return _more(probe, parse_attack(f"square-{QUERIES}"), "black box", f"Square ({QUERIES} queries)", "gradients mislead")
    except InputError as error:  # a size of images that Square cannot take in L2
        return Finding("black box", WARN, {"points": len(probe)}, f"not run: {error.what}")


def losses_agree(probe: Probe) -> Finding:
    """Accuracy under cross-entropy and under margin attacks is within 2 points; only ever a warning."""
    if probe.pair is None:
        ce, margin = (probe.stand(parse_attack(name)).numpy() for name in ("pgd-20", "margin-pgd-20"))
    else:
        ce, margin = probe.pair
    only_ce, only_margin = int((ce & ~margin).sum()), int((margin & ~ce).sum())
    apart = (only_ce - only_margin) / len(ce)
    chance = min(1.0, 2 * at_least(max(only_ce, only_margin), only_ce + only_margin, 0.5))
    figures = {"points": len(ce), "ce": int(ce.sum()), "margin": int(margin.sum()), "p": round(chance, 4)}
    told = (
        f"{100 * ce.mean():.1f} % under cross-entropy, {100 * margin.mean():.1f} % under margin attacks of {len(ce):,} points"
    )
    if abs(apart) <= WARN_SHARE or chance >= WARN_LEVEL:
        return Finding("losses", PASS, figures, f"the losses agree: {told}")
    return Finding("losses", WARN, figures, f"{'cross-entropy' if apart > 0 else 'the margin'} alone flatters: {told}")


CHECKS: tuple[Callable[[Probe], Finding], ...] = (
    clean_passes,
    gradients,
    loss_grows,
    accuracy_falls,
    strength,
    black_box,
    losses_agree,
)


def _more(probe: Probe, spec: AttackSpec, name: str, what: str, verdict: str) -> Finding:
    """Of all the points, those that fall to `spec` alone, and not in the report."""
    rows = probe.stands.nonzero()[:, 0]
    fell = int((~probe.stand(spec, rows=rows)).sum()) if len(rows) else 0
    figures = {"points": len(probe), "standing": len(rows), "fell": fell, "attack": spec.to_record()}
    result = judge_count(fell, len(probe))
    told = f"{fell} of {len(rows)} points that stand in the report fall to {what}"
    return Finding(name, result, figures, told if result == PASS else f"{verdict}: {told}")


def _radii(probe: Probe) -> list[Fraction]:
    """Half of eps, eps, 2 eps and 4 eps as far as they are below the last, which makes any image grey."""
    last = Fraction(1, 2)
    if probe.threat.norm == "L2":
        values = probe.samples.source(torch.zeros(1, dtype=torch.int64)).numel()
        last = Fraction(math.ceil(math.sqrt(values)), 2)
    return [*(eps for eps in (probe.threat.eps * step for step in (Fraction(1, 2), 1, 2, 4)) if eps < last), last]


def _rise(small: Tensor, large: Tensor) -> str:
    """Judge which points stand in the smaller ball and which in the larger."""
    more, fewer = int((large & ~small).sum()), int((small & ~large).sum())
    share, chance = (more - fewer) / len(small), at_least(more, more + fewer, 0.5)
    if share > FAIL_SHARE and chance < FAIL_LEVEL:
        return FAIL
    return WARN if share > WARN_SHARE and chance < WARN_LEVEL else PASS


def judge_count(count: int, total: int) -> str:
    """'fail' when `count` of `total` is more than a true share of 5 % explains at the 1 % level, 'warn' for 2 % and 5 %."""
    if at_least(count, total, FAIL_SHARE) < FAIL_LEVEL:
        return FAIL
    return WARN if at_least(count, total, WARN_SHARE) < WARN_LEVEL else PASS


def at_least(count: int, total: int, share: float) -> float:
    """The probability of `count` or more of `total` independent events of probability `share`."""
    from scipy.special import bdtrc

    return 1.0 if count <= 0 else float(bdtrc(count - 1, total, share))
