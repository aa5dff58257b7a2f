"""Resizing inside the attack, and averages over random draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.errors import InputError, UsageError
from stages.models.classifier import Classifier
from stages.models.wrapped import NEW, MeanOfDraws, check_grid, mean_of_draws, resize_inside, resize_of, using
from stages.randomness import derive_seed, seeded_globally
from tests.stages.training.synthetic import SIZE, made_up_anchors, small_model

IMAGES = torch.rand((3, 3, 8, 8), generator=torch.Generator().manual_seed(0))


def classifier(embedding: nn.Module | None = None, side: int | None = SIZE) -> Classifier:
    return Classifier(embedding or small_model(), made_up_anchors(), image_size=side).eval()


def inside(how: str = "bicubic") -> Classifier:
    return resize_inside(classifier(), how)


@pytest.mark.parametrize(
    ("how", "mode", "antialias"), [("bicubic", "bicubic", False), ("bilinear-antialias", "bilinear", True)]
)
def test_the_model_resizes_what_the_attack_perturbs(how: str, mode: str, antialias: bool) -> None:
    found, size = inside(how), (SIZE, SIZE)
    large = F.interpolate(IMAGES, size, mode=mode, align_corners=False, antialias=antialias)
    plain = classifier()
    torch.testing.assert_close(found.scores(IMAGES), plain.logits(plain.unit(plain.embedding(large))))
    variable = IMAGES.clone().requires_grad_(True)
    found.scores(variable).sum().backward()
    assert variable.grad is not None
    assert variable.grad.shape == IMAGES.shape


def test_other_heads_and_single_images_keep_it() -> None:
    found = inside().over(list(made_up_anchors().classes[:2]))
    resize = resize_of(found)
    assert resize is not None
    assert resize.does((8, 8)) == f"bicubic to {SIZE}x{SIZE}"
    assert torch.equal(found.scores(IMAGES)[:1], found.scores(IMAGES[:1]))
    assert resize_of(classifier()) is None


def test_a_resize_without_effect_or_of_other_images_is_refused() -> None:
    with pytest.raises(UsageError, match=f"no effect: the images are {SIZE}x{SIZE}, as the model's input"):
        check_grid({"a": inside()}, (SIZE, SIZE))
    with pytest.raises(InputError, match="are 8x6, and --resize-inside needs square ones; add --resize 6"):
        check_grid({"a": inside()}, (6, 8))
    with pytest.raises(UsageError, match="--resize-inside bicubic: own:logits takes images of any size"):
        resize_inside(classifier(side=None), "bicubic", "own:logits")


class Noise(nn.Module):
    """Embeddings that are nothing but noise about one direction."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3))[:, None] * 0 + torch.randn(len(x), 6) + 2.0


def test_decisions_use_the_same_draws_and_attacks_new_ones() -> None:
    found = mean_of_draws(classifier(Noise()), 5, 0)
    state = torch.get_rng_state()
    with torch.no_grad():
        first, again = found.embedding(IMAGES), found.embedding(IMAGES)
        with using(found, NEW):
            new = found.embedding(IMAGES)
    assert torch.equal(first, again)
    assert not torch.equal(first, new)
    assert torch.equal(torch.get_rng_state(), state)
    assert (first.norm(dim=1) < 1).all()  # a mean of unit embeddings


@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_the_logits_are_the_mean_of_those_of_the_draws(bias: float) -> None:
    model = classifier(Noise()).with_bias(bias)
    each = []
    for draw in range(4):
        with seeded_globally(derive_seed(0, f"draws/decision/{draw}"), model.device):
            each.append(model.scores(IMAGES))
    averaged, mean = mean_of_draws(model, 4, 0), torch.stack(each).mean(0)
    with torch.no_grad():
        torch.testing.assert_close(averaged.scores(IMAGES), mean)


def test_the_gradient_is_that_of_the_mean() -> None:
    noisy = MeanOfDraws(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 6)).train(), 4, 0)
    variable = IMAGES.clone().requires_grad_(True)
    noisy.begin("attack")
    output = noisy(variable)
    output[:, 0].sum().backward()
    noisy.begin("attack")
    assert torch.equal(noisy(variable), output)
    step = 1e-2 * torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(1))
    ahead = []
    for sign in (1, -1):
        noisy.begin("attack")
        ahead.append(float(noisy(IMAGES + sign * step)[:, 0].sum().detach()))
    assert variable.grad is not None
    assert float((variable.grad * step).sum()) == pytest.approx((ahead[0] - ahead[1]) / 2, rel=0.02, abs=1e-5)
