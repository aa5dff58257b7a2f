"""A probe of a model: samples that are classified correctly when clean, and what checks ask about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from stages.attacks.losses import margin_loss
from stages.attacks.perturb import attack_samples
from stages.attacks.samples import Samples
from stages.attacks.spec import AttackPlan, AttackSpec
from stages.attacks.start import StartNoise
from stages.models.classifier import decide
from stages.threat import ThreatModel

# the gradient attack of the checks
STEPS = 20
CLIMB = AttackSpec("check", "margin", STEPS, Fraction(1, 4), random_start=True)


@dataclass(frozen=True)
class Climb:
    """What `CLIMB` finds for n samples when it takes every step.

    Attributes:
        loss: (steps + 1, n) margin loss in cosine: at the random start and after each step.
        robust: (n,) bool on the CPU, classified correctly at every iterate.
        x_adv: (n, 3, H, W) on the CPU, the last iterates.
    """

    loss: np.ndarray
    robust: Tensor
    x_adv: Tensor


@dataclass(frozen=True)
class Probe:
    """n samples that are classified correctly when clean, and what the report says about them.

    Attributes:
        samples: the samples.
        threat: of the report.
        seed: of random starts.
        batch_size: samples in one forward pass.
        robust: (n,) bool on the CPU, correct under every attack of the report.
        scale: logits are scale * cosine.
        pair: correct under the report's cross-entropy attack and under its margin attack, (P,) bool each, over all samples of
            the report; None if it does not have two such attacks with the same number of steps.
    """

    samples: Samples
    threat: ThreatModel
    seed: int
    batch_size: int
    robust: Tensor
    scale: float = 1.0
    pair: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.robust)

    def batches(self) -> Sequence[Tensor]:
        """The rows of the samples, batch by batch."""
        return torch.arange(len(self)).split(self.batch_size)

    def logits(self, rows: Tensor) -> Tensor:
        """The clean logits of `rows`."""
        x = self.samples.source(rows)
        return self.samples.scores(x, rows.to(x.device))

    def robust_under(self, spec: AttackSpec, threat: ThreatModel | None = None, rows: Tensor | None = None) -> Tensor:
        """Whether each sample is correct after the attack, (n,) bool; with `rows`, only these are attacked."""
        robust = torch.ones(len(self), dtype=torch.bool)
        labels = self.samples.labels.cpu()
        rows = torch.arange(len(self)) if rows is None else rows
        for judged in attack_samples(self.samples, rows, AttackPlan(spec, threat or self.threat, self.seed, self.batch_size)):
            robust[judged.rows] = judged.predicted.cpu() == labels[judged.rows]
        return robust

    @cached_property
    def climb(self) -> Climb:
        """The gradient attack of the checks, run once for all of them."""
        labels = self.samples.labels.cpu()
        loss, seen = np.full((STEPS + 1, len(self)), np.nan), np.zeros(len(self), dtype=np.int64)
        robust, found = torch.ones(len(self), dtype=torch.bool), [torch.empty(0)] * len(self)

        def watch(rows: Tensor, logits: Tensor) -> None:
            logits, rows = logits.detach().cpu(), rows.cpu()
            at = rows.numpy()
            loss[seen[at], at] = margin_loss(logits / self.scale, labels[rows]).double().numpy()
            robust[rows] &= decide(logits) == labels[rows]
            seen[at] += 1

        watched = _Watched(**vars(self.samples), watch=watch)
        plan = AttackPlan(CLIMB, self.threat, self.seed, self.batch_size, early_stop=False)
        for judged in attack_samples(watched, torch.arange(len(self)), plan):
            for row, image in zip(judged.rows.tolist(), judged.x_adv.cpu(), strict=True):
                found[row] = image
        return Climb(loss, robust, torch.stack(found))

    def noise_loss(self, draws: int) -> np.ndarray:
        """The highest margin loss, in cosine, among `draws` random images at the radius of the threat model, (n,).

        Raises ComputeError for a non-finite logit.
        """
        most = np.full(len(self), -np.inf)
        for draw in range(draws):
            noise: StartNoise | None = None
            for rows in self.batches():
                x = self.samples.source(rows)
                noise = noise or StartNoise(self.seed, f"check/noise {draw}", tuple(x.shape[1:]))
                away = noise.rows(rows).to(x.device) - 0.5
                x_noisy = self.threat.project(self.threat.step(x, away, self.threat.radius), x)
                logits = self.samples.scores(x_noisy, rows.to(x.device))
                decide(logits)  # raises for logits that are not finite
                loss = margin_loss(logits / self.scale, self.samples.labels_of(rows)).double().cpu().numpy()
                most[rows.numpy()] = np.maximum(most[rows.numpy()], loss)
        return most

    def logits_in(self, groups: Sequence[Tensor], images: Tensor | None = None) -> Tensor:
        """The logits (n, C), on the CPU, of `images` (n, 3, H, W), by default the clean ones, when each of the `groups` of rows
        goes through the model by itself."""
        found: dict[int, Tensor] = {}
        for rows in groups:
            x = self.samples.source(rows)
            if images is not None:
                x = images[rows].to(x.device, memory_format=torch.channels_last)
            found |= zip(rows.tolist(), self.samples.scores(x, rows.to(x.device)).cpu(), strict=True)
        return torch.stack([found[row] for row in range(len(self))])


@dataclass(frozen=True)
class _Watched(Samples):
    """Samples whose logits are also given to `watch`, with their rows."""

    watch: Callable[[Tensor, Tensor], None] = lambda rows, logits: None

    def scores(self, x: Tensor, rows: Tensor) -> Tensor:
        logits = super().scores(x, rows)
        self.watch(rows, logits)
        return logits
