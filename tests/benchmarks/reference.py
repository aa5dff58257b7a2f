"""The plain program: LAAT training written the obvious way (Li et al., CVPR 2024, Sec. 3.3 and 4.1).

Float32, channels first, PyTorch's own layers, batch norm as a layer of its own also in the attack, parameters not frozen,
images augmented one by one with PIL and torchvision in the workers of a DataLoader, and three forward passes in the outer step,
as in the published program. The attack computes gradients for the input only; with `published` those of all parameters too, as
the published program does, which calls `backward`.

It runs in a separate process, so that process-wide settings of `laat` do not affect it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from stages.models.backbones import ResNet12
from stages.models.embedding import EmbeddingModel
from tests.benchmarks.task import Task
from tests.stages.training.plain_step import PlainConv4, plain_attack


class PlainBlock(nn.Module):
    """One residual block of ResNet-12 in PyTorch's own layers, with the weights of ours."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        convs = [*block.convs, block.shortcut]  # type: ignore[misc,list-item]
        layers = [nn.Sequential(_like(one.conv), _filled(nn.BatchNorm2d(one.norm.num_features), one.norm)) for one in convs]
        self.first, self.second, self.third, self.shortcut = layers

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.first(x), 0.1)
        y = F.leaky_relu(self.second(y), 0.1)
        return F.max_pool2d(F.leaky_relu(self.third(y) + self.shortcut(x), 0.1), 2)


class PlainResNet12(nn.Module):
    """The embedding model over ResNet-12 in PyTorch's own layers, with the weights of `model`."""

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        assert isinstance(model.backbone, ResNet12)
        blocks = [PlainBlock(block) for block in model.backbone.blocks]
        self.layers = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.projection = _filled(nn.Linear(model.backbone.features, model.width, bias=False), model.projection)
        self.register_buffer("mean", model.mean.clone())
        self.register_buffer("std", model.std.clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.projection(self.layers((x - self.mean) / self.std)), dim=1)


def _like(conv: nn.Conv2d) -> nn.Module:
    size = (conv.in_channels, conv.out_channels, conv.kernel_size)
    return _filled(nn.Conv2d(*size, padding=conv.padding, bias=False), conv)  # type: ignore[arg-type]


def _filled(empty: nn.Module, layer: nn.Module) -> nn.Module:
    """`empty` with the weights of `layer`, in their precision but not their memory layout."""
    empty.to(next(layer.parameters()).dtype).load_state_dict(layer.state_dict())
    return empty


def plain_network(model: EmbeddingModel) -> nn.Module:
    """The network of `model` (conv4-N or resnet12) from PyTorch's own layers, with the same weights."""
    return PlainResNet12(model) if model.backbone_name == "resnet12" else PlainConv4(model)


def three_pass_loss(model: nn.Module, anchors: Tensor, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
    """A-CE on the attacked images, and the smoothing term from a clean pass and another attacked one; tau 1, beta 1."""
    model.train()
    alignment = F.cross_entropy(model(x_adv) @ anchors.T, y)
    return alignment - F.cosine_similarity(model(x), model(x_adv), dim=1).mean()


def published_attack(
    model: nn.Module, anchors: Tensor, x: Tensor, y: Tensor, noise: Tensor, *, eps: float, steps: int, step: float
) -> Tensor:
    """As `plain_attack` on A-CE, tau 1, by `backward`: the gradients of the parameters are computed and thrown away."""
    model.eval()
    x_adv = torch.clamp(x + (2 * noise - 1) * eps, 0, 1)
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_(True)
        F.cross_entropy(model(x_adv) @ anchors.T, y).backward()
        assert x_adv.grad is not None
        x_adv = torch.min(torch.max(x_adv + step * x_adv.grad.sign(), x - eps), x + eps).clamp(0, 1)
        model.zero_grad()
    return x_adv.detach()


class Pictures(Dataset[tuple[Tensor, int]]):
    """The task's images as PIL images, augmented on access."""

    def __init__(self, task: Task) -> None:
        images = task.image_set()
        self._pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images.images]
        self._labels = images.labels.tolist()
        self._augment = transforms.Compose(
            [
                transforms.RandomCrop(task.size, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.RandomRotation(15),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        return self._augment(self._pictures[at]), self._labels[at]


class PlainProgram:
    """The plain program; call `step` repeatedly."""

    def __init__(self, task: Task, device: str, workers: int) -> None:
        self._task, self._device = task, device
        self.network = plain_network(task.model()).to(device)
        self._anchors = task.anchors().to(device)
        settings = task.settings()
        self._eps, self._step = float(settings.eps), float(settings.step)
        self._optimizer = torch.optim.SGD(
            self.network.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self._loader = DataLoader(
            Pictures(task),
            task.batch,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.startswith("cuda"),
        )
        self._batches = self._endless()

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for x, y in self._loader:
                yield x.to(self._device, non_blocking=True), y.to(self._device, non_blocking=True)

    def step(self, *, published: bool = False) -> Tensor:
        """Run one step on the next batch and return its loss; `published`: see `published_attack`."""
        attack = published_attack if published else plain_attack
        x, y = next(self._batches)
        noise = torch.rand(x.shape, device=self._device)
        x_adv = attack(self.network, self._anchors, x, y, noise, eps=self._eps, steps=self._task.steps, step=self._step)
        loss = three_pass_loss(self.network, self._anchors, x, x_adv, y)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def seconds(self, steps: int, published: bool = False) -> float:
        """Seconds that `steps` steps take."""
        wait(self._device)
        start = time.perf_counter()
        for _ in range(steps):
            self.step(published=published)
        wait(self._device)
        return time.perf_counter() - start

    def embeddings(self, x: np.ndarray) -> np.ndarray:
        """Embeddings of images (N, 3, H, W) in [0, 1], in eval mode."""
        self.network.eval()
        with torch.no_grad():
            found: np.ndarray = self.network(torch.from_numpy(x).to(self._device)).cpu().numpy()
        return found


def wait(device: str) -> None:
    """Wait for all work queued on the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
