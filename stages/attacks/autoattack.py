"""AutoAttack's own attacks (pyautoattack) on samples of which each may have its own head.

The library's single runs do the work: APGD, FAB and Square as their authors wrote them. What it does around them is
done here, because it counts on one head for all, on at least ten classes, and on the batch being the whole set: which
samples are still classified correctly, which classes are the targets, and where each sample starts. The outcome belongs to
the sample; it depends on the batch size by float rounding only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor

from stages.attacks.ensemble import EnsembleSpec
from stages.attacks.library_random import LibraryStarts, drawing
from stages.attacks.losses import margin_loss
from stages.attacks.samples import Finished, Samples
from stages.errors import InputError
from stages.models.classifier import decide
from stages.randomness import derive_seed
from stages.threat import ThreatModel

_FIRST_SQUARE = 0.8


def library_seed(seed: int, spec: EnsembleSpec) -> int:
    """The seed that the library gets for `spec` in a run with `seed`."""
    return derive_seed(seed, f"attack/{spec.name}")


def ensemble_attacked(
    samples: Samples,
    rows: Tensor,
    spec: EnsembleSpec,
    threat: ThreatModel,
    *,
    seed: int,
    batch_size: int,
    early_stop: bool = True,
) -> Iterator[Finished]:
    """Run one of AutoAttack's attacks.

    Args:
        samples: the samples.
        rows: (M,) int64 on the CPU, ascending, which of them; with `early_stop` all classified rightly as they are.
        spec: the attack. Targeted ones run once a target, over those still classified correctly.
        threat: the ball.
        seed: of the run.
        batch_size: samples in one forward pass.
        early_stop: False runs against every target for every row, right or wrong.

    Yields:
        Each row once, inside the ball: with the image that is misclassified, or its clean image where none is. Without
        `early_stop` with the image of the largest margin among the clean one and the results of the runs.

    Raises:
        UsageError: fewer than two classes.
        InputError: images of a size that Square cannot take in L2.
        ComputeError: outputs that are not finite.
    """
    correct = rows
    if len(rows) and threat.eps == 0:
        for part in rows.split(batch_size):
            x = samples.source(part)
            yield Finished(part.to(x.device), x, x)
        return
    if not early_stop:
        for part in rows.split(batch_size):
            batch = _Batch(samples, part, samples.source(part))
            yield Finished(
                batch.rows, batch.x, _pressed(batch, part + samples.first_row, spec, threat, library_seed(seed, spec))
            )
        return
    at = rounds = 0
    while len(correct):
        missed = []
        for part in correct.split(batch_size):
            x = samples.source(part)
            batch = _Batch(samples, part, x)
            rounds = rounds or spec.rounds(batch.classes)
            x_adv, wrong = _one_round(batch, part + samples.first_row, spec, threat, library_seed(seed, spec), at)
            x_adv = torch.where(wrong[:, None, None, None], threat.project(x_adv, batch.x), batch.x)
            over = wrong if at + 1 < rounds else torch.ones_like(wrong)
            missed.append(part[~over.cpu()])
            yield Finished(batch.rows[over], x[over], x_adv[over])
        correct, at = torch.cat(missed), at + 1


def _pressed(batch: _Batch, positions: Tensor, spec: EnsembleSpec, threat: ThreatModel, seed: int) -> Tensor:
    """The images (n, 3, H, W) of the largest margin, of all targets."""
    found, most = batch.x, batch.margin(batch.x)
    for at in range(spec.rounds(batch.classes)):
        x_adv = threat.project(_one_round(batch, positions, spec, threat, seed, at, early_stop=False)[0], batch.x)
        margin = batch.margin(x_adv)
        found = torch.where((margin > most)[:, None, None, None], x_adv, found)
        most = torch.maximum(margin, most)
    return found


class _Batch:
    """Samples as the library sees them, and the model that knows whose head each one has."""

    def __init__(self, samples: Samples, part: Tensor, x: Tensor) -> None:
        self._samples = samples
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        self._layout = torch.channels_last if last else torch.contiguous_format
        self.rows = part.to(x.device)
        self.x = x.contiguous()  # the library takes views
        with torch.no_grad():
            clean = self(self.x)
        self.labels = samples.labels[part.to(samples.labels.device)].to(clean.device)
        # the right class last, the next best before it, even where rounding ties the two in this batch
        self.ranked = clean.scatter(1, self.labels[:, None], torch.inf).argsort(dim=1)
        self.classes = clean.shape[1]

    def __call__(self, x: Tensor) -> Tensor:
        """The logits of all samples at the images `x`, in their order."""
        return self.at(x, self.rows)

    def at(self, x: Tensor, rows: Tensor) -> Tensor:
        """The logits (n, C) of the samples `rows` at the images `x` (n, 3, H, W). Raises ComputeError where not finite."""
        logits = self._samples.scores(x.contiguous(memory_format=self._layout), rows)
        decide(logits.detach())
        return logits

    @torch.no_grad()
    def margin(self, x: Tensor) -> Tensor:
        """By how much each sample is wrong at the images `x`, (n,)."""
        return margin_loss(self(x), self.labels)


def _one_round(
    batch: _Batch,
    positions: Tensor,
    spec: EnsembleSpec,
    threat: ThreatModel,
    seed: int,
    at: int,
    *,
    early_stop: bool = True,
) -> tuple[Tensor, Tensor]:
    """Images (n, 3, H, W), and which of them (n,) are misclassified.

    `at` counts the targets, `positions` (n,) are rows of the whole set.
    """
    seed = derive_seed(seed, f"target {at}") if at else seed
    with torch.no_grad():
        if spec.kind == "square":
            with drawing(seed):
                return _square(batch, spec, threat)
        if spec.kind == "fab-t":
            return _fab(batch, spec, threat, at)
        start = LibraryStarts(seed, threat.norm, tuple(batch.x.shape[1:])).rows(positions)
        with drawing(seed):
            best, x_adv, wrong = _apgd(batch, spec, threat, at, start.to(batch.x.device))
            return x_adv if early_stop else best, wrong


def _apgd(batch: _Batch, spec: EnsembleSpec, threat: ThreatModel, at: int, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The iterates of the largest loss, the last misclassified ones, and which samples were misclassified at all."""
    settings: dict[str, Any] = {
        "n_iter": spec.steps,
        "norm": threat.norm,
        "eps": threat.radius,
        "device": batch.x.device,
        "logger": _Silent(),
    }
    attack: APGDAttack
    if spec.targeted:
        attack = (APGDAttack_targeted if spec.loss_on(batch.classes) == spec.loss else _TargetedMargin)(batch, **settings)
        attack.y_target = batch.ranked[:, -(at + 2)]
    else:
        attack = (APGDAttack if spec.loss_on(batch.classes) == spec.loss else _Margin)(batch, loss=spec.loss, **settings)
    attack.init_hyperparam(batch.x)
    # as the library computes it, to the last bit
    first = batch.x + threat.radius * torch.ones_like(batch.x) * attack.normalize(start)
    best, right, _, x_adv = attack.attack_single_run(batch.x, batch.labels, x_init=first)
    return best, x_adv, ~right.bool()


