"""The image model: pixels in [0, 1] to embeddings in the anchors' space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.models.backbones import build_backbone, place_backbone
from stages.models.clip_tower import ClipTower
from stages.models.folding import Foldable
from stages.randomness import torch_generator


class EmbeddingModel(Foldable):
    """normalise pixels -> backbone -> Linear(features, D, no bias) (Li et al., CVPR 2024, Sec. 3.3).

    Normalisation is a layer of the model, so that every attack moves in [0, 1] pixel space.

    The projection starts random; where a clip: tower is as wide as the anchors it starts as the identity, so that images are
    aligned with the anchors of the same CLIP model before any training.

    Args:
        backbone: see `build_backbone`.
        width: D, the anchors' width.
        image_size: side of the square images.
        mean, std: per channel, of pixels in [0, 1]; a clip: tower that is read with its weights brings its own instead.
        seed: random weights follow from it.
        drop_block: rate of DropBlock; no part of what a checkpoint keeps.
        tower, own: see `build_backbone`.

    Attributes:
        backbone_name: of the backbone, without a path of this machine.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str,
        width: int,
        image_size: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
        drop_block: float = 0.0,
        tower: dict[str, Any] | None = None,
        own: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone_name, self.width, self.image_size = backbone, width, image_size
        self.backbone = build_backbone(backbone, image_size, seed, drop_block=drop_block, tower=tower, own=own)
        features = int(self.backbone.features)  # type: ignore[arg-type]
        # on the device that the caller chose for new tensors: 'meta' tells shapes without memory
        self.projection = nn.utils.skip_init(nn.Linear, features, width, bias=False, device=torch.get_default_device())
        if isinstance(self.backbone, ClipTower):
            self.backbone_name = self.backbone.recorded_name or backbone
            mean, std = self.backbone.mean or mean, self.backbone.std or std
        if isinstance(self.backbone, ClipTower) and features == width:
            nn.init.eye_(self.projection.weight)
        elif not self.projection.weight.is_meta:
            bound = 1 / math.sqrt(features)
            nn.init.uniform_(self.projection.weight, -bound, bound, generator=torch_generator(seed, "weights/projection"))
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32).view(1, 3, 1, 1))
        self._normaliser: tuple[Tensor, Tensor] | None = None

    @property
    def architecture(self) -> dict[str, Any]:
        """What a checkpoint records to rebuild the model, beside the weights: backbone, width, image_size, tower; JSON-able."""
        record = {"backbone": self.backbone_name, "width": self.width, "image_size": self.image_size}
        return {**record, "tower": self.backbone.record} if isinstance(self.backbone, ClipTower) else record

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) float in [0, 1] -> embeddings (N, D), not normalised; `classifier.unit` does that."""
        scale, shift = self._normaliser or self._normalisation()
        embedding: Tensor = self.projection(self.backbone(torch.addcmul(shift, x, scale)))
        return embedding

    def fold(self, dtype: torch.dtype | None) -> None:
        """Keep what the normalisation needs."""
        self._normaliser = self._normalisation()

    def unfold(self) -> None:
        """Compute it in every forward pass again."""
        self._normaliser = None

    def _normalisation(self) -> tuple[Tensor, Tensor]:
        """(x - mean) / std as one multiplication and addition."""
        scale = self.std.reciprocal()
        return scale, -self.mean * scale


def place(model: nn.Module, device: torch.device | str) -> None:
    """Move a model to `device`, its convolutions into the memory layout that is fastest there: mostly channels last."""
    model.to(device)
    for module in model.modules():
        if isinstance(module, EmbeddingModel):
            place_backbone(module.backbone, module.image_size)


def images_for(model: nn.Module, x: Tensor) -> Tensor:
    """`x` (N, 3, H, W) in the layout for `model`: contiguous, which `x.view(len(x), -1)` needs, unless the model is ours."""
    return x if isinstance(model, EmbeddingModel) else x.contiguous()
