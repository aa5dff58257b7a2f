"""The image model: pixels in [0, 1] to embeddings in the anchors' space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.models.backbones import build_backbone, place_backbone
from stages.models.clip_tower import ClipTower, no_tokens
from stages.models.folding import Foldable
from stages.randomness import torch_generator
from stages.uninitialised import Uninitialised


class EmbeddingModel(Foldable):
    """normalise pixels -> backbone -> Linear(features, D, no bias) (Li et al., CVPR 2024, Sec. 3.3).

    Normalization is a layer of the model, so that attacks work on pixels in [0, 1].

    The projection is initialized randomly, or as the identity for a clip: tower of the anchors' width, whose images are aligned
    with the anchors before training.

    Args:
        backbone: see `build_backbone`.
        width: D, the anchors' width.
        image_size: side of the square images.
        mean, std: per channel, of pixels in [0, 1]; a pretrained clip: tower has its own.
        seed: of random weights.
        drop_block: rate of DropBlock; not saved in checkpoints.
        tower, own: see `build_backbone`.

    Attributes:
        backbone_name: name of the backbone without local paths.
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
        with Uninitialised():  # its weights have a generator of their own
            self.projection = nn.Linear(features, width, bias=False)
        if isinstance(self.backbone, ClipTower):
            self.backbone_name = self.backbone.recorded_name or backbone
            mean, std = self.backbone.mean or mean, self.backbone.std or std
        if isinstance(self.backbone, ClipTower) and features == width:
            nn.init.eye_(self.projection.weight)
        else:
            bound = 1 / math.sqrt(features)
            nn.init.uniform_(self.projection.weight, -bound, bound, generator=torch_generator(seed, "weights/projection"))
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32).view(1, 3, 1, 1))
        self._normaliser: tuple[Tensor, Tensor] | None = None

    @property
    def architecture(self) -> dict[str, Any]:
        """Record to rebuild the model: backbone, width, image_size, tower; JSON-able."""
        record = {"backbone": self.backbone_name, "width": self.width, "image_size": self.image_size}
        return {**record, "tower": self.backbone.record} if isinstance(self.backbone, ClipTower) else record

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) float in [0, 1] -> embeddings (N, D), not normalized."""
        embedding: Tensor = self.projection(self.features(x))
        return embedding

    def features(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) float in [0, 1] -> pooled features of the backbone (N, features), before the projection."""
        found: Tensor = self.backbone(self._normalised(x))
        return found

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, H, W) float in [0, 1] -> embeddings (N, D) as of `forward`, and the patches in the same space
        (N, T, D), row by row; neither is normalized. Raises UsageError for a backbone without patch tokens."""
        if not isinstance(self.backbone, ClipTower):
            raise no_tokens(self.backbone_name)
        features, patches = self.backbone.tokens(self._normalised(x))
        return self.projection(features), self.projection(patches)

    def _normalised(self, x: Tensor) -> Tensor:
        scale, shift = self._normaliser or self._normalisation()
        return torch.addcmul(shift, x, scale)

    def fold(self, dtype: torch.dtype | None) -> None:
        """Precompute the normalization."""
        self._normaliser = self._normalisation()

    def unfold(self) -> None:
        """Compute the normalization in every forward pass."""
        self._normaliser = None

    def _normalisation(self) -> tuple[Tensor, Tensor]:
        """(x - mean) / std as one multiplication and addition."""
        scale = self.std.reciprocal()
        return scale, -self.mean * scale


def feature_width(model: nn.Module, width: int) -> int:
    """The width of the features before the projection; of a module that is not ours, that of its embeddings, `width`."""
    return model.projection.in_features if isinstance(model, EmbeddingModel) else width


def place(model: nn.Module, device: torch.device | str) -> None:
    """Move a model to `device`, its convolutions to the fastest memory format there: mostly channels last."""
    model.to(device)
    for module in model.modules():
        if isinstance(module, EmbeddingModel):
            place_backbone(module.backbone, module.image_size)


class Wrapped(nn.Module):
    """An embedding model around another one, `inner`."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    @property
    def as_is(self) -> bool:
        """Whether a classifier takes its outputs as they are, without normalizing them."""
        return isinstance(self.inner, Wrapped) and self.inner.as_is

    @property
    def backbone_name(self) -> str:
        """That of the inner model, '' without one."""
        return str(getattr(self.inner, "backbone_name", ""))

    def embed(self, x: Tensor) -> Tensor:
        """The embeddings (N, D) of the inner model."""
        embeddings: Tensor = self.inner(images_for(self.inner, x))
        return embeddings


def images_for(model: nn.Module, x: Tensor) -> Tensor:
    """`x` (N, 3, H, W) in the layout for `model`: contiguous, which `x.view(len(x), -1)` needs, unless the model is ours."""
    return x if isinstance(model, (EmbeddingModel, Wrapped)) else x.contiguous()
