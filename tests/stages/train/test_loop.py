from __future__ import annotations

from fractions import Fraction
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.errors import ComputeError
from stages.models.embedding import EmbeddingModel
from stages.randomness import torch_generator
from stages.train.loop import Progress, Trainer
from tests.stages.train.plain_step import PlainConv4, plain_attack, plain_laat_loss
from tests.stages.train.synthetic import made_up_anchors, made_up_images, quick, small_model

ANCHORS = torch.from_numpy(made_up_anchors().vectors)
IMAGES = made_up_images()


def trainer(model: EmbeddingModel | None = None, **changes: Any) -> Trainer:
    return Trainer(model or small_model(), ANCHORS, IMAGES, quick(**changes), "cpu")


@pytest.mark.parametrize(("tau", "beta"), [(1.0, 1.0), (0.2, 3.0)])
def test_two_steps_are_those_of_the_obvious_program(tau: float, beta: float) -> None:
    # float64, so that no sign of a gradient hangs on rounding
    model = small_model().double()
    plain, anchors = PlainConv4(model), ANCHORS.double()
    settings = quick(tau=tau, smoothing=beta, augment=False, steps=3, seed=4)
    loop = Trainer(model, anchors, IMAGES, settings, "cpu")
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    stream = torch_generator(4, "train/attack")
    for rows in (torch.arange(0, 48, 3), torch.arange(1, 48, 3)):
        outcome, labels = loop.train_batch(rows)
        x, y = IMAGES.images[rows].float() / 255, IMAGES.labels[rows]
        noise = torch.rand(x.shape, generator=stream)
        x_adv = plain_attack(plain, anchors, x, y, noise, eps=8 / 255, steps=3, step=2 / 255, tau=tau)
        loss = plain_laat_loss(plain, anchors, x, x_adv, y, tau=tau, beta=beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert float(outcome.loss.detach()) == pytest.approx(float(loss.detach()), rel=1e-9)
        assert torch.equal(labels, y)
    for block, conv, norm in zip(model.backbone.blocks, plain.layers[0:16:4], plain.layers[1:16:4], strict=True):
        torch.testing.assert_close(block.conv.weight, conv.weight, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(block.norm.weight, norm.weight, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(block.norm.running_var, norm.running_var, rtol=1e-9, atol=1e-12)
        assert int(block.norm.num_batches_tracked) == int(norm.num_batches_tracked) == 4
    torch.testing.assert_close(model.projection.weight, plain.projection.weight, rtol=1e-9, atol=1e-12)


def test_the_inner_attack_touches_nothing_but_its_result() -> None:
    model = small_model()
    model.backbone.blocks[0].norm.eval()  # a layer that somebody froze stays frozen
    model.projection.weight.requires_grad_(False)
    loop = trainer(model)
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = IMAGES.images[::3].float() / 255
    kept = x.clone()
    loop._attacked(x, IMAGES.labels[::3])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert wanted.pop("projection.weight") is False
    assert all(wanted.values())
    assert torch.equal(x, kept)


@pytest.mark.parametrize("eps", [Fraction(1, 255), Fraction(8, 255), Fraction(1, 2)])
def test_the_inner_attack_stays_in_the_ball_and_does_harm(eps: Fraction) -> None:
    loop = trainer(eps=eps, steps=5)
    x, labels = IMAGES.images.float() / 255, IMAGES.labels
    x_adv = loop._attacked(x, labels)
    assert not x_adv.requires_grad
    assert float((x_adv - x).abs().max()) <= float(eps) + 1e-6
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1
    loop.model.eval()

    @torch.no_grad()
    def loss(images: Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(loop.model(images) @ ANCHORS.T, labels))

    assert loss(x_adv) > loss(x)


def test_every_batch_starts_its_attack_elsewhere() -> None:
    loop = trainer(steps=1, step_size=Fraction(1, 10**6))
    x = torch.full((2, 3, 16, 16), 0.5)
    one, two = (loop._attacked(x, torch.tensor([0, 1])) for _ in range(2))
    assert float((one - two).abs().max()) > 0.01
    # uniform in the ball
    assert float((one - x).abs().max()) > 0.9 * 8 / 255
    assert abs(float((one - x).mean())) < 0.05 * 8 / 255


def test_anchors_are_not_trained() -> None:
    anchors = ANCHORS.clone()
    loop = Trainer(small_model(), anchors, IMAGES, quick(), "cpu")
    loop.epoch(1)
    assert torch.equal(anchors, ANCHORS)
    assert anchors.grad is None


@pytest.mark.parametrize("objective", ["laat", "at", "clean"])
def test_an_epoch_shows_every_image_once(objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = trainer(objective=objective, batch_size=20)
    assert loop.steps_per_epoch == 3
    shown: list[list[int]] = []
    step = loop.train_batch
    monkeypatch.setattr(loop, "train_batch", lambda rows: (shown.append(rows.tolist()), step(rows))[1])
    loop.epoch(1)
    loop.epoch(2)
    assert [len(rows) for rows in shown] == [20, 20, 8] * 2
    first, second = ([*chain(*shown[at : at + 3])] for at in (0, 3))
    assert sorted(first) == sorted(second) == list(range(48))
    assert first != second


@pytest.mark.parametrize(("objective", "clean", "robust"), [("laat", True, True), ("at", False, True), ("clean", True, False)])
def test_figures_are_of_the_sides_that_were_looked_at(objective: str, clean: bool, robust: bool) -> None:
    figures = trainer(objective=objective).epoch(1)
    assert (figures.clean_accuracy is not None, figures.robust_accuracy is not None) == (clean, robust)


def test_figures_are_means_over_images_and_not_over_batches() -> None:
    loop = trainer(objective="clean", batch_size=20, augment=False)
    losses, right, counts = [], [], []
    step = loop.train_batch

    def watched(rows: Tensor) -> Any:
        outcome, labels = step(rows)
        losses.append(float(outcome.loss.detach()))
        right.append(int((outcome.clean.argmax(1) == labels).sum()))
        counts.append(len(rows))
        return outcome, labels

    loop.train_batch = watched  # type: ignore[method-assign]
    figures = loop.epoch(1)
    assert figures.loss == pytest.approx(sum(loss * count for loss, count in zip(losses, counts, strict=True)) / 48)
    assert figures.clean_accuracy == pytest.approx(sum(right) / 48)


@pytest.mark.parametrize("objective", ["laat", "at", "clean"])
def test_training_learns(objective: str) -> None:
    # the anchors are given more room than cosines at tau 1 leave
    loop = trainer(objective=objective, tau=0.1, augment=False, epochs=15, schedule="one-cycle", lr=0.02, eps=Fraction(2, 255))
    found = [loop.epoch(number) for number in range(1, 16)]
    assert found[-1].loss < found[0].loss - 2
    accuracies = (found[-1].clean_accuracy, found[-1].robust_accuracy)
    assert max(value for value in accuracies if value is not None) > 0.8  # chance is 1/6


def test_the_schedule_sets_the_rate_of_each_step() -> None:
    loop = trainer(objective="clean", epochs=5, batch_size=24, lr=0.1)
    rates = []
    for number in range(1, 6):
        loop.epoch(number)
        rates.append(loop._optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01])


def test_a_loss_that_is_not_finite_names_epoch_and_step() -> None:
    loop = trainer(batch_size=24)
    loop.epoch(1)
    with torch.no_grad():
        loop.model.projection.weight.fill_(torch.nan)
    with pytest.raises(ComputeError, match="non-finite in epoch 2, at or before step 4; lower --lr"):
        loop.epoch(2)


def test_a_learning_rate_far_too_high() -> None:
    with pytest.raises(ComputeError, match="non-finite in epoch 1, at or before step 12"):
        trainer(objective="clean", lr=1e38, batch_size=4).epoch(1)


def test_progress_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("stages.train.loop.time.monotonic", lambda: float(next(clock)))  # a second a step
    told: list[Progress] = []
    trainer(objective="clean", epochs=4, batch_size=16).epoch(2, told.append)
    assert [(progress.epoch, progress.epochs, progress.step, progress.steps) for progress in told] == [
        (2, 4, step, 12) for step in (1, 2, 3)
    ]
    assert [progress.images_per_second for progress in told] == [16, 16, 16]


def test_the_global_stream_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    trainer().epoch(1)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("backbone", ["resnet12", "timm:resnet10t"])
def test_other_backbones_take_a_step(backbone: str) -> None:
    model = EmbeddingModel(backbone, 6, 32, mean=(0.4,) * 3, std=(0.3,) * 3)
    images = made_up_images(per_class=1)
    larger = type(images)(images.images.repeat(1, 1, 2, 2), images.labels, images.classes, images.provenance)
    loop = Trainer(model, ANCHORS, larger, quick(backbone=backbone, steps=1, batch_size=6), "cpu")
    assert torch.isfinite(loop.train_batch(torch.arange(6))[0].loss)
