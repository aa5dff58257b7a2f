"""One optimisation step on one global batch: attack, gradients, descend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.attacks.gradient import maximise
from stages.models.classifier import frozen, unit
from stages.models.drop_block import draw_masks_from
from stages.models.embedding import EmbeddingModel
from stages.models.folding import folded
from stages.train.awp import WeightPerturbation, running_statistics_kept
from stages.train.ema import WeightAverage
from stages.train.objectives import Embed, Objective, Outcome
from stages.train.settings import TrainSettings
from stages.train.whole_batch import WholeBatch, norms_in_training
from stages.world import World


@dataclass(frozen=True)
class Piece:
    """A part of the batch that goes through the model at once.

    Attributes:
        x: images (n, 3, H, W) in [0, 1].
        noise: uniform on [0, 1), as `x`, where their attack starts; None when nothing is attacked.
        labels: (n,).
        rows: which images of the global batch these are.
    """

    x: Tensor
    noise: Tensor | None
    labels: Tensor
    rows: slice


class Stepper:
    """Takes optimisation steps.

    The gradient is the mean over the global batch, whatever the number of processes and of pieces.

    Args:
        model: on the device; with `world.size` > 1 its batch norms are synchronised already.
        objective: what is descended.
        settings: see `TrainSettings`.
        world: the processes that share each batch.
    """

    def __init__(self, model: EmbeddingModel, objective: Objective, settings: TrainSettings, world: World) -> None:
        self.model, self._objective, self._settings, self._world = model, objective, settings, world
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(
            self._parameters, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self._awp = WeightPerturbation(model, settings.awp) if settings.awp else None
        self.average = WeightAverage(model, settings.ema) if settings.ema else None

    def step(self, pieces: Iterable[Piece], total: int, rate: float, masks: torch.Generator) -> Tensor:
        """One step at learning rate `rate`.

        Args:
            pieces: this process's part of the batch.
            total: images of the global batch.
            masks: for what the model itself draws (DropBlock).

        Returns:
            Sums over the global batch, on the device: loss, images right when clean, when attacked, then each term of
            the objective.
        """
        attacked = [(piece, self._attacked(piece)) for piece in pieces]
        if self._awp is not None:
            state = masks.get_state()
            with running_statistics_kept(self.model):
                self._descent(attacked, total, masks)
            masks.set_state(state)  # both passes meet the same masks
            self._awp.perturb([parameter.grad for parameter in self._parameters])
        sums = self._descent(attacked, total, masks)
        if self._settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        if self._awp is not None:
            self._awp.restore()
        if self.average is not None:
            self.average.update()
        return sums

    def rehearse(self, piece: Piece, masks: torch.Generator) -> None:
        """Everything of a step that needs memory, on one piece; the weights stay as they are."""
        self._descent([(piece, self._attacked(piece))], len(piece.x), masks)

    def embed(self, x: Tensor) -> Tensor:
        """The model on `x` (N, 3, H, W), matrix products in the precision of the settings -> (N, D) float32."""
        half = self._settings.precision == "bf16"
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=half):
            embeddings = self.model(x)
        return unit(embeddings)

    def _attacked(self, piece: Piece) -> Tensor:
        """The inner maximisation: model in eval mode, parameters frozen, uniform random start in the ball."""
        if piece.noise is None or not len(piece.x):
            return piece.x
        settings = self._settings
        dtype = torch.bfloat16 if settings.precision == "bf16" else None
        with frozen(self.model), folded(self.model, dtype):
            loss = self._objective.inner(self.embed, piece.x, piece.labels)
            return maximise(
                loss, piece.x, settings.threat, steps=settings.steps, step_size=float(settings.step), noise=piece.noise
            )

    def _descent(self, pieces: list[tuple[Piece, Tensor]], total: int, masks: torch.Generator) -> Tensor:
        """Leave the gradient of the mean loss over the global batch in the parameters; returns what `step` returns."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=False)
        found: dict[int, Tensor] = {}

        def outer(at: tuple[Piece, Tensor], embed: Embed) -> Tensor:
            piece, x_adv = at
            draw_masks_from(self.model, masks, piece.rows, total)
            outcome = self._objective.outer(embed, piece.x, x_adv, piece.labels)
            found[id(piece)] = self._sums(outcome, piece.labels)
            return outcome.losses.sum() / total

        if len(pieces) > 1 and norms_in_training(self.model):
            WholeBatch(self.model, self.embed, self._world, total, masks).run(pieces, outer)
        else:
            start = masks.get_state()
            for at in pieces:
                masks.set_state(start)  # every piece takes its part of the same masks
                outer(at, self.embed).backward()
        sums = torch.stack(list(found.values())).sum(0)
        self._world.sum([*(p.grad for p in self._parameters if p.grad is not None), sums])
        return sums

    def _sums(self, outcome: Outcome, labels: Tensor) -> Tensor:
        terms = [term.detach().sum() for term in outcome.terms.values()]
        right = [
            terms[0].new_zeros(()) if logits is None else (logits.detach().argmax(1) == labels).sum().to(terms[0].dtype)
            for logits in (outcome.clean, outcome.attacked)
        ]
        return torch.stack([torch.stack(terms).sum(), *right, *terms])
