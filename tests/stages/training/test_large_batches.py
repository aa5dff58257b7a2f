"""Micro-batches, gradient checkpointing, several processes and other precisions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.errors import UsageError
from stages.models.embedding import EmbeddingModel
from stages.randomness import torch_generator
from stages.training.loop import Trainer
from stages.world import World
from tests.stages.training.plain_step import PlainConv4
from tests.stages.training.synthetic import made_up_images, quick, small_model
from tests.stages.training.test_loop import ANCHORS, BATCH_NORM_FREE, IMAGES, epoch, larger_trainer, trainer, watched


def test_without_batch_norm_micro_batches_give_the_gradient_of_the_whole_batch() -> None:
    whole, split = (larger_trainer(BATCH_NORM_FREE, accumulate=count, awp=0.01, clip_norm=0.1) for count in (1, 4))
    for one, other in zip(whole.steps(), split.steps(), strict=True):
        assert float(one.loss) == pytest.approx(float(other.loss), abs=1e-9)
    for value, other in zip(whole.model.state_dict().values(), split.model.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=1e-8)


def test_with_batch_norm_each_micro_batch_has_its_own_statistics() -> None:
    model = small_model().double()
    plain, anchors = PlainConv4(model), ANCHORS.double()
    settings = quick(augment=False, objective="clean", accumulate=3)
    loop = Trainer(model, anchors, IMAGES, settings, "cpu")
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    order = torch.randperm(48, generator=torch_generator(0, "train/order/1"))
    for rows, done in zip(order.split(16), loop.steps(), strict=True):
        optimizer.zero_grad()
        total = 0.0
        for part in rows.tensor_split([5, 10]):
            logits = plain.train()(IMAGES.images[part].float() / 255) @ anchors.T
            loss = torch.nn.functional.cross_entropy(logits, IMAGES.labels[part], reduction="sum") / 16
            loss.backward()
            total += float(loss.detach())
        optimizer.step()
        assert float(done.loss) == pytest.approx(total, rel=1e-9)
    torch.testing.assert_close(model.projection.weight, plain.projection.weight, rtol=1e-9, atol=1e-12)
    assert int(model.backbone.blocks[0].norm.num_batches_tracked) == 9


@pytest.mark.parametrize(
    ("backbone", "changes"),
    [
        ("conv4-8", {"awp": 0.01, "ema": 0.5, "objective": "trades"}),
        ("conv4-8", {"accumulate": 2, "precision": "bf16"}),
        ("resnet12", {"drop_block": 0.2, "awp": 0.01}),
        ("timm:resnet10t", {}),
        (BATCH_NORM_FREE, {"accumulate": 2}),
        ("clip:demo", {}),
    ],
)
def test_gradient_checkpointing_changes_no_bit(backbone: str, changes: dict[str, Any]) -> None:
    plain, saving = (larger_trainer(backbone, torch.float32, grad_checkpointing=flag, **changes) for flag in (False, True))
    recomputed = []
    for module in saving.model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(lambda module, *_: recomputed.append(module) if module.training else None)
    for one, other in zip(plain.steps(), saving.steps(), strict=True):
        assert torch.equal(one.loss, other.loss)
    states = [loop.scored_model.state_dict() | loop.model.state_dict() for loop in (plain, saving)]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    counts = {recomputed.count(module) for module in recomputed}
    assert len(counts) > 1, "nothing was recomputed"


def test_gradient_checkpointing_is_refused_by_a_model_without_it() -> None:
    model = EmbeddingModel("timm:vgg11", 6, 32, mean=(0.4,) * 3, std=(0.3,) * 3)
    with pytest.raises(UsageError, match=r"timm:vgg11 does not support gradient checkpointing.*; leave out"):
        trainer(model, backbone="timm:vgg11", grad_checkpointing=True)


def test_every_process_takes_its_part_of_the_same_batch() -> None:
    alone = trainer(batch_size=20)
    shown = watched(alone)
    epoch(alone)
    for size in (2, 3):
        parts = []
        for rank in range(size):
            loop = trainer(batch_size=20)
            loop.world = World(rank, size)
            parts.append(watched(loop))
            epoch(loop)
        for batches, *shared in zip(shown, *parts, strict=True):
            for field in ("x", "noise", "labels"):
                mine = torch.cat([getattr(batch, field) for given in shared for batch in given])
                assert torch.equal(mine, getattr(batches[0], field))
            assert [batch.rows.stop - batch.rows.start for given in shared for batch in given] == [
                len(batch.x) for given in shared for batch in given
            ]


def test_bf16_stays_near_float32() -> None:
    exact, half = (trainer(precision=precision, augment=False) for precision in ("float32", "bf16"))
    assert epoch(half).loss == pytest.approx(epoch(exact).loss, abs=0.02)
    assert all(parameter.dtype == torch.float32 for parameter in half.model.parameters())


def test_the_global_stream_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    epoch(trainer())
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("backbone", ["resnet12", "timm:resnet10t"])
def test_other_backbones_take_a_step(backbone: str) -> None:
    model = EmbeddingModel(backbone, 6, 32, mean=(0.4,) * 3, std=(0.3,) * 3)
    images = made_up_images(per_class=1)
    larger = type(images)(images.images.repeat(1, 1, 2, 2), images.labels, images.classes, images.provenance)
    loop = Trainer(model, ANCHORS, larger, quick(backbone=backbone, steps=1, batch_size=6), "cpu")
    assert torch.isfinite(next(loop.steps()).loss)
