from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from stages.errors import UsageError
from stages.models.backbones import build_backbone
from stages.models.drop_block import DropBlock, draw_masks_from
from stages.models.embedding import EmbeddingModel


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dropping(rate: float, size: int, images: int, seed: int = 0) -> DropBlock:
    drop = DropBlock(rate, size)
    drop.draw_masks_from(generator(seed), slice(None), images)
    return drop


def model(rate: float = 0.3, size: int = 32) -> EmbeddingModel:
    made = EmbeddingModel("resnet12", 4, size, mean=(0.5,) * 3, std=(0.25,) * 3, drop_block=rate)
    for module in made.modules():  # a batch norm mixes the images of a batch: without it each is seen on its own
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
            module.eval()
    return made


def images(count: int, size: int = 32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=generator(1))


@pytest.mark.parametrize(("size", "side"), [(1, 4), (2, 4), (2, 2), (5, 10), (5, 5)])
@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_as_much_is_dropped_as_squares_of_that_many_corners_cover(rate: float, size: int, side: int) -> None:
    x = torch.ones(64, 200, side, side)
    y = dropping(rate, size, 64)(x)
    gamma = rate / size**2 * (side / (side - size + 1)) ** 2
    place = torch.arange(side)
    # a place is kept when none of the corners whose square would cover it was drawn
    covering = torch.minimum(place, torch.tensor(side - size)) - torch.maximum(place - size + 1, torch.tensor(0)) + 1
    kept = (1 - gamma) ** (covering[:, None] * covering[None, :]).double()
    torch.testing.assert_close((y > 0).double().mean((0, 1)), kept, atol=0.02, rtol=0)
    # about `rate`; overlapping squares take away a little
    assert 0.8 * rate < (y == 0).double().mean() < 1.08 * rate
    # the mean stays, and what is kept is scaled by the same factor everywhere
    assert y.mean().item() == pytest.approx(1, abs=1e-5)
    assert len(y.unique()) == 2


def test_what_is_dropped_is_squares() -> None:
    y = dropping(0.02, 5, 500)(torch.ones(500, 1, 10, 10))
    holed = [image[0] == 0 for image in y if (image == 0).any()]
    whole = 0
    for gone in holed:
        rows, columns = gone.nonzero(as_tuple=True)
        span = (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1)
        whole += span == (5, 5) and len(rows) == 25
        assert min(span) >= 5
    assert whole > 0.7 * len(holed) > 20


def test_each_channel_is_dropped_on_its_own() -> None:
    gone = (dropping(0.3, 2, 100)(torch.ones(100, 2, 2, 2)) == 0)[:, :, 0, 0]
    assert (gone[:, 0] != gone[:, 1]).any()


@pytest.mark.parametrize(("size", "side"), [(16, 1), (32, 2), (80, 5)])
def test_squares_are_as_wide_as_the_last_map(size: int, side: int) -> None:
    net = build_backbone("resnet12", size, drop_block=0.1)
    assert [module.size for module in net.modules() if isinstance(module, DropBlock)] == [side, side]


def test_evaluation_and_a_rate_of_nothing_draw_nothing() -> None:
    x, source = images(2), generator()
    before = source.get_state()
    for rate, training in ((0.3, False), (0.0, True)):
        made = model(rate).train(training)
        draw_masks_from(made, source, slice(None), 2)
        made(x)
    assert torch.equal(source.get_state(), before)
    plain, other = (EmbeddingModel("resnet12", 4, 32, mean=(0.5,) * 3, std=(0.25,) * 3, drop_block=rate) for rate in (0.0, 0.3))
    assert plain.state_dict().keys() == other.state_dict().keys()
    torch.testing.assert_close(plain.eval()(x), other.eval()(x), rtol=0, atol=0)
    assert plain.architecture == other.architecture


def test_parts_of_a_batch_get_the_masks_of_the_whole() -> None:
    made, x, x_adv = model(), images(7), 1 - images(7)

    def both(rows: slice) -> list[Tensor]:
        draw_masks_from(made, generator(5), rows, 7)
        return [made(x_adv[rows]), made(x[rows])]

    before = torch.random.get_rng_state()
    whole = both(slice(0, 7))
    for rows in (slice(0, 3), slice(3, 7), slice(2, 2)):
        for part, full in zip(both(rows), whole, strict=True):
            torch.testing.assert_close(part, full[rows], rtol=0, atol=1e-5)
    assert torch.equal(torch.random.get_rng_state(), before)
    # the second pass has masks of its own
    draw_masks_from(made, generator(5), slice(0, 7), 7)
    made(x_adv)
    second = made(x_adv)
    assert (second - whole[0]).abs().max() > 1e-3


def test_masks_are_required_where_none_were_given() -> None:
    made, x = model(), images(3)
    for source, rows in ((None, slice(0, 3)), (generator(), slice(0, 2))):
        draw_masks_from(made, source, rows, 3)
        with pytest.raises(RuntimeError, match="no masks for 3 images"):
            made(x)


def test_a_copied_model_draws_from_nowhere() -> None:
    made = model()
    draw_masks_from(made, generator(), slice(0, 2), 2)
    twin = copy.deepcopy(made)
    with pytest.raises(RuntimeError, match="no masks"):
        twin(images(2))


@pytest.mark.parametrize("name", ["conv4-8", "timm:resnet10t", "clip:demo"])
def test_a_backbone_without_it_refuses_a_rate(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} has no DropBlock; .*--backbone resnet12"):
        build_backbone(name, 32, drop_block=0.1)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rates_that_are_none(rate: float) -> None:
    with pytest.raises(UsageError, match="drop rate of DropBlock is"):
        build_backbone("resnet12", 32, drop_block=rate)


def test_under_autocast() -> None:
    made = model()
    draw_masks_from(made, generator(), slice(0, 2), 2)
    exact = made(images(2))
    draw_masks_from(made, generator(), slice(0, 2), 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.nn.functional.cosine_similarity(made(images(2)), exact).min() > 0.99
