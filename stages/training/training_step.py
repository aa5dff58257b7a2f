"""One training step on one global batch: attack, gradients, optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.attacks.gradient import maximise
from stages.models.drop_block import draw_masks_from
from stages.models.folding import folded
from stages.models.frozen import frozen
from stages.models.recompute import recomputed
from stages.training.awp import WeightPerturbation, buffers_restored
from stages.training.ema import WeightAverage
from stages.training.embed import Embed, Reference, frozen_reference
from stages.training.objectives import Objective, Outcome
from stages.training.optimizer import build_optimizer
from stages.training.settings import TrainSettings
from stages.world import World


@dataclass(frozen=True)
class MicroBatch:
    """Images of a batch that go through the model together.

    Attributes:
        x: images (n, 3, H, W) in [0, 1].
        noise: uniform on [0, 1), as `x`, for the random start of the attack; None when nothing is attacked.
        labels: (n,).
        rows: which images of the global batch these are.
        known: (n, D) the reference's embeddings of `x`, if they are known.
    """

    x: Tensor
    noise: Tensor | None
    labels: Tensor
    rows: slice
    known: Tensor | None = None


@dataclass(frozen=True)
class _Attacked:
    """A micro-batch, its attacked images, and the models on it."""

    batch: MicroBatch
    x_adv: Tensor
    embed: Embed


class TrainingStep:
    """Takes training steps.

    The gradient is that of the mean loss over the global batch, for any number of processes and of micro-batches.

    Args:
        model: any module, images (N, 3, H, W) in [0, 1] -> embeddings (N, D); on its device, batch norms not synchronized yet.
        objective: its outer loss is minimized.
        settings: see `TrainSettings`.
        world: the processes that share each batch.
        reference: a frozen model beside it, on the same device; None is a copy of `model` as it is now. Not looked at by
            objectives without a reference.

    Attributes:
        reference: the frozen model, None for an objective without one.
        optimizer: of all parameters that want a gradient.
        trained: the model, with the objective's module where it has one.
        average: the moving average of what is trained; None without `ema`.
        grad_checkpointing: whether the activations inside the model's blocks are recomputed in the backward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        settings: TrainSettings,
        world: World,
        reference: nn.Module | None = None,
    ) -> None:
        self.model, self._objective, self._settings, self._world = model, objective, settings, world
        self.grad_checkpointing = settings.grad_checkpointing
        module = objective.module
        self.trained = model if module is None else nn.ModuleDict({"model": model, "head": module})
        self._parameters = [parameter for parameter in self.trained.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(self._parameters, settings)
        self._awp = WeightPerturbation(self.trained, settings.awp) if settings.awp else None
        self.average = WeightAverage(self.trained, settings.ema) if settings.ema else None
        self._half, self._half_attack = settings.precision == "bf16", settings.half_attack
        self.reference = frozen_reference(reference or model, _kernels(half=self._half)) if objective.reference else None

    def take(self, micro_batches: Sequence[MicroBatch], total: int, rate: float, masks: torch.Generator) -> Tensor:
        """One step at learning rate `rate`.

        Args:
            micro_batches: this process's rows of the batch.
            total: number of images in the global batch.
            rate: learning rate.
            masks: generator for DropBlock.

        Returns:
            Sums over the global batch, on the device: loss, correct clean predictions, correct adversarial predictions, then
            each term of the objective.
        """
        attacked = [self._attack(batch) for batch in micro_batches]
        if self._awp is not None:
            state = masks.get_state()
            with buffers_restored(self.model):
                self._gradients(attacked, total, masks)
            masks.set_state(state)  # the same masks in both passes
            self._awp.perturb([parameter.grad for parameter in self._parameters])
        sums = self._gradients(attacked, total, masks)
        if self._settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        if self._awp is not None:
            self._awp.restore()
        if self.average is not None:
            self.average.update_parameters(self.trained)
        return sums

    def try_batch(self, batch: MicroBatch, masks: torch.Generator) -> None:
        """The attack and the gradient of a step on one micro-batch, for its need of memory; no parameter changes."""
        self._gradients([self._attack(batch)], len(batch.x), masks)

    def embed(self, batch: MicroBatch) -> Embed:
        """The models on a micro-batch as the outer step calls them, matrix products in the precision of the settings."""
        reference = None
        if self.reference is not None:
            reference = Reference(self.reference, batch.x, batch.known, half=self._half)
        return Embed(self.model, half=self._half, reference=reference)

    def _attack(self, batch: MicroBatch) -> _Attacked:
        """The inner maximization: model in eval mode, parameters frozen, random start; of episodes, the queries alone. The
        model's passes are in the attack's precision; images, gradients and the ball keep theirs."""
        embed, settings = self.embed(batch), self._settings
        if batch.noise is None or not len(batch.x):
            return _Attacked(batch, batch.x, embed)
        x, noise, rows = batch.x, batch.noise, None
        if self._objective.episodic:
            rows = self._objective.shape.query_rows(len(x)).to(x.device)
            x, noise = (whole[rows].contiguous(memory_format=torch.channels_last) for whole in (x, noise))
        inner = embed.in_precision(half=self._half_attack)
        with frozen(self.trained), folded(self.model, _kernels(half=self._half_attack)):
            loss, step_size = self._objective.inner(inner, batch.x, batch.labels), float(settings.step)
            x_adv = maximise(
                loss,
                x,
                settings.threat,
                steps=settings.steps,
                step_size=step_size,
                noise=noise,
                start_noise=settings.start_noise,
            )
        return _Attacked(batch, x_adv if rows is None else batch.x.index_copy(0, rows, x_adv), embed)

    def _gradients(self, attacked: list[_Attacked], total: int, masks: torch.Generator) -> Tensor:
        """Set the parameters' gradients to that of the mean loss over the global batch; returns what `take` returns."""
        self.trained.train()
        self.optimizer.zero_grad(set_to_none=False)
        start, found = masks.get_state(), []
        for one in attacked:
            masks.set_state(start)  # every micro-batch uses its rows of the same masks
            draw_masks_from(self.model, masks, one.batch.rows, total)
            found.append(self._backward(one, total))
        sums = torch.stack(found).sum(0)
        self._world.sum([*(p.grad for p in self._parameters if p.grad is not None), sums])
        return sums

    def _backward(self, one: _Attacked, total: int) -> Tensor:
        """Add the gradient of one micro-batch to the parameters' gradients."""
        batch, recompute = one.batch, self.grad_checkpointing
        with recomputed(self.model) if recompute else nullcontext():
            outcome = self._objective.outer(one.embed, batch.x, one.x_adv, batch.labels)
            # the recomputation passes the images through batch norm again
            with buffers_restored(self.model) if recompute else nullcontext():
                (outcome.losses.sum() / self._objective.loss_count(total)).backward()
        return _sums(outcome, batch.labels if outcome.labels is None else outcome.labels)


def _kernels(*, half: bool) -> torch.dtype | None:
    """The precision of folded kernels; None is that of the weights."""
    return torch.bfloat16 if half else None


def _sums(outcome: Outcome, labels: Tensor) -> Tensor:
    terms = [term.detach().sum() for term in outcome.terms.values()]
    correct = [
        terms[0].new_zeros(()) if logits is None else (logits.detach().argmax(1) == labels).sum().to(terms[0].dtype)
        for logits in (outcome.clean, outcome.attacked)
    ]
    return torch.stack([torch.stack(terms).sum(), *correct, *terms])
