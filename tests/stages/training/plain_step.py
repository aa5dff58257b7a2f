"""Training written the obvious way, to compare the training loop with: plain layers, plain losses, one image at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.data.batches.augment import Augmentation
from stages.data.image_set import ImageSet
from stages.models.backbones import ConvNet
from stages.models.embedding import EmbeddingModel
from stages.randomness import torch_generator
from stages.training.settings import TrainSettings
from tests.stages.data.plain_augment import augmented_by_hand


class PlainConv4(nn.Module):
    """The embedding model over Conv4 from PyTorch's own layers, with the weights of `model`."""

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        assert isinstance(model.backbone, ConvNet)
        layers: list[nn.Module] = []
        for block in model.backbone.blocks:
            conv = nn.Conv2d(block.conv.in_channels, block.conv.out_channels, 3, padding=1, bias=False)
            layers += [_filled(conv, block.conv), _filled(nn.BatchNorm2d(conv.out_channels), block.norm)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        projection = nn.Linear(model.backbone.features, model.width, bias=False)
        self.projection = _filled(projection, model.projection)
        self.register_buffer("mean", model.mean.clone())
        self.register_buffer("std", model.std.clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.projection(self.layers((x - self.mean) / self.std)), dim=1)


def _filled(empty: nn.Module, layer: nn.Module) -> nn.Module:
    """`empty` with the weights of `layer`, in their precision."""
    filled = empty.to(next(layer.parameters()).dtype)
    filled.load_state_dict(layer.state_dict())
    return filled


def plain_attack(
    model: nn.Module,
    anchors: Tensor,
    x: Tensor,
    y: Tensor,
    noise: Tensor,
    *,
    eps: float,
    steps: int,
    step: float,
    tau: float = 1.0,
    objective: str = "laat",
    start_noise: float | None = None,
) -> Tensor:
    """PGD on the objective's own attack loss, model in eval mode, start at `noise` (uniform on [0, 1)) in the ball; with
    `start_noise` N-FGSM, which starts that many eps wide and stays in the pixel range alone."""
    model.eval()
    clean = F.softmax(model(x) @ anchors.T / tau, dim=1).detach() if objective == "trades" else None
    lowest, highest = (x - eps, x + eps) if start_noise is None else (torch.zeros_like(x), torch.ones_like(x))
    x_adv = torch.clamp(x + (2 * noise - 1) * (start_noise or 1.0) * eps, 0, 1)
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_(True)
        embedding = model(x_adv)
        logits = embedding @ anchors.T / tau
        if clean is not None:
            loss = F.kl_div(F.log_softmax(logits, dim=1), clean, reduction="batchmean")
        elif objective in PLAIN_DISTANCES:
            loss = PLAIN_DISTANCES[objective](embedding, anchors[y]).mean()
        else:
            loss = F.cross_entropy(logits, y)
        (grad,) = torch.autograd.grad(loss, x_adv)
        x_adv = torch.min(torch.max(x_adv + step * grad.sign(), lowest), highest).clamp(0, 1)
    return x_adv.detach()


PLAIN_DISTANCES = {
    "cos": lambda embedding, anchor: -F.cosine_similarity(embedding, anchor, dim=1),
    "acos": lambda embedding, anchor: torch.acos(F.cosine_similarity(embedding, anchor, dim=1)),
    "l2": lambda embedding, anchor: (embedding - anchor).norm(dim=1),
}


def plain_laat_loss(
    model: nn.Module, anchors: Tensor, x: Tensor, x_adv: Tensor, y: Tensor, *, tau: float = 1.0, beta: float = 1.0
) -> Tensor:
    """Cross-entropy on the attacked images plus beta times minus the mean cosine of both embeddings, model in train mode."""
    model.train()
    attacked = model(x_adv)
    clean = model(x)
    return F.cross_entropy(attacked @ anchors.T / tau, y) - beta * F.cosine_similarity(clean, attacked, dim=1).mean()


def plain_loss(
    objective: str, model: nn.Module, anchors: Tensor, x: Tensor, x_adv: Tensor, y: Tensor, *, tau: float, beta: float
) -> Tensor:
    """The loss of any objective, model in train mode."""
    model.train()
    if objective == "laat":
        return plain_laat_loss(model, anchors, x, x_adv, y, tau=tau, beta=beta)
    if objective == "at":
        return F.cross_entropy(model(x_adv) @ anchors.T / tau, y)
    if objective == "clean":
        return F.cross_entropy(model(x) @ anchors.T / tau, y)
    if objective == "trades":
        clean = model(x) @ anchors.T / tau
        attacked = model(x_adv) @ anchors.T / tau
        kl = F.kl_div(F.log_softmax(attacked, dim=1), F.softmax(clean, dim=1), reduction="batchmean")
        return F.cross_entropy(clean, y) + beta * kl
    return PLAIN_DISTANCES[objective](model(x_adv), anchors[y]).mean()


def plain_perturbation(model: nn.Module, gamma: float, loss: Callable[[nn.Module], Tensor]) -> dict[str, Tensor]:
    """Adversarial weight perturbation as published: one SGD step up by a copy of the model, brought to gamma |w|."""
    proxy = copy.deepcopy(model)
    optimizer = torch.optim.SGD(proxy.parameters(), lr=0.01)
    (-loss(proxy)).backward()
    optimizer.step()
    moves = {}
    for (name, old), new in zip(model.named_parameters(), proxy.parameters(), strict=True):
        if old.dim() > 1:
            difference = (new - old).detach()
            moves[name] = gamma * old.detach().norm() / (difference.norm() + 1e-20) * difference
    return moves


def plain_average(average: nn.Module, newest: nn.Module, decay: float, step: int) -> None:
    """The exponential moving average of everything in the model, with a smaller decay at first."""
    decay = min(decay, (1 + step) / (10 + step))
    values = newest.state_dict()
    for name, value in average.state_dict().items():
        values[name] = decay * value + (1 - decay) * values[name] if value.is_floating_point() else values[name]
    average.load_state_dict(values)


def plain_rate(settings: TrainSettings, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step (from 0) by the schedules 'step' and 'cosine', with warm-up."""
    if settings.schedule == "step":
        rate = settings.lr if step // steps_per_epoch + 1 <= math.ceil(0.6 * settings.epochs) else 0.1 * settings.lr
    else:
        rate = settings.lr * 0.5 * (1 + math.cos(math.pi * step / (steps_per_epoch * settings.epochs)))
    return rate * min(1, (step + 1) / (settings.warm_up * steps_per_epoch)) if settings.warm_up else rate


def plain_training(
    plain: PlainConv4, anchors: Tensor, images: ImageSet, settings: TrainSettings
) -> Iterator[tuple[float, PlainConv4]]:
    """All steps of a run, `plain` being trained: after each its loss, and the averaged model.

    The random draws are those of the loop: their distributions are tested elsewhere.
    """
    beta = settings.beta if settings.beta is not None else {"laat": 1.0, "trades": 6.0}.get(settings.objective, 0.0)
    optimizer = torch.optim.SGD(
        plain.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    average = copy.deepcopy(plain)
    steps_per_epoch = math.ceil(len(images) / settings.batch_size)
    for step in range(settings.epochs * steps_per_epoch):
        epoch, within = divmod(step, steps_per_epoch)
        order = torch.randperm(len(images), generator=torch_generator(settings.seed, f"train/order/{epoch + 1}"))
        rows = order[within * settings.batch_size : (within + 1) * settings.batch_size]
        x, y = plain_batch(images, rows, settings, step), images.labels[rows]
        x_adv = x
        if settings.objective != "clean":
            noise = torch.rand(x.shape, generator=torch_generator(settings.seed, f"train/attack/{step}"))
            x_adv = plain_attack(
                plain,
                anchors,
                x,
                y,
                noise,
                eps=float(settings.eps),
                steps=settings.steps,
                step=float(settings.step),
                tau=settings.temperature,
                objective=settings.objective,
                start_noise=settings.start_noise,
            )
        loss_of = partial(
            plain_loss, settings.objective, anchors=anchors, x=x, x_adv=x_adv, y=y, tau=settings.temperature, beta=beta
        )
        moves = plain_perturbation(plain, settings.awp, loss_of) if settings.awp else {}
        with torch.no_grad():
            for name, move in moves.items():
                plain.get_parameter(name).add_(move)
        loss = loss_of(plain)
        optimizer.zero_grad()
        loss.backward()
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(plain.parameters(), settings.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = plain_rate(settings, step, steps_per_epoch)
        optimizer.step()
        with torch.no_grad():
            for name, move in moves.items():
                plain.get_parameter(name).sub_(move)
        plain_average(average, plain, settings.ema, step)
        yield float(loss.detach()), average


def plain_batch(images: ImageSet, rows: Tensor, settings: TrainSettings, step: int) -> Tensor:
    """The images of a step, augmented one by one, float32 (n, 3, H, W) in [0, 1]."""
    if not settings.augment:
        return images.images[rows].float() / 255
    augmentation = Augmentation(settings.crop_padding, True, settings.rotation, settings.jitter)
    drawn = augmentation.sample(len(rows), torch_generator(settings.seed, f"train/augment/{step}"))
    done = [
        torch.from_numpy(
            augmented_by_hand(images.images[row].numpy(), settings.crop_padding, drawn.part(slice(at, at + 1))).copy()
        )
        for at, row in enumerate(rows.tolist())
    ]
    return torch.stack(done).float() / 255
