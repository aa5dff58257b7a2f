"""Image backbones: normalized pixels to features. Built by name, so that a checkpoint records only the name."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.errors import MissingError, UsageError, nearest
from stages.models.clip_tower import ClipTower, check_tower_name, no_tokens, recorded_tower, tower_has_weights, tower_image_size
from stages.models.drop_block import DropBlock
from stages.models.folding import Foldable
from stages.models.no_images import features_of
from stages.models.own_parts import is_own_backbone, output_width
from stages.models.pooling import max_pool
from stages.models.recompute import run_block
from stages.randomness import derive_seed

NAMES = ("conv4-64", "conv4-512", "resnet12")
RESNET12_WIDTHS = (64, 160, 320, 640)
RESNET12_DROPPING = 2  # DropBlock follows its last two blocks
# on a CPU wide convolutions of maps up to this side are faster channels first, all others channels last
_SMALL_MAP, _WIDE = 5, 512


class ConvNorm(Foldable):
    """Convolution without bias, and batch norm; in eval mode a single convolution, as the norm is then a fixed affine map.

    Shapes: (N, in, H, W) -> (N, out, H, W).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self._layout = torch.preserve_format
        self._folded: tuple[Tensor, Tensor] | None = None

    def place(self, side: int) -> None:
        """Set the memory layout that is fastest for maps of `side` on the device of the weights."""
        first = side <= _SMALL_MAP and self.conv.out_channels >= _WIDE and self.conv.weight.device.type == "cpu"
        self._layout = torch.contiguous_format if first else torch.preserve_format
        self.to(memory_format=torch.contiguous_format if first else torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Batch statistics in training mode, running statistics folded into the kernel in eval mode."""
        x = x.to(memory_format=self._layout)
        if self.training:
            return self.norm(self.conv(x))
        if self._folded is None:
            kernel, bias = self._fold()
        else:
            kernel, bias = self._folded
            x = x.to(kernel.dtype)
        return F.conv2d(x, kernel, bias, padding=self.conv.padding)

    def fold(self, dtype: torch.dtype | None) -> None:
        """Compute kernel and bias for the next forward passes."""
        kernel, bias = self._fold()
        self._folded = kernel.to(dtype or kernel.dtype), bias.to(dtype or bias.dtype)

    def unfold(self) -> None:
        """Compute them in every forward pass."""
        self._folded = None

    def _fold(self) -> tuple[Tensor, Tensor]:
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return self.conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


class ConvNet(nn.Module):
    """Conv4: four blocks of conv 3x3, batch norm, ReLU, max pool 2; global average pool (Li et al., CVPR 2024, Sec. 4.1).

    Shapes: (N, 3, H, W) with H, W >= 16 -> (N, width).
    """

    grad_checkpointing = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([ConvNorm(inputs, width, 3) for inputs in (3, width, width, width)])
        self.features = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=(2 / (9 * width)) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """The pooled features."""
        for layer in self.blocks:

            def block(x: Tensor, layer: nn.Module = layer) -> Tensor:
                # pooling first gives the same values (both are monotone) with a quarter of the ReLU's work
                return F.relu_(max_pool(layer(x)))

            x = run_block(block, x, recompute=self.grad_checkpointing)
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
        # in place where autograd needs the result alone
        y = F.leaky_relu_(first(x), 0.1)
        y = third(F.leaky_relu_(second(y), 0.1)).add_(self.shortcut(x))
        # monotone too: pool first
        return F.leaky_relu_(F.max_pool2d(y, 2), 0.1)


class ResNet12(nn.Module):
    """ResNet-12 with widths 64-160-320-640 (Li et al., CVPR 2024, Sec. 4.1). Shapes: (N, 3, H, W) -> (N, 640).

    Args:
        image_size: side of the images; DropBlock's squares are a sixteenth of it, as wide as the last map (2 at 32 px, 5 at
            80 px).
        drop_block: rate of DropBlock in the last two blocks.
    """

    grad_checkpointing = False

    def __init__(self, image_size: int = 32, drop_block: float = 0.0) -> None:
        super().__init__()
        widths = (3, *RESNET12_WIDTHS)
        self.features = widths[-1]
        self.blocks = nn.Sequential(*(ResidualBlock(inputs, outputs) for inputs, outputs in pairwise(widths)))
        self.drops = nn.ModuleList([DropBlock(drop_block, image_size // 16) for _ in range(RESNET12_DROPPING)])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        """The pooled features."""
        undropped = len(self.blocks) - RESNET12_DROPPING
        for at, block in enumerate(self.blocks):
            x = run_block(block, x, recompute=self.grad_checkpointing)
            if at >= undropped:
                # outside of what is recomputed: the masks are sampled once
                x = self.drops[at - undropped](x)
        return x.mean((2, 3))


class NetBackbone(nn.Module):
    """A module from elsewhere. Shapes: (N, 3, S, S) -> (N, features).

    Args:
        net: a timm model without its classifier, or a module of the user.
        image_size: S.
        name: of the backbone.
    """

    def __init__(self, net: nn.Module, image_size: int, name: str) -> None:
        super().__init__()
        self.net, self.own = net, is_own_backbone(name)
        # asked of the model itself: what timm calls num_features is not always what comes out
        self.features = output_width(net, image_size, name)

    def forward(self, x: Tensor) -> Tensor:
        """The pooled features; a module of the user gets contiguous images, see `embedding.images_for`."""
        return features_of(self.net, x.contiguous() if self.own else x)


def _timm_model(name: str, image_size: int) -> nn.Module:
    """A timm model without its classifier, with random weights. Raises UsageError for an unknown name."""
    try:
        import timm
    except ImportError as error:
        raise MissingError("timm is not installed", "pip install timm") from error
    if not timm.is_model(name):
        raise UsageError(f"timm has no model '{name}'", f"nearest: {nearest(name, timm.list_models())}")
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, img_size=image_size)
    except TypeError:  # convolutional models take any size and no img_size
        return timm.create_model(name, pretrained=False, num_classes=0)


def place_backbone(backbone: nn.Module, image_size: int) -> None:
    """Set the memory layout of every layer to the one that is fastest on the backbone's device."""
    if isinstance(backbone, NetBackbone) and backbone.own:
        return
    backbone.to(memory_format=torch.channels_last)
    if isinstance(backbone, ConvNet | ResNet12):
        for at, block in enumerate(backbone.blocks):
            for layer in block.modules():
                if isinstance(layer, ConvNorm):
                    layer.place(image_size >> at)


