from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.errors import ComputeError
from stages.models.embedding import EmbeddingModel
from stages.randomness import torch_generator
from stages.training.loop import Trainer
from stages.training.sums import Figures
from stages.training.training_step import MicroBatch
from tests.stages.training.plain_step import PlainConv4, plain_attack, plain_laat_loss
from tests.stages.training.synthetic import made_up_anchors, made_up_images, quick, small_model

ANCHORS = torch.from_numpy(made_up_anchors().vectors)
IMAGES = made_up_images()


def trainer(model: EmbeddingModel | None = None, **changes: Any) -> Trainer:
    return Trainer(model or small_model(), ANCHORS, IMAGES, quick(**changes), "cpu")


def epoch(loop: Trainer) -> Figures:
    """Train the rest of the current epoch."""
    for _ in loop.steps():
        pass
    return loop.sums.figures()


def attacked(loop: Trainer, x: Tensor, labels: Tensor, seed: int = 0) -> Tensor:
    noise = torch.rand(x.shape, generator=torch_generator(seed, "tests/noise"))
    return loop.training_step._attack(MicroBatch(x, noise, labels, slice(0, len(x)))).x_adv


@pytest.mark.parametrize(("tau", "beta"), [(1.0, 1.0), (0.2, 3.0)])
def test_an_epoch_is_that_of_the_obvious_program(tau: float, beta: float) -> None:
    # float64, so that no sign of a gradient hangs on rounding
    model = small_model().double()
    plain, anchors = PlainConv4(model), ANCHORS.double()
    settings = quick(tau=tau, beta=beta, augment=False, steps=3, seed=4)
    loop = Trainer(model, anchors, IMAGES, settings, "cpu")
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    order = torch.randperm(48, generator=torch_generator(4, "train/order/1"))
    for number, (rows, done) in enumerate(zip(order.split(16), loop.steps(), strict=True)):
        x, y = IMAGES.images[rows].float() / 255, IMAGES.labels[rows]
        noise = torch.rand(x.shape, generator=torch_generator(4, f"train/attack/{number}"))
        x_adv = plain_attack(plain, anchors, x, y, noise, eps=8 / 255, steps=3, step=2 / 255, tau=tau)
        loss = plain_laat_loss(plain, anchors, x, x_adv, y, tau=tau, beta=beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert (done.number, done.images) == (number + 1, 16)
        assert float(done.loss) == pytest.approx(float(loss.detach()), rel=1e-9)
    for block, conv, norm in zip(model.backbone.blocks, plain.layers[0:16:4], plain.layers[1:16:4], strict=True):
        torch.testing.assert_close(block.conv.weight, conv.weight, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(block.norm.weight, norm.weight, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(block.norm.running_var, norm.running_var, rtol=1e-9, atol=1e-12)
        assert int(block.norm.num_batches_tracked) == int(norm.num_batches_tracked) == 6
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
    attacked(loop, x, IMAGES.labels[::3])
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
    x_adv = attacked(loop, x, labels)
    assert not x_adv.requires_grad
    assert float((x_adv - x).abs().max()) <= float(eps) + 1e-6
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1
    loop.model.eval()

    @torch.no_grad()
    def loss(images: Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(loop.model(images) @ ANCHORS.T, labels))

    assert loss(x_adv) > loss(x)


def test_every_step_starts_its_attack_elsewhere() -> None:
    loop = trainer(augment=False)
    shown = watched(loop)
    epoch(loop)
    noises = [batch.noise for batch in chain(*shown) if batch.noise is not None]
    assert len(noises) == 3
    assert all(0 <= float(noise.min()) < 0.01 < 0.99 < float(noise.max()) < 1 for noise in noises)
    assert float((noises[0] - noises[1]).abs().mean()) == pytest.approx(1 / 3, abs=0.02)


def watched(loop: Trainer) -> list[Sequence[MicroBatch]]:
    """The micro-batches of each step, filled as the steps are taken."""
    shown: list[Sequence[MicroBatch]] = []
    take = loop.training_step.take

    def keep(micro_batches: Sequence[MicroBatch], *others: Any) -> Tensor:
        shown.append(micro_batches)
        return take(micro_batches, *others)

    loop.training_step.take = keep  # type: ignore[method-assign,assignment]
    return shown


def test_anchors_are_not_trained() -> None:
    anchors = ANCHORS.clone()
    epoch(Trainer(small_model(), anchors, IMAGES, quick(), "cpu"))
    assert torch.equal(anchors, ANCHORS)
    assert anchors.grad is None


@pytest.mark.parametrize("objective", ["laat", "at", "clean"])
def test_an_epoch_shows_every_image_once(objective: str) -> None:
    loop = trainer(objective=objective, batch_size=20, augment=False)
    assert loop.steps_per_epoch == 3
    shown = watched(loop)
    epoch(loop)
    epoch(loop)
    sizes = [sum(len(batch.x) for batch in batches) for batches in shown]
    assert sizes == [20, 20, 8] * 2
    known = [image.numpy().tobytes() for image in IMAGES.images.float() / 255]
    seen = [[known.index(image.contiguous().numpy().tobytes()) for batch in batches for image in batch.x] for batches in shown]
    first, second = ([*chain(*seen[at : at + 3])] for at in (0, 3))
    assert sorted(first) == sorted(second) == list(range(48))
    assert first != second


@pytest.mark.parametrize(
    ("objective", "clean", "robust"),
    [("laat", True, True), ("at", False, True), ("trades", True, True), ("clean", True, False), ("cos", False, True)],
)
def test_figures_are_of_the_sides_that_were_looked_at(objective: str, clean: bool, robust: bool) -> None:
    figures = epoch(trainer(objective=objective))
    assert (figures.clean_accuracy is not None, figures.robust_accuracy is not None) == (clean, robust)


def test_figures_are_means_over_images_and_not_over_batches() -> None:
    loop = trainer(objective="clean", batch_size=20, augment=False)
    losses = [(float(done.loss), done.images) for done in loop.steps()]
    figures = loop.sums.figures()
    assert [count for _, count in losses] == [20, 20, 8]
    assert figures.loss == pytest.approx(sum(loss * count for loss, count in losses) / 48)
    assert figures.clean_accuracy is not None
    assert (figures.clean_accuracy * 48) % 1 == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("objective", ["laat", "at", "trades", "clean", "cos", "acos", "l2"])
def test_training_learns(objective: str) -> None:
    # the anchors are given more room than cosines at tau 1 leave
    # the distance alone does not push classes apart whose anchors are near; nor does tau multiply its gradients
    lr, expected = (0.1, 0.3) if objective in ("cos", "acos", "l2") else (0.02, 0.8)
    loop = trainer(objective=objective, tau=0.1, augment=False, epochs=15, schedule="one-cycle", lr=lr, eps=Fraction(2, 255))
    found = [epoch(loop) for _ in range(15)]
    assert found[-1].loss < found[0].loss
    accuracies = (found[-1].clean_accuracy, found[-1].robust_accuracy)
    assert max(value for value in accuracies if value is not None) > expected  # chance is 1/6


def test_the_schedule_sets_the_rate_of_each_step() -> None:
    loop = trainer(objective="clean", epochs=5, batch_size=24, lr=0.1)
    rates = []
    for _ in range(5):
        epoch(loop)
        rates.append(loop.training_step.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01])


def test_a_loss_that_is_not_finite_names_step_and_term() -> None:
    loop = trainer(batch_size=24)
    epoch(loop)
    with torch.no_grad():
        loop.model.projection.weight.fill_(torch.nan)
    with pytest.raises(
        ComputeError,
        match=r"non-finite at step 3, in its terms 'A-CE' and 'smoothing'; train again with a lower.* --tau, --beta",
    ):
        epoch(loop)


def test_clipping_bounds_what_a_step_moves() -> None:
    loose, tight = (trainer(objective="clean", momentum=0, weight_decay=0, clip_norm=norm) for norm in (None, 1e-3))
    moved = []
    for loop in (loose, tight):
        before = torch.cat([p.detach().flatten().clone() for p in loop.model.parameters()])
        next(loop.steps())
        after = torch.cat([p.detach().flatten() for p in loop.model.parameters()])
        moved.append(float((after - before).norm()))
    assert moved[1] == pytest.approx(0.05 * 1e-3, rel=1e-3)
    assert moved[0] > 2 * moved[1]


BATCH_NORM_FREE = "timm:vit_tiny_patch16_224"


def larger_trainer(backbone: str, dtype: torch.dtype = torch.float64, **changes: Any) -> Trainer:
    """On 18 images of 32 px; in float64 no sign of a gradient depends on rounding."""
    small = made_up_images(per_class=3)
    images = type(small)(small.images.repeat(1, 1, 2, 2), small.labels, small.classes, small.provenance)
    settings = quick(**{"backbone": backbone, "steps": 1, "batch_size": 9, **changes})
    model = EmbeddingModel(backbone, 6, 32, mean=(0.4,) * 3, std=(0.25,) * 3, drop_block=settings.drop_block).to(dtype)
    return Trainer(model, ANCHORS.to(dtype), images, settings, "cpu")
