"""Networks in plain PyTorch with the names of weights of published programs, and files in their layouts."""

from __future__ import annotations

import subprocess
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.exchange.pickle_process import RESULT, convert, reason_of


def convert_here(command: list[str], *, cwd: str, stdin: Any, **_: Any) -> subprocess.CompletedProcess[bytes]:
    """What the process of `pickle_process` does, in this one."""
    try:
        convert(stdin, int(command[-1]), Path(cwd) / RESULT, limited=True)
    except Exception as error:  # as `pickle_process.main`
        return subprocess.CompletedProcess(command, 1, stderr=reason_of(error).encode())
    return subprocess.CompletedProcess(command, 0, stderr=b"")


def trained_like(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, biases and running statistics as training could leave them; in eval mode."""
    draw = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(generator=draw)
            module.running_var.uniform_(0.5, 2, generator=draw)
            module.weight.data.uniform_(0.5, 1.5, generator=draw)
            module.bias.data.normal_(generator=draw)
        elif isinstance(module, nn.Conv2d):
            module.weight.data.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=draw)
            if module.bias is not None:
                module.bias.data.normal_(generator=draw)
    return net.eval()


class ConvBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.C, self.BN = nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)
        self.trunk = nn.Sequential(self.C, self.BN, nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x)


class Conv4(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(ConvBlock(inputs, width) for inputs in (3, width, width, width)))

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x).mean((2, 3))


class ResBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        for at, size in enumerate((inputs, outputs, outputs), start=1):
            setattr(self, f"conv{at}", nn.Conv2d(size, outputs, 3, padding=1, bias=False))
            setattr(self, f"bn{at}", nn.BatchNorm2d(outputs))
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        leaky = nn.LeakyReLU(0.1)
        y = leaky(self.bn1(self.conv1(x)))
        y = leaky(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y)) + self.downsample(x)
        return nn.functional.max_pool2d(leaky(y), 2)


class ResNet12(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for at, (inputs, outputs) in enumerate(((3, 64), (64, 160), (160, 320), (320, 640)), start=1):
            setattr(self, f"layer{at}", nn.Sequential(ResBlock(inputs, outputs)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class AttentionBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        layers = (("c_fc", nn.Linear(width, 4 * width)), ("gelu", QuickGELU()), ("c_proj", nn.Linear(4 * width, width)))
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class ImageTower(nn.Module):
    """OpenAI's vision transformer, of the sizes of `encoders.tiny_config`."""

    def __init__(self, size: int = 16, patch: int = 8, width: int = 8, heads: int = 2, layers: int = 1, out: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.Sequential(*(AttentionBlock(width, heads) for _ in range(layers)))
        self.proj = nn.Parameter(torch.randn(width, out))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.conv1(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(x), 1, -1), patches], 1) + self.positional_embedding
        tokens = self.transformer.resblocks(self.ln_pre(tokens).transpose(0, 1)).transpose(0, 1)  # type: ignore[operator]
        return self.ln_post(tokens[:, 0]) @ self.proj


def image_tower(seed: int = 0) -> ImageTower:
    """One of random weights, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ImageTower().eval()


def save_laat(net: nn.Module, path: Path) -> Path:
    """As the published LAAT program saves its backbone."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    state = {"epoch": 79, "model_state_dict": net.state_dict(), "optimizer_state_dict": optimizer.state_dict()}
    torch.save({**state, "val_robust_acc": 30.5, "best_robust_acc": 30.5}, path)
    return path


def save_tecoa(tower: nn.Module, path: Path) -> Path:
    """As the program of Mao et al. saves the image tower."""
    optimizer = torch.optim.SGD(tower.parameters(), lr=1e-5)
    state: dict[str, Any] = {"epoch": 10, "state_dict": {}, "add_prompter": {}, "best_acc1": torch.tensor(40.0)}
    torch.save({**state, "vision_encoder_state_dict": tower.state_dict(), "optimizer": optimizer.state_dict()}, path)
    return path


def save_open_clip(state: dict[str, Tensor], path: Path, prefix: str = "module.") -> Path:
    """As open_clip's training program saves a model."""
    wrapped = {f"{prefix}{name}": value for name, value in state.items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": wrapped, "optimizer": {"state": {}, "param_groups": []}}, path)
    return path


def cosines(features: Tensor, anchors: Tensor | Sequence[Sequence[float]]) -> Tensor:
    """Of features (N, D) and anchors (C, D)."""
    unit = nn.functional.normalize
    return unit(features, dim=1) @ unit(torch.as_tensor(anchors), dim=1).T