def check_backbone_name(name: str) -> None:
    """Raise UsageError, with the nearest names, unless `name` is conv4-WIDTH, resnet12, timm:NAME, clip:NAME[/TAG] or
    package.module:factory.

    Imports nothing: whether timm has the model, open_clip the tag and the package the factory is checked when it is built.
    """
    if name.startswith("clip:"):
        check_tower_name(name)
    elif not re.fullmatch(r"conv4-[1-9]\d{0,4}|resnet12|timm:.+", name) and not is_own_backbone(name):
        others = "timm:NAME, clip:NAME[/TAG], package.module:factory"
        raise UsageError(f"unknown backbone '{name}'", f"nearest: {nearest(name, NAMES)}; or {others}")


def check_backbone_to_train(name: str, *, tokens: bool = False) -> None:
    """As `check_backbone_name`; also refuses timm:NAME.TAG, because the weights of timm's tags are not loaded, and where
    `tokens` are needed all but towers.

    A checkpoint may name one: earlier versions trained such a model from random weights.
    """
    check_backbone_name(name)
    architecture, _, tag = name.partition(".")
    if name.startswith("timm:") and tag:
        raise UsageError(
            f"'{name}' names the pretrained weights '{tag}', and timm models are trained from random weights",
            f"use --backbone {architecture}, or load the weights in a function of your own and give its package.module:factory",
        )
    if tokens and not name.startswith("clip:"):
        raise no_tokens(name)


def initial_weights(name: str) -> str:
    """The weights that training starts from with backbone `name`, in words; '' for a module of the user."""
    if is_own_backbone(name):
        return ""
    return "pretrained weights" if name.startswith("clip:") and tower_has_weights(name) else "random weights"


def required_image_size(name: str) -> int | None:
    """The image size in pixels that backbone `name` requires; None when it takes any. Reads no weights.

    Raises UsageError for an unknown name or tag, InputError or MissingError for a configuration that cannot be read.
    """
    check_backbone_name(name)
    return tower_image_size(name) if name.startswith("clip:") else None


def recorded_backbone(name: str) -> str:
    """`name` as artifacts record it, without a local path."""
    return recorded_tower(name) if name.startswith("clip:") else name


def build_backbone(
    name: str,
    image_size: int,
    seed: int = 0,
    *,
    drop_block: float = 0.0,
    tower: dict[str, Any] | None = None,
    own: nn.Module | None = None,
) -> nn.Module:
    """The backbone called `name`; its attribute `features` is the width of its output.

    Args:
        name: see `check_backbone_name`.
        image_size: side of the images.
        seed: of the random weights.
        drop_block: rate of DropBlock, in [0, 1).
        tower: the record of an image tower (`ClipTower.record`) to build clip:NAME from, with random weights and without
            looking anything up; None reads or downloads the named one.
        own: the module that package.module:factory returns, see `load_backbone`; such a name is never imported here.

    Raises UsageError for an unknown name, images of a size that it does not take, and a drop rate where there is no DropBlock;
    for clip:NAME see also `ClipTower.named`.
    """
    if tower is None:
        check_backbone_name(name)
    if not 0 <= drop_block < 1:
        raise UsageError(f"the drop rate of DropBlock is {drop_block:g}", "choose one of 0 or more and below 1")
    if drop_block and name != "resnet12":
        raise UsageError(f"{name} has no DropBlock", "leave out --drop-block, or use --backbone resnet12")
    if own is not None:
        return NetBackbone(own, image_size, name)
    if is_own_backbone(name):
        raise UsageError(
            f"'{name}' is a backbone of your own, and code is not imported from a name in a file", "hand in the module"
        )
    # torch's initializers use the global generator: seed it, and restore it afterwards
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights/backbone"))
        if name.startswith("clip:"):
            return ClipTower.named(name, image_size) if tower is None else ClipTower(tower, image_size)
        if name.startswith("timm:"):
            return NetBackbone(_timm_model(name.removeprefix("timm:"), image_size), image_size, name)
        if image_size < 16:
            raise UsageError(f"{name} needs images of at least 16 px, these have {image_size}", "enlarge them with --resize 32")
        return ResNet12(image_size, drop_block) if name == "resnet12" else ConvNet(int(name.removeprefix("conv4-")))
