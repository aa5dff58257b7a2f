"""The image model: pixels in [0, 1] to unit embeddings in the anchors' space."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.models.backbones import build_backbone
from stages.randomness import torch_generator


class EmbeddingModel(nn.Module):
    """normalise -> backbone -> Linear(features, D, no bias) -> L2 normalise (Li et al., CVPR 2024, Sec. 3.3).

    Normalisation is a layer of the model, so that every attack moves in [0, 1] pixel space.

    Args:
        backbone: see `build_backbone`.
        width: D, the anchors' width.
        image_size: side of the square images.
        mean, std: per channel, of pixels in [0, 1].
        seed: the weights follow from it.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: str, width: int, image_size: int, *, mean: Sequence[float], std: Sequence[float], seed: int = 0
    ) -> None:
        super().__init__()
        self.backbone_name, self.width, self.image_size = backbone, width, image_size
        self.backbone = build_backbone(backbone, image_size, seed)
        features = int(self.backbone.features)  # type: ignore[arg-type]
        self.projection = nn.utils.skip_init(nn.Linear, features, width, bias=False)
        bound = 1 / math.sqrt(features)
        nn.init.uniform_(self.projection.weight, -bound, bound, generator=torch_generator(seed, "weights/projection"))
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32).view(1, 3, 1, 1))

    def placed(self, device: str) -> EmbeddingModel:
        """This model on `device`, channels last, the layout that convolutions are fastest in."""
        self.to(device)
        self.to(memory_format=torch.channels_last)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) float in [0, 1] -> unit embeddings (N, D)."""
        features = self.backbone((x - self.mean) / self.std)
        return F.normalize(self.projection(features), dim=1)
