from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from stages.models.backbones import ConvNorm
from stages.models.classifier import unit
from stages.models.embedding import EmbeddingModel, place
from stages.models.folding import folded
from tests.stages.models.test_backbones import images, trained


def model(backbone: str = "conv4-8", size: int = 32) -> EmbeddingModel:
    made = trained(EmbeddingModel(backbone, 6, size, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3)))
    place(made, "cpu")
    return made.eval().requires_grad_(False)


def answer(made: EmbeddingModel) -> tuple[Tensor, Tensor]:
    """Embeddings, and the gradient of something with respect to the pixels."""
    x = images().requires_grad_(True)
    embeddings = made(x)
    embeddings[:, 0].sum().backward()
    return embeddings.detach(), x.grad


@pytest.mark.parametrize("backbone", ["conv4-8", "resnet12", "timm:resnet10t", "clip:demo"])
def test_folded_once_gives_what_folding_every_time_gives(backbone: str) -> None:
    made = model(backbone)
    expected = answer(made)
    with folded(made):
        for _ in range(2):
            torch.testing.assert_close(answer(made), expected, rtol=0, atol=1e-5)


def test_the_constants_are_of_the_moment_of_folding_and_forgotten_after() -> None:
    made = model()
    before = made(images())
    with folded(made):
        made.backbone.blocks[0].norm.running_mean += 1
        torch.testing.assert_close(made(images()), before)
    assert (made(images()) - before).abs().max() > 1e-3
    with pytest.raises(KeyError), folded(made):
        raise KeyError
    after = made(images())
    made.backbone.blocks[0].norm.running_mean -= 1
    torch.testing.assert_close(made(images()), before)
    assert (after - before).abs().max() > 1e-3


def test_training_mode_takes_no_notice() -> None:
    made = model().train()
    expected = made(images())
    with folded(made):
        torch.testing.assert_close(made(images()), expected, rtol=0, atol=0)


@pytest.mark.parametrize("backbone", ["conv4-8", "resnet12"])
def test_kernels_in_bfloat16_for_autocast(backbone: str) -> None:
    made = model(backbone)
    exact = made(images())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        every_time = unit(made(images()))
        with folded(made, torch.bfloat16):
            layer = next(part for part in made.modules() if isinstance(part, ConvNorm))
            kernel, bias = layer._folded
            assert kernel.dtype == bias.dtype == torch.bfloat16
            assert kernel.is_contiguous(memory_format=torch.channels_last)
            once = unit(made(images()))
    assert once.dtype == every_time.dtype == torch.float32
    torch.testing.assert_close(once, every_time, rtol=0, atol=1e-6)
    assert cosine_similarity(once, exact).min() > 0.999
    torch.testing.assert_close(once.norm(dim=1), torch.ones(2))


def test_nothing_of_it_reaches_the_weights() -> None:
    made = model()
    names = list(made.state_dict())
    with folded(made):
        assert list(made.state_dict()) == names