class _Margin(APGDAttack):
    """APGD on the margin, for heads that are too small for DLR."""

    def dlr_loss(self, x: Tensor, y: Tensor) -> Tensor:
        return margin_loss(x, y)


class _TargetedMargin(APGDAttack_targeted):
    """Targeted APGD on the difference of two logits, for heads that are too small for DLR."""

    def dlr_loss_targeted(self, x: Tensor, y: Tensor) -> Tensor:
        return (x.gather(1, self.y_target[:, None]) - x.gather(1, y[:, None]))[:, 0]


class _Silent:
    """Drops the library's warnings of zero gradients; the checks of a report cover them."""

    def warning(self, _: str) -> None:
        """Ignore it."""


def _fab(batch: _Batch, spec: EnsembleSpec, threat: ThreatModel, at: int) -> tuple[Tensor, Tensor]:
    attack = _FAB(batch, norm=threat.norm, n_iter=spec.steps, eps=threat.radius, targeted=True, device=batch.x.device)
    attack.target_class = at + 2
    x_adv = attack.attack_single_run(batch.x, batch.labels, is_targeted=True)
    # it looks for the nearest image that is misclassified, which may be outside of the ball
    moved = (x_adv - batch.x).flatten(1)
    far = moved.abs().amax(1) if threat.norm == "Linf" else torch.linalg.vector_norm(moved, dim=1)
    return x_adv, (decide(batch(x_adv)) != batch.labels) & (far <= threat.radius)


