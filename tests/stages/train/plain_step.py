"""One LAAT step written the obvious way, to compare the training loop with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.models.backbones import ConvNet
from stages.models.embedding import EmbeddingModel


class PlainConv4(nn.Module):
    """The embedding model over Conv4 from PyTorch's own layers, with the weights of `model`."""

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        assert isinstance(model.backbone, ConvNet)
        layers: list[nn.Module] = []
        for block in model.backbone.blocks:
            conv = nn.Conv2d(block.conv.in_channels, block.conv.out_channels, 3, padding=1, bias=False)
            norm = nn.BatchNorm2d(block.conv.out_channels)
            conv.load_state_dict(block.conv.state_dict())
            norm.load_state_dict(block.norm.state_dict())
            layers += [conv, norm, nn.ReLU(), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.projection = nn.Linear(model.backbone.features, model.width, bias=False)
        self.projection.load_state_dict(model.projection.state_dict())
        self.mean, self.std = model.mean.clone(), model.std.clone()
        self.to(model.projection.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.projection(self.layers((x - self.mean) / self.std)), dim=1)


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
) -> Tensor:
    """PGD on the cross-entropy of cosines, model in eval mode, start at `noise` (uniform on [0, 1)) in the ball."""
    model.eval()
    x_adv = torch.clamp(x + (2 * noise - 1) * eps, 0, 1)
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_(True)
        loss = F.cross_entropy(model(x_adv) @ anchors.T / tau, y)
        (grad,) = torch.autograd.grad(loss, x_adv)
        x_adv = torch.min(torch.max(x_adv + step * grad.sign(), x - eps), x + eps).clamp(0, 1)
    return x_adv.detach()


def plain_laat_loss(
    model: nn.Module, anchors: Tensor, x: Tensor, x_adv: Tensor, y: Tensor, *, tau: float = 1.0, beta: float = 1.0
) -> Tensor:
    """Cross-entropy on the attacked images plus beta times minus the mean cosine of both embeddings, model in train mode."""
    model.train()
    attacked = model(x_adv)
    clean = model(x)
    return F.cross_entropy(attacked @ anchors.T / tau, y) - beta * F.cosine_similarity(clean, attacked, dim=1).mean()
