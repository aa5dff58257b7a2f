"""Fine-tuning of a CLIP image tower that also keeps the attention maps of its patches to the text of the class."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

from stages.errors import UsageError
from stages.training.objectives.objective import Objective, Outcome, a_ce

if TYPE_CHECKING:
    from torch import Tensor

    from stages.training.embed import Embed


class TgaZsr(Objective):
    """A-CE(x_adv, y) + alpha |M(x_adv) - M_0(x)| + beta |M(x) - M_0(x)|, M_0 of the reference; the attack is on the A-CE alone
    (TGA-ZSR: Yu et al., NeurIPS 2024).

    M are the attention maps of `attention_map`, H * W values an image: the Euclidean norm of their difference, and with it the
    published alpha and beta, depends on the size of the images, 224 px there.

    As the paper writes, each token is normalized over its D channels; the published program normalizes each channel over the
    tokens of the image, with the class token.
    """

    terms = ("A-CE", "attention, attacked", "attention, clean")
    reference = True
    tokens = True
    default_tau = None
    alpha: float = 0.08  # Yu et al., NeurIPS 2024
    default_beta = 0.05
    help = "tecoa + attention maps near the reference's"

    def outer(self, embed: Embed, x: Tensor, x_adv: Tensor, labels: Tensor) -> Outcome:
        """Two forward passes of the model, one of the reference on the clean images."""
        from torch.nn.functional import normalize

        attacked, clean = embed.tokens(x_adv), embed.tokens(x)
        target = self._map(embed.reference.tokens(x)[1], x, labels)
        logits = self.logits(normalize(attacked[0], dim=1))
        terms = {
            "A-CE": a_ce(logits, labels),
            "attention, attacked": self.alpha * _distance(self._map(attacked[1], x, labels), target),
            "attention, clean": self.beta * _distance(self._map(clean[1], x, labels), target),
        }
        return Outcome(terms, self.logits(normalize(clean[0].detach(), dim=1)), logits)

    def _map(self, patches: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        height, width = x.shape[2:]
        return attention_map(patches, self.anchors[labels], (height, width))


def attention_map(patches: Tensor, texts: Tensor, size: tuple[int, int]) -> Tensor:
    """How near each place of an image is to a text: the cosines of its patches with the text, brought to [0, 1] by their least
    and largest one, and to the image's size bilinearly.

    Args:
        patches: (N, T, D), T a square grid row by row; need not be unit.
        texts: (N, D) unit anchors, one an image.
        size: height and width of the maps.

    Returns:
        (N, height, width); zero for an image whose cosines are all equal.

    Raises UsageError for patches that are no square grid.
    """
    import torch
    from torch.nn.functional import interpolate, normalize

    side = isqrt(patches.shape[1])
    if side**2 != patches.shape[1]:
        raise UsageError(f"{patches.shape[1]} patch tokens are no square grid", "use a model with a square grid of patches")
    cosines = torch.einsum("ntd,nd->nt", normalize(patches, dim=2), texts)
    least, largest = cosines.aminmax(dim=1, keepdim=True)
    spread = largest - least
    # cosines that differ by rounding alone are equal
    scaled = (cosines - least) / torch.where(spread > torch.finfo(spread.dtype).eps, spread, 1)
    return interpolate(scaled.view(-1, 1, side, side), size, mode="bilinear", align_corners=False)[:, 0]


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """The Euclidean distance of two maps (N, H, W) twice -> (N,), 0 without a gradient where they differ by rounding alone.

    A model that has not moved from the reference differs by rounding, and the gradient of a distance has full length however
    small the distance is: its direction would be random.
    """
    import torch

    found = (one - other).flatten(1).norm(dim=1)
    rounding = 100 * torch.finfo(found.dtype).eps * (one.shape[1] * one.shape[2]) ** 0.5
    return torch.where(found <= rounding, 0, found)
