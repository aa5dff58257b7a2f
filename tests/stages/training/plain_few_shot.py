"""Adversarial querying and the linear classifier written the obvious way: one episode at a time, naive heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.data.by_class import rows_by_class
from stages.data.episodes import sample_episodes
from stages.data.image_set import ImageSet
from stages.models.embedding import EmbeddingModel
from stages.randomness import numpy_generator, torch_generator
from stages.training.settings import TrainSettings
from tests.stages.training.plain_step import PlainConv4

Loss = Callable[[Tensor], Tensor]


class PlainFewShot:
    """A training of the objective of `settings`, from the weights of `model` and of `head`; the random draws are the loop's."""

    def __init__(self, model: EmbeddingModel, head: nn.Module | None, images: ImageSet, settings: TrainSettings) -> None:
        self.settings, self.images = settings, images
        self.network = PlainConv4(model)
        self.learnt = [] if head is None else [value.detach().clone().requires_grad_() for value in head.parameters()]
        parameters = [*self.network.layers.parameters(), *self.learnt]
        self.optimizer = torch.optim.SGD(
            parameters, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )

    def features(self, x: Tensor) -> Tensor:
        return self.network.layers((x - self.network.mean) / self.network.std)

    def losses(self, steps: int) -> Iterator[float]:
        """The loss of each step."""
        for step in range(steps):
            loss = self.loss(step)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            yield float(loss.detach())

    def loss(self, step: int) -> Tensor:
        """Of step `step` (from 0), with the weights as they are."""
        return self._of_classes(step) if self.settings.objective == "at-linear" else self._of_episodes(step)

    def _of_episodes(self, step: int) -> Tensor:
        shape, sizes = self.settings.episode, self.settings
        drawn = sample_episodes(
            rows_by_class(self.images.labels.numpy(), len(self.images.classes)),
            numpy_generator(sizes.seed, f"train/episodes/{step}"),
            episodes=sizes.episodes,
            ways=shape.ways,
            shots=shape.shots,
            queries=shape.queries,
        )
        rows = torch.cat((drawn.support, drawn.query), 2)
        noise = self._noise(rows.numel(), step).view(*rows.shape, *self.images.images.shape[1:])
        labels = torch.tensor([way for way in range(shape.ways) for _ in range(shape.queries)])
        shown = []
        for episode, its_noise in zip(rows, noise, strict=True):
            x = self.images.images[episode].float() / 255
            support, query = x[:, : shape.shots], x[:, shape.shots :].flatten(0, 1)
            self.network.eval()
            with torch.no_grad():
                clean = self.features(support.flatten(0, 1)).view(shape.ways, shape.shots, -1)
            start = its_noise[:, shape.shots :].flatten(0, 1)
            attacked = self._attacked(
                query, start, lambda x_adv, clean=clean: F.cross_entropy(self._logits(clean, x_adv), labels)
            )
            queries = attacked.view(shape.ways, shape.queries, *x.shape[2:])
            shown.append(torch.cat((support, queries), 1))
        self.network.train()
        features = self.features(torch.stack(shown).flatten(0, 2)).view(*rows.shape, -1)
        found = []
        for episode in features:
            logits = self._head(episode[:, : shape.shots], episode[:, shape.shots :].flatten(0, 1))
            found.append(F.cross_entropy(logits, labels))
        return torch.stack(found).mean()

    def _of_classes(self, step: int) -> Tensor:
        seed, size = self.settings.seed, self.settings.batch_size
        epoch, at = divmod(step * size, len(self.images))
        order = torch.randperm(len(self.images), generator=torch_generator(seed, f"train/order/{epoch + 1}"))
        rows = order[at : at + size]
        x, y = self.images.images[rows].float() / 255, self.images.labels[rows]
        weight, bias = self.learnt
        self.network.eval()

        def loss(shown: Tensor) -> Tensor:
            return F.cross_entropy(self.features(shown) @ weight.T + bias, y)

        x_adv = self._attacked(x, self._noise(len(x), step), loss)
        self.network.train()
        return loss(x_adv)

    def _noise(self, count: int, step: int) -> Tensor:
        shape = count, *self.images.images.shape[1:]
        return torch.rand(shape, generator=torch_generator(self.settings.seed, f"train/attack/{step}"))

    def _attacked(self, x: Tensor, noise: Tensor, loss: Loss) -> Tensor:
        eps, step = float(self.settings.eps), float(self.settings.step)
        x_adv = torch.clamp(x + (2 * noise - 1) * eps, 0, 1)
        for _ in range(self.settings.steps):
            x_adv = x_adv.detach().requires_grad_()
            (grad,) = torch.autograd.grad(loss(x_adv), x_adv)
            x_adv = torch.min(torch.max(x_adv + step * grad.sign(), x - eps), x + eps).clamp(0, 1)
        return x_adv.detach()

    def _logits(self, clean: Tensor, x: Tensor) -> Tensor:
        return self._head(clean, self.features(x))

    def _head(self, support: Tensor, queries: Tensor) -> Tensor:
        """Features (N, K, D) and (M, D) -> logits (M, N)."""
        if self.settings.episode_head == "protonet":
            return -torch.stack([(queries - own.mean(0)).square().sum(1) for own in support], 1) / support.shape[2]
        log_ridge, scale, shift = self.learnt
        ways, shots, width = support.shape
        x = torch.cat((support.flatten(0, 1), support.new_ones(ways * shots, 1)), 1)
        y = F.one_hot(torch.arange(ways).repeat_interleave(shots)).to(x.dtype)
        w = torch.linalg.inv(x.T @ x + log_ridge.exp() * torch.eye(width + 1, dtype=x.dtype)) @ x.T @ y
        return scale * torch.cat((queries, queries.new_ones(len(queries), 1)), 1) @ w + shift
