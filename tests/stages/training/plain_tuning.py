"""Fine-tuning of a CLIP image tower written the obvious way: open_clip's tower, plain losses, nothing remembered.

Draws are those that `stages.randomness` and `stages.ball` document, made here once more.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from stages.data.image_set import ImageSet
from stages.training.settings import TrainSettings


class PlainTower(nn.Module):
    """Normalized pixels, open_clip's image tower, and the projection of `model`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.tower, self.projection = copy.deepcopy(model.backbone.net), copy.deepcopy(model.projection)
        self.mean, self.std = model.mean.clone(), model.std.clone()

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.tower((x - self.mean) / self.std))


@dataclass(frozen=True)
class Losses:
    """Of an objective: `frozen` is the original tower, `text` (C, D) are unit anchors, `scale` is the logit scale."""

    name: str
    frozen: nn.Module
    text: Tensor
    scale: float

    def attack(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """What is attacked."""
        if self.name == "fare":
            return ((model(x_adv) - self.frozen(x).detach()) ** 2).sum(1).mean()
        if self.name == "agft":
            soft = F.softmax(0.4 * 1.8 * self.logits(self.frozen(x)), dim=1).detach()
            return F.cross_entropy(1.8 * self.logits(model(x_adv)), soft)
        return F.cross_entropy(self.logits(model(x_adv)), y)

    def outer(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """What is trained on."""
        loss = self.attack(model, x, x_adv, y)
        if self.name == "pmg-aft":
            attacked = F.log_softmax(self.logits(model(x_adv)), dim=1)
            original = F.softmax(self.logits(self.frozen(x_adv)), dim=1).detach()
            clean = F.softmax(self.logits(model(x)), dim=1)
            loss = loss + F.kl_div(attacked, original, reduction="batchmean") + F.kl_div(attacked, clean, reduction="batchmean")
        return loss

    def logits(self, embedding: Tensor) -> Tensor:
        return self.scale * F.cosine_similarity(embedding[:, None], self.text[None], dim=2)


def stream(seed: int, purpose: str) -> torch.Generator:
    """Seeded with the first 63 bits of a hash of the seed and the purpose."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def random_start(x: Tensor, noise: Tensor, eps: float, norm: str) -> Tensor:
    """Uniform in the ball, from noise uniform on [0, 1): in L2 the direction of normal variables at the quantiles `noise`, at
    the distance eps u^(1 / D), u the quantile of their squared length, which is chi-squared with D degrees of freedom."""
    if norm == "linf":
        return torch.min(torch.max(x + (2 * noise - 1) * eps, x - eps), x + eps).clamp(0, 1)
    moved = []
    for one in noise.double():
        normal = torch.distributions.Normal(0, 1).icdf(one.clamp(min=2**-25))  # zero has no quantile
        quantile = stats.chi2.cdf(float(normal.square().sum()), normal.numel())
        moved.append(normal / normal.norm() * eps * quantile ** (1 / normal.numel()))
    return x + torch.stack(moved).to(x)  # the pictures have no pixel near 0 or 1


def plain_tuning(plain: PlainTower, losses: Losses, images: ImageSet, settings: TrainSettings) -> Iterator[float]:
    """The loss of each step of a run without augmentation; `plain` is trained. The attack has FARE's momentum
    of 0.9."""
    optimizer = torch.optim.SGD(plain.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay)
    eps, step_size, step = float(settings.eps), float(settings.step), 0
    for epoch in range(settings.epochs):
        order = torch.randperm(len(images), generator=stream(settings.seed, f"train/order/{epoch + 1}"))
        for rows in order.split(settings.batch_size):
            x, y = images.images[rows].float() / 255, images.labels[rows]
            noise = torch.rand(x.shape, generator=stream(settings.seed, f"train/attack/{step}"))
            x_adv, velocity = random_start(x, noise, eps, settings.norm), torch.zeros_like(x)
            for _ in range(settings.steps):
                x_adv = x_adv.detach().requires_grad_()
                loss = losses.attack(plain.eval(), x, x_adv, y)
                (grad,) = torch.autograd.grad(loss, x_adv)
                if settings.norm == "linf":
                    velocity = (0.9 * velocity + grad.sign()).sign()
                    x_adv = torch.min(torch.max(x_adv + step_size * velocity, x - eps), x + eps).clamp(0, 1)
                else:
                    delta = x_adv + step_size * grad / grad.flatten(1).norm(dim=1)[:, None, None, None] - x
                    x_adv = x + delta * (eps / delta.flatten(1).norm(dim=1)[:, None, None, None]).clamp(max=1)
            loss = losses.outer(plain.train(), x, x_adv.detach(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            yield float(loss.detach())
