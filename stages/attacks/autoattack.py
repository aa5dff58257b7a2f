"""AutoAttack's attacks (pyautoattack), also for samples that each have their own head.

The library's single runs are used: APGD, FAB and Square as their authors wrote them. Its driver is replaced, because it
assumes one head, at least ten classes and the whole set as one batch: which samples are still classified correctly, which
classes are the targets and where each sample starts is decided here. Results depend on the batch size by float rounding only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor

from stages.attacks.gradient import input_gradient
from stages.attacks.losses import margin_loss
from stages.attacks.samples import Finished, Samples, require_gradient
from stages.attacks.spec import AttackPlan, AttackSpec, EnsembleSpec
from stages.attacks.start import LibraryStarts, seeded_library
from stages.errors import InputError
from stages.models.classifier import decide
from stages.models.wrapped import NEW, using
from stages.randomness import derive_seed
from stages.threat import ThreatModel

_FIRST_SQUARE = 0.8
_LOGGER = logging.Logger("pyautoattack", logging.ERROR)  # no warnings about zero gradients: reports are checked for them


def library_seed(seed: int, spec: AttackSpec) -> int:
    """The seed that the library gets for `spec` in a run with `seed`."""
    return derive_seed(seed, f"attack/{spec.name}")


def ensemble_attacked(samples: Samples, rows: Tensor, plan: AttackPlan) -> Iterator[Finished]:
    """Run one of AutoAttack's attacks.

    Args:
        samples: the samples.
        rows: (M,) int64 on the CPU, ascending, the samples to attack; with early stop all of them classified correctly.
        plan: of an EnsembleSpec. With early stop, each target is run on the samples that are still classified correctly.

    Yields:
        Each row once, inside the ball: with early stop the misclassified image, or the clean image if there is none; otherwise
        the image of the largest margin among the clean one and the result of each target.

    Raises:
        UsageError: fewer than two classes.
        InputError: images of a size that Square cannot take in L2.
        ComputeError: non-finite outputs.
    """
    if len(rows) and plan.threat.eps == 0:
        for chunk in rows.split(plan.batch_size):
            x = samples.source(chunk)
            yield Finished(chunk.to(x.device), x, x)
        return
    if not plan.early_stop:
        for chunk in rows.split(plan.batch_size):
            batch = _Batch(samples, chunk, plan)
            yield Finished(batch.rows, batch.x, _largest_margin(batch))
        return
    correct, target = rows, 0
    while len(correct):
        remaining = []
        for chunk in correct.split(plan.batch_size):
            batch = _Batch(samples, chunk, plan)
            x_adv, wrong = _one_round(batch, target)
            x_adv = torch.where(wrong[:, None, None, None], plan.threat.project(x_adv, batch.x), batch.x)
            done = wrong if target + 1 < batch.rounds else torch.ones_like(wrong)
            remaining.append(chunk[~done.cpu()])
            yield Finished(batch.rows[done], batch.given[done], x_adv[done])
        correct, target = torch.cat(remaining), target + 1


def _largest_margin(batch: _Batch) -> Tensor:
    """The images (n, 3, H, W) of the largest margin over all targets."""
    found, most = batch.x, batch.margin(batch.x)
    for target in range(batch.rounds):
        x_adv = batch.threat.project(_one_round(batch, target)[0], batch.x)
        margin = batch.margin(x_adv)
        found = torch.where((margin > most)[:, None, None, None], x_adv, found)
        most = torch.maximum(margin, most)
    return found


class _Batch:
    """A batch as the library sees it, and a model that applies each sample's own head."""

    def __init__(self, samples: Samples, chunk: Tensor, plan: AttackPlan) -> None:
        assert isinstance(plan.spec, EnsembleSpec)
        self.spec, self.threat, self.early_stop = plan.spec, plan.threat, plan.early_stop
        self.seed = library_seed(plan.seed, plan.spec)
        self.positions = chunk + samples.first_row
        self._samples = samples
        self.given = x = samples.source(chunk)
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        self._layout = torch.channels_last if last else torch.contiguous_format
        self.rows = chunk.to(x.device)
        self.x = x.contiguous()  # the library takes views
        with torch.no_grad():
            clean = self(self.x)
        self.labels = samples.labels_of(chunk).to(clean.device)
        # the right class last, the next best before it, even where rounding ties the two in this batch
        self.ranked = clean.scatter(1, self.labels[:, None], torch.inf).argsort(dim=1)
        self.classes = clean.shape[1]
        self.rounds = plan.spec.rounds(self.classes)

    def __call__(self, x: Tensor) -> Tensor:
        """The logits of all samples, in order, at the images `x`."""
        return self.at(x, self.rows)

    def at(self, x: Tensor, rows: Tensor) -> Tensor:
        """The logits (n, C) of the samples `rows` at the images `x` (n, 3, H, W). Raises ComputeError if not finite, or without
        the gradient that the library asks for."""
        with using(self._samples.classifier, NEW):
            logits = self._samples.scores(x.contiguous(memory_format=self._layout), rows)
        decide(logits.detach())
        if x.requires_grad and torch.is_grad_enabled():
            require_gradient(logits)
        return logits

    @torch.no_grad()
    def margin(self, x: Tensor) -> Tensor:
        """The margin loss (n,) of all samples at the images `x`."""
        return margin_loss(self(x), self.labels)


