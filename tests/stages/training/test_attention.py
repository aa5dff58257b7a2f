"""TGA-ZSR: its steps against a plain program over open_clip's own layers, and its maps."""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.errors import UsageError
from stages.models.embedding import EmbeddingModel
from stages.randomness import torch_generator
from stages.training.loop import Trainer
from stages.training.objectives import TgaZsr
from stages.training.objectives.attention import _distance, attention_map
from tests.stages.training.synthetic import made_up_anchors, made_up_images, quick, small_model

ANCHORS = torch.from_numpy(made_up_anchors(width=5).vectors)
IMAGES = made_up_images()
EPS, TAU = Fraction(1, 255), 0.05


class PlainTower(nn.Module):
    """What open_clip's layers give, class token first: (N, 1 + T, D)."""

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        self.net, self.projection = copy.deepcopy(model.backbone.net), copy.deepcopy(model.projection)

    def forward(self, x: Tensor) -> Tensor:
        net = self.net
        x = net.conv1((x.to(net.proj.dtype) - 0.5) / 0.5).flatten(2).transpose(1, 2)
        first = net.class_embedding.expand(len(x), 1, -1)
        x = net.ln_pre(torch.cat([first, x], 1) + net.positional_embedding)
        for block in net.transformer.resblocks:
            x = block(x)
        return self.projection(net.ln_post(x) @ net.proj)


def plain_map(tokens: Tensor, texts: Tensor, size: int) -> Tensor:
    """The map of each image one by one, flattened: (N, size * size)."""
    maps = []
    for one, text in zip(tokens, texts, strict=True):
        unit = one / one.norm(dim=1, keepdim=True)
        likeness = unit[1:] @ text
        scaled = (likeness - likeness.min()) / (likeness.max() - likeness.min())
        side = round(len(scaled) ** 0.5)
        maps.append(nn.Upsample((size, size), mode="bilinear")(scaled.view(1, 1, side, side)).flatten())
    return torch.stack(maps)


@pytest.mark.parametrize(
    ("dtype", "weights"),
    [(torch.float64, {}), (torch.float64, {"alpha": 0.3, "beta": 0.2}), (torch.float32, {})],
    ids=["float64", "other weights", "float32"],
)
def test_twenty_steps_are_those_of_a_plain_program(dtype: torch.dtype, weights: dict[str, float], folder: Path) -> None:
    model = EmbeddingModel(f"clip:local-dir:{folder}", 5, 16, mean=(0.5,) * 3, std=(0.5,) * 3).to(dtype)
    anchors, close = ANCHORS.to(dtype), 1e-9 if dtype == torch.float64 else 1e-5
    plain = PlainTower(model)
    original = copy.deepcopy(plain).requires_grad_(False)
    fixed = {"augment": False, "epochs": 7, "schedule": "cosine", "lr": 1e-2, "weight_decay": 0.0}
    settings = quick(objective="tga-zsr", eps=EPS, step_size=EPS, tau=TAU, **fixed, **weights)
    loop = Trainer(model, anchors, IMAGES, settings, "cpu")
    optimizer = torch.optim.SGD(plain.parameters(), lr=1e-2, momentum=0.9)
    alpha, beta = weights.get("alpha", 0.08), weights.get("beta", 0.05)
    eps, done = float(EPS), 0
    while done < 20:
        order = torch.randperm(48, generator=torch_generator(0, f"train/order/{loop.epoch}"))
        for rows, step in zip(order.split(16), loop.steps(), strict=True):
            x, y = IMAGES.images[rows] / 255, IMAGES.labels[rows]
            noise = torch.rand(x.shape, generator=torch_generator(0, f"train/attack/{done}"))
            x_adv = (x + (2 * noise - 1) * eps).clamp(0, 1)
            for _ in range(2):
                x_adv.requires_grad_(True)
                loss = F.cross_entropy(F.normalize(plain(x_adv)[:, 0]) @ anchors.T / TAU, y)
                (grad,) = torch.autograd.grad(loss, x_adv)
                x_adv = (x + (x_adv.detach() + eps * grad.sign() - x).clamp(-eps, eps)).clamp(0, 1)
            texts, target = anchors[y], plain_map(original(x), anchors[y], 16)
            attacked = plain(x_adv)
            terms = [
                F.cross_entropy(F.normalize(attacked[:, 0]) @ anchors.T / TAU, y),
                alpha * (plain_map(attacked, texts, 16) - target).norm(dim=1).mean(),
                beta * (plain_map(plain(x), texts, 16) - target).norm(dim=1).mean(),
            ]
            optimizer.zero_grad()
            sum(terms).backward()
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 * 0.5 * (1 + math.cos(math.pi * done / 21))
            optimizer.step()
            done += 1
            assert float(step.loss) == pytest.approx(sum(float(term.detach()) for term in terms), abs=close), done
        named = dict(zip(TgaZsr.terms, terms, strict=True))
    assert all(float(term.detach()) > 1e-4 for term in named.values())
    torch.testing.assert_close(model.backbone.net.proj, plain.net.proj, rtol=0, atol=close)


def test_a_map_by_hand() -> None:
    """Four patches at cosines 0, 1, 0.5 and 0.25 of the text, whatever their lengths."""
    cosines = torch.tensor([0.0, 1.0, 0.5, 0.25])
    patches = torch.stack([cosines, (1 - cosines**2).sqrt()], 1) * torch.tensor([3.0, 0.2, 1.0, 7.0])[:, None]
    found = attention_map(patches[None], torch.tensor([[1.0, 0.0]]), (4, 4))
    assert found.shape == (1, 4, 4)
    torch.testing.assert_close(found[0, [0, 0, -1, -1], [0, -1, 0, -1]], cosines)  # the corners
    torch.testing.assert_close(found[0, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))


def test_a_constant_map_is_zero_and_has_finite_gradients() -> None:
    patches = torch.ones(2, 9, 3, requires_grad=True)
    found = attention_map(patches, torch.eye(3)[:2], (6, 6))
    assert not found.any()
    _distance(found, torch.ones(2, 6, 6)).sum().backward()
    assert patches.grad is not None
    assert patches.grad.isfinite().all()


def test_maps_that_differ_by_rounding_have_no_distance_and_no_gradient() -> None:
    one = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    other = one.detach() + torch.tensor([0.0, 1e-7, 0.1])[:, None, None]
    found = _distance(one, other)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 0.6]))
    found.sum().backward()
    torch.testing.assert_close(one.grad.flatten(1).norm(dim=1), torch.tensor([0.0, 0.0, 1.0]))  # type: ignore[union-attr]
    assert not _distance(one[:1], torch.full((1, 6, 6), torch.nan)).isfinite().any()


def test_a_process_may_have_no_images() -> None:
    patches = torch.ones(0, 9, 3, requires_grad=True)
    found = _distance(attention_map(patches, torch.ones(0, 3), (6, 6)), torch.ones(0, 6, 6))
    assert found.shape == (0,)
    found.sum().backward()


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match="6 patch tokens are no square grid"):
        attention_map(torch.ones(1, 6, 2), torch.ones(1, 2), (4, 4))
    with pytest.raises(UsageError, match="conv4-8 has no patch tokens"):
        Trainer(small_model(5), ANCHORS, IMAGES, quick(objective="tga-zsr", tau=0.01), "cpu")
