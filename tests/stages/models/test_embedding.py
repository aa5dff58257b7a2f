from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from stages.models.classifier import unit
from stages.models.embedding import EmbeddingModel, place

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def small(seed: int = 0) -> EmbeddingModel:
    return EmbeddingModel("conv4-8", 6, 16, mean=MEAN, std=STD, seed=seed)


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_normalisation_is_inside() -> None:
    model = small().eval()
    normalised = (images() - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    expected = model.backbone(normalised) @ model.projection.weight.T
    torch.testing.assert_close(model(images()), expected)
    assert (model(images()) - model.projection(model.backbone(images()))).abs().max() > 1e-3


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_the_normalisation_is_exact_to_a_millionth(value: float) -> None:
    model = EmbeddingModel("conv4-8", 6, 16, mean=(0.4713, 0.4477, 0.0001), std=(0.2778, 0.2698, 0.9999))
    seen: list[Tensor] = []
    model.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x = torch.full((1, 3, 16, 16), value)
    model(torch.cat((x, images())))
    exact = (torch.cat((x, images())).double() - model.mean.double()) / model.std.double()
    torch.testing.assert_close(seen[0].double(), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backbone", ["conv4-8", "resnet12", "timm:resnet10t"])
@pytest.mark.parametrize("training", [True, False])
def test_under_autocast_embeddings_are_float32_of_unit_length(backbone: str, training: bool) -> None:
    model = EmbeddingModel(backbone, 6, 32, mean=MEAN, std=STD).train(training)
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    exact = unit(model(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = unit(model(x))
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(8), rtol=0, atol=1e-6)
    assert cosine_similarity(embeddings, exact).min() > 0.98
    embeddings[:, 0].sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("backbone", ["conv4-8", "resnet12", "timm:resnet10t", "timm:vit_tiny_patch16_224", "clip:demo"])
def test_no_images_give_no_embeddings(backbone: str) -> None:
    model = EmbeddingModel(backbone, 6, 32, mean=MEAN, std=STD).eval()
    place(model, "cpu")
    x = torch.rand(0, 3, 32, 32, requires_grad=True)
    embeddings = model(x)
    assert embeddings.shape == (0, 6)
    embeddings.sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_mean_and_std_belong_to_the_model_but_are_not_trained() -> None:
    model = small()
    assert {"mean", "std"} <= set(model.state_dict())
    assert {"mean", "std"}.isdisjoint(dict(model.named_parameters()))
    assert model.projection.bias is None


def test_weights_follow_from_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    states = [small(seed).state_dict() for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["projection.weight"], states[2]["projection.weight"])
    assert not torch.equal(states[0]["backbone.blocks.0.conv.weight"], states[2]["backbone.blocks.0.conv.weight"])


def test_the_projection_starts_as_torch_would_start_it() -> None:
    weight = EmbeddingModel("conv4-64", 512, 16, mean=MEAN, std=STD).projection.weight
    bound = 1 / 8  # 1 / sqrt(64)
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_the_layout_does_not_change_the_answer() -> None:
    plain = small().eval()
    expected = plain(images())
    placed = small().eval()
    place(placed, "cpu")
    assert placed.backbone.blocks[1].conv.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(placed(images().contiguous(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backbone", ["resnet12", "conv4-512"])
def test_layers_of_small_maps_keep_another_layout_and_give_the_same(backbone: str, training: bool) -> None:
    answers = []
    for fastest in (False, True):
        # in float64: rounding would choose other maxima to pool, and with them other gradients
        model = EmbeddingModel(backbone, 6, 32, mean=MEAN, std=STD).train(training).double()
        x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
        if fastest:
            place(model, "cpu")
            x = x.contiguous(memory_format=torch.channels_last)
        x.requires_grad_(True)
        embeddings = model(x)
        embeddings[:, 0].sum().backward()
        kernels = [weight for weight in model.parameters() if weight.ndim == 4 and weight.shape[2] == 3]
        answers.append((embeddings, x.grad, kernels[0].grad, kernels[-1].grad))
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-6, atol=1e-9)
    layouts = [weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels]
    assert layouts[0]
    assert not layouts[-1]


def test_an_image_of_one_colour_gives_a_finite_embedding() -> None:
    for value in (0.0, 1.0):
        assert torch.isfinite(small().eval()(torch.full((1, 3, 16, 16), value))).all()
