"""A small model that was really trained, and fronts and backs that make it look robust by misleading attacks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from stages.models.embedding import EmbeddingModel
from stages.randomness import torch_generator
from stages.training.loop import Trainer
from tests.stages.training.synthetic import made_up_anchors, made_up_images, quick, small_model

WIDTH = made_up_anchors().vectors.shape[1]


@cache
def trained(objective: str) -> EmbeddingModel:
    """A conv4-8 trained for a few seconds: 'laat' adversarially at 8/255, 'clean' without defence."""
    model = small_model()
    settings = quick(objective=objective, epochs=6, augment=False)
    loop = Trainer(model, torch.from_numpy(made_up_anchors().vectors), made_up_images(per_class=24), settings, "cpu")
    for _ in range(settings.epochs):
        for _ in loop.steps():
            pass
    model.zero_grad(set_to_none=True)
    return model.eval()


class Masked(nn.Module):
    """`model` between a function of the images and one of the embeddings."""

    def __init__(
        self,
        model: nn.Module,
        front: Callable[[Tensor], Tensor] = lambda x: x,
        back: Callable[[Tensor], Tensor] = lambda z: z,
    ) -> None:
        super().__init__()
        self.model, self.front, self.back = model, front, back

    def forward(self, x: Tensor) -> Tensor:
        embeddings: Tensor = self.model(self.front(x))
        return self.back(embeddings)


def noisy(size: float) -> Callable[[Tensor], Tensor]:
    """Other noise in every pass."""
    generator = torch_generator(0, "tests/noisy front")
    return lambda x: x + size * torch.randn(x.shape, generator=generator)


def purified(model: nn.Module, *, of_batch: bool) -> Callable[[Tensor], Tensor]:
    """A gradient step to surer predictions, whose length is set for each image, or for all images of the batch together."""
    anchors = torch.from_numpy(made_up_anchors().vectors)

    def front(x: Tensor) -> Tensor:
        with torch.enable_grad():
            variable = x.detach().requires_grad_(True)
            sure = (normalize(model(variable), dim=1) @ anchors.T).logsumexp(1).sum()
            (grad,) = torch.autograd.grad(sure, variable)
        length = grad.norm() if of_batch else grad.flatten(1).norm(dim=1)[:, None, None, None]
        return (x + (2.0 if of_batch else 0.25) * grad / length).clamp(0, 1)

    return front


MASKS: dict[str, tuple[Callable[[nn.Module], Masked], set[str]]] = {
    # name -> (how it is made, which checks fail at least)
    "saturated embeddings": (
        lambda model: Masked(model, back=lambda z: normalize(torch.tanh(1e3 * z), dim=1)),
        {"gradients", "loss", "accuracy"},
    ),
    "few grey levels": (lambda model: Masked(model, lambda x: (4 * x).round() / 4), {"gradients", "loss", "noise", "accuracy"}),
    "noise": (lambda model: Masked(model, noisy(0.1)), {"clean passes"}),
    "a little noise": (lambda model: Masked(model, noisy(0.003)), {"clean passes"}),
    # gradients are there and point anywhere
    "shattered gradients": (lambda model: Masked(model, lambda x: x + 0.02 * torch.sin(3000 * x)), {"noise", "accuracy"}),
    "statistics of the batch": (lambda model: Masked(model, back=nn.BatchNorm1d(WIDTH, track_running_stats=False)), {"batch"}),
    "purification of the batch": (lambda model: Masked(model, purified(model, of_batch=True)), {"batch"}),
}