def _one_round(batch: _Batch, target: int) -> tuple[Tensor, Tensor]:
    """Images (n, 3, H, W), and which of them (n,) are misclassified; `target` counts the targets from 0."""
    seed = derive_seed(batch.seed, f"target {target}") if target else batch.seed
    with torch.no_grad():
        if batch.spec.kind == "square":
            with seeded_library(seed):
                return _square(batch)
        if batch.spec.kind == "fab-t":
            return _fab(batch, target)
        start = LibraryStarts(seed, batch.threat.norm, tuple(batch.x.shape[1:])).rows(batch.positions)
        with seeded_library(seed):
            return _apgd(batch, target, start.to(batch.x.device))


def _apgd(batch: _Batch, target: int, start: Tensor) -> tuple[Tensor, Tensor]:
    """With early stop the last misclassified iterates, otherwise those of the largest loss; see `_one_round`."""
    spec, threat = batch.spec, batch.threat
    settings: dict[str, Any] = {
        "n_iter": spec.steps,
        "norm": threat.norm,
        "eps": threat.radius,
        "device": batch.x.device,
        "logger": _LOGGER,
    }
    attack: APGDAttack
    if spec.targeted:
        attack = (APGDAttack_targeted if spec.loss_on(batch.classes) == spec.loss else _TargetedMargin)(batch, **settings)
        attack.y_target = batch.ranked[:, -(target + 2)]
    else:
        attack = (APGDAttack if spec.loss_on(batch.classes) == spec.loss else _Margin)(batch, loss=spec.loss, **settings)
    attack.init_hyperparam(batch.x)
    # as the library computes it, bit for bit
    first = batch.x + threat.radius * torch.ones_like(batch.x) * attack.normalize(start)
    best, right, _, x_adv = attack.attack_single_run(batch.x, batch.labels, x_init=first)
    return x_adv if batch.early_stop else best, ~right.bool()


class _Margin(APGDAttack):
    """APGD on the margin, for fewer than 4 classes."""

    def dlr_loss(self, x: Tensor, y: Tensor) -> Tensor:
        return margin_loss(x, y)


class _TargetedMargin(APGDAttack_targeted):
    """Targeted APGD on the difference of two logits, for fewer than 4 classes."""

    def dlr_loss_targeted(self, x: Tensor, y: Tensor) -> Tensor:
        return (x.gather(1, self.y_target[:, None]) - x.gather(1, y[:, None]))[:, 0]


def _fab(batch: _Batch, target: int) -> tuple[Tensor, Tensor]:
    spec, threat = batch.spec, batch.threat
    attack = _FAB(batch, norm=threat.norm, n_iter=spec.steps, eps=threat.radius, targeted=True, device=batch.x.device)
    attack.target_class = target + 2
    x_adv = attack.attack_single_run(batch.x, batch.labels, is_targeted=True)
    # FAB finds the nearest misclassified image, which may be outside the ball
    moved = (x_adv - batch.x).flatten(1)
    far = moved.abs().amax(1) if threat.norm == "Linf" else torch.linalg.vector_norm(moved, dim=1)
    return x_adv, (decide(batch(x_adv)) != batch.labels) & (far <= threat.radius)


class _FAB(FABAttack_PT):
    """FAB that treats all samples of the batch as correctly classified and accumulates no gradient."""

    predict: _Batch

    def attack_single_run(self, x: Tensor, y: Tensor, use_rand_start: bool = False, is_targeted: bool = False) -> Tensor:
        self._begun = False
        found: Tensor = super().attack_single_run(x, y, use_rand_start, is_targeted)
        return found

    def _get_predicted_label(self, x: Tensor) -> Tensor:
        if not self._begun:  # asked in order to drop misclassified samples from the batch
            self._begun = True
            return self.predict.labels
        return decide(self.predict(x))

    def get_diff_logits_grads_batch_targeted(self, imgs: Tensor, la: Tensor, la_target: Tensor) -> tuple[Tensor, Tensor]:
        # the library ranks the classes again, and would aim at the right class of a misclassified sample
        la_target = self.predict.ranked[:, -self.target_class]
        with torch.enable_grad():
            variable = imgs.detach().clone().requires_grad_(True)
            logits = self.predict(variable)
            ahead = (logits.gather(1, la_target[:, None]) - logits.gather(1, la[:, None]))[:, 0]
            grad = input_gradient(ahead.sum(), variable)
        return ahead.detach()[:, None], grad[:, None]


def _square(batch: _Batch) -> tuple[Tensor, Tensor]:
    spec, threat = batch.spec, batch.threat
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
    """Raise InputError if the attack cannot run on images of this size: Square in L2 cannot on some."""
    if spec.kind == "square" and threat.norm == "L2" and not _tiles(height, width):
        raise InputError(
            f"Square in L2 cannot lay its tiles on images of {width}x{height}", "resize the images, for example to 32 pixels"
        )


def _tiles(height: int, width: int) -> bool:
    """Whether the library's tiles, a fifth of the height, end inside the image in both directions."""
    side = height // 5
    edge = (height - 5 * side) // 2
    return side == 1 or (side > 1 and all(edge + (size // side) * side <= size for size in (height, width)))


class _Square(SquareAttack):
    """Square where `y` are positions in the batch, so that each sample keeps its head, and where random numbers are shared by
    all samples, so that they do not depend on the number of samples."""

    predict: _Batch

    def random_choice(self, shape: list[int]) -> Tensor:
        whole = len(shape) == 4  # (samples, colours, ., .)
        sampled: Tensor = super().random_choice([1, *shape[1:]] if whole else shape)
        return sampled.expand(shape)

    def margin_and_loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if not len(y):
            return torch.zeros(0, device=x.device), torch.zeros(0, device=x.device)
        lead = -margin_loss(self.predict.at(x, self.predict.rows[y]), self.predict.labels[y])
        return lead, lead.clone()  # both are written to