class _FAB(FABAttack_PT):
    """FAB that takes all samples of the batch as classified rightly and accumulates no gradient."""

    predict: _Batch

    def attack_single_run(self, x: Tensor, y: Tensor, use_rand_start: bool = False, is_targeted: bool = False) -> Tensor:
        self._begun = False
        found: Tensor = super().attack_single_run(x, y, use_rand_start, is_targeted)
        return found

    def _get_predicted_label(self, x: Tensor) -> Tensor:
        if not self._begun:  # asks who is right, in order to leave the others out of the batch
            self._begun = True
            return self.predict.labels
        return decide(self.predict(x))

    def get_diff_logits_grads_batch_targeted(self, imgs: Tensor, la: Tensor, la_target: Tensor) -> tuple[Tensor, Tensor]:
        # the library ranks anew, and would aim at the right class of a sample that is wrong
        la_target = self.predict.ranked[:, -self.target_class]
        with torch.enable_grad():
            variable = imgs.detach().clone().requires_grad_(True)
            logits = self.predict(variable)
            ahead = (logits.gather(1, la_target[:, None]) - logits.gather(1, la[:, None]))[:, 0]
            (grad,) = torch.autograd.grad(ahead.sum(), variable)
        return ahead.detach()[:, None], grad[:, None]


def _square(batch: _Batch, spec: EnsembleSpec, threat: ThreatModel) -> tuple[Tensor, Tensor]:
    check_size(spec, threat, *batch.x.shape[2:])
    attack = _Square(
        batch,
        norm=threat.norm,
        n_queries=spec.steps,
        eps=threat.radius,
        p_init=_FIRST_SQUARE,
        resc_schedule=False,
        device=batch.x.device,
    )
    attack.init_hyperparam(batch.x)
    _, x_adv = attack.attack_single_run(batch.x, torch.arange(len(batch.x), device=batch.x.device))
    return x_adv, decide(batch(x_adv)) != batch.labels


def check_size(spec: EnsembleSpec, threat: ThreatModel, height: int, width: int) -> None:
    """Raise InputError where the attack cannot run on images of this size: Square in L2 on some."""
    if spec.kind == "square" and threat.norm == "L2" and not _tiles(height, width):
        raise InputError(
            f"Square in L2 cannot lay its tiles on images of {width}x{height}", "resize the images, for example to 32 pixels"
        )


def _tiles(height: int, width: int) -> bool:
    """Whether the library's tiles, a fifth of the height, end inside of the image in both directions."""
    side = height // 5
    edge = (height - 5 * side) // 2
    return side == 1 or (side > 1 and all(edge + (size // side) * side <= size for size in (height, width)))


class _Square(SquareAttack):
    """Square whose `y` are positions in the batch, so that the rest of a batch keeps its heads, and whose draws are the
    same for all samples, so that they do not depend on how many there are."""

    predict: _Batch

    def random_choice(self, shape: list[int]) -> Tensor:
        whole = len(shape) == 4  # (samples, colours, ., .)
        drawn: Tensor = super().random_choice([1, *shape[1:]] if whole else shape)
        return drawn.expand(shape)

    def margin_and_loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if not len(y):
            return torch.zeros(0, device=x.device), torch.zeros(0, device=x.device)
        lead = -margin_loss(self.predict.at(x, self.predict.rows[y]), self.predict.labels[y])
        return lead, lead.clone()  # both are written to
