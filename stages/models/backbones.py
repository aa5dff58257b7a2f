"""Image backbones: pixels (normalised) to features. Built by name, so that a checkpoint needs only the name."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.errors import MissingError, UsageError, nearest
from stages.randomness import derive_seed

NAMES = ("conv4-64", "conv4-512", "resnet12")
RESNET12_WIDTHS = (64, 160, 320, 640)


class ConvNorm(nn.Module):
    """Convolution without bias and batch norm; in eval mode one convolution, since the norm is then a fixed affine map.

    Shapes: (N, in, H, W) -> (N, out, H, W).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Batch statistics in training mode, running statistics folded into the kernel in eval mode."""
        norm = self.norm
        if self.training or norm.running_mean is None or norm.running_var is None:
            return norm(self.conv(x))
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        kernel = self.conv.weight * scale[:, None, None, None]
        return F.conv2d(x, kernel, norm.bias - norm.running_mean * scale, padding=self.conv.padding)


class ConvNet(nn.Module):
    """Conv4: four blocks of conv 3x3, batch norm, ReLU, max pool 2; global average pool (Li et al., CVPR 2024, Sec. 4.1).

    Shapes: (N, 3, H, W) with H, W >= 16 -> (N, width).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([ConvNorm(inputs, width, 3) for inputs in (3, width, width, width)])
        self.features = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=(2 / (9 * width)) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """The pooled features."""
        for block in self.blocks:
            # pooling first gives the same values (both are monotone) with a quarter of the ReLU's work
            x = F.relu(F.max_pool2d(block(x), 2))
        return x.mean((2, 3))


class ResidualBlock(nn.Module):
    """Three ConvNorm 3x3 with LeakyReLU 0.1, a 1x1 ConvNorm shortcut, LeakyReLU after the sum, max pool 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([ConvNorm(size, outputs, 3) for size in (inputs, outputs, outputs)])
        self.shortcut = ConvNorm(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H/2, W/2)."""
        first, second, third = self.convs
        y = F.leaky_relu(second(F.leaky_relu(first(x), 0.1)), 0.1)
        # monotone again: pool, then LeakyReLU
        return F.leaky_relu(F.max_pool2d(third(y) + self.shortcut(x), 2), 0.1)


class ResNet12(nn.Module):
    """ResNet-12 with widths 64-160-320-640 (Li et al., CVPR 2024, Sec. 4.1). Shapes: (N, 3, H, W) -> (N, 640)."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *RESNET12_WIDTHS[:-1])
        self.blocks = nn.Sequential(*(ResidualBlock(i, o) for i, o in zip(inputs, RESNET12_WIDTHS, strict=True)))
        self.features = RESNET12_WIDTHS[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        """The pooled features."""
        return self.blocks(x).mean((2, 3))


class TimmBackbone(nn.Module):
    """Any timm model without its classifier, from random weights. Shapes: (N, 3, H, W) -> (N, features)."""

    def __init__(self, name: str, image_size: int) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise MissingError("timm is not installed", "pip install timm") from error
        if not timm.is_model(name):
            raise UsageError(f"timm has no model '{name}'", f"nearest: {nearest(name, timm.list_models())}")
        try:
            self.net = timm.create_model(name, pretrained=False, num_classes=0, img_size=image_size)
        except TypeError:  # convolutional models take any size and no img_size
            self.net = timm.create_model(name, pretrained=False, num_classes=0)
        self.features = self._feature_width(image_size)

    def _feature_width(self, image_size: int) -> int:
        """Asked of the model itself: what timm calls num_features is not always what comes out."""
        self.net.eval()
        try:
            with torch.no_grad():
                width = int(self.net(torch.zeros(1, 3, image_size, image_size)).shape[1])
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(f"this timm model does not take {image_size} px images: {reason}", "try --resize 224") from None
        self.net.train()
        return width

    def forward(self, x: Tensor) -> Tensor:
        """The pooled features."""
        return self.net(x)


def check_backbone_name(name: str) -> None:
    """Raise UsageError, with the nearest names, unless `name` is conv4-WIDTH, resnet12 or timm:NAME."""
    if not re.fullmatch(r"conv4-[1-9]\d{0,4}|resnet12|timm:.+", name):
        raise UsageError(f"unknown backbone '{name}'", f"nearest: {nearest(name, NAMES)}; or timm:NAME")


def build_backbone(name: str, image_size: int, seed: int = 0) -> nn.Module:
    """The backbone called `name` with weights drawn from `seed`; it has `.features`, the width of its output.

    Raises UsageError for an unknown name (nearest shown) and for images too small for it.
    """
    check_backbone_name(name)
    # torch's own initialisers draw from the global stream: lend them one of ours and put theirs back
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights/backbone"))
        if name.startswith("timm:"):
            return TimmBackbone(name.removeprefix("timm:"), image_size)
        if image_size < 16:
            raise UsageError(f"{name} needs images of at least 16 px, these have {image_size}", "enlarge them with --resize 32")
        return ResNet12() if name == "resnet12" else ConvNet(int(name.removeprefix("conv4-")))
