"""Training in the Euclidean ball."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.attacks.spec import AttackPlan
from stages.randomness import torch_generator
from stages.threat import ThreatModel
from stages.training.loop import Trainer
from stages.training.selection import plan_selection
from tests.stages.training.plain_step import PlainConv4
from tests.stages.training.synthetic import made_up_anchors, made_up_images, quick, small_model
from tests.stages.training.test_run import loaded, trained

ANCHORS = torch.from_numpy(made_up_anchors().vectors)
IMAGES = made_up_images()
EPS, STEP = 1.5, 0.5


def plain_attack(plain: nn.Module, anchors: Tensor, x: Tensor, y: Tensor, start: Tensor, steps: int) -> Tensor:
    """Steps of equal length along the gradient of each image, back to the ball by scaling, then to the pixel range."""
    plain.eval()
    x_adv = start
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_(True)
        (grad,) = torch.autograd.grad(F.cross_entropy(plain(x_adv) @ anchors.T, y), x_adv)
        x_adv = x_adv.detach() + STEP * grad / grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        moved = x_adv - x
        x_adv = x + moved * (EPS / moved.flatten(1).norm(dim=1)).clamp(max=1).view(-1, 1, 1, 1)
        assert ((x_adv >= 0) & (x_adv <= 1)).all()  # so that scaling is the projection
    return x_adv.detach()


def test_twenty_steps_are_those_of_a_plain_program() -> None:
    images = made_up_images()
    images.images.copy_(images.images // 8 + 110)  # away from black and white
    model, anchors = small_model().double(), ANCHORS.double()
    plain = PlainConv4(model)
    settings = quick(objective="at", norm="l2", eps=Fraction(3, 2), step_size=Fraction(1, 2), augment=False, epochs=7, steps=4)
    loop = Trainer(model, anchors, images, settings, "cpu")
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    done = 0
    while done < 20:
        order = torch.randperm(48, generator=torch_generator(0, f"train/order/{loop.epoch}"))
        for rows, step in zip(order.split(16), loop.steps(), strict=True):
            x, y = images.images[rows].float() / 255, images.labels[rows]
            noise = torch.rand(x.shape, generator=torch_generator(0, f"train/attack/{done}"))
            start = ThreatModel(Fraction(3, 2), "L2").random_start(x, noise)  # its distribution: see test_ball
            x_adv = plain_attack(plain, anchors, x.double(), y, start.double(), 4)
            plain.train()
            loss = F.cross_entropy(plain(x_adv) @ anchors.T, y)
            optimizer.zero_grad()
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = 0.05 if done < 3 * 5 else 0.005
            optimizer.step()
            done += 1
            assert float(step.loss) == pytest.approx(float(loss.detach()), abs=1e-6), done


def test_epochs_are_scored_in_the_same_ball(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[AttackPlan] = []

    def attack_images(classifier: object, images: Tensor, labels: Tensor, plan: AttackPlan, **_: object) -> tuple[Tensor, ...]:
        asked.append(plan)
        return images, labels, labels

    monkeypatch.setattr("stages.training.selection.attack_images", attack_images)
    settings = quick(norm="l2", eps=Fraction(1, 2))
    _, selection = plan_selection(made_up_images(), made_up_anchors(seen=4, val=2), 0)
    selection.score(small_model(), settings, "cpu")
    (plan,) = asked
    assert (plan.threat, plan.spec.step_size(plan.threat)) == (ThreatModel("0.5", "L2"), 0.125)


def test_a_checkpoint_says_the_ball_it_was_trained_in(tmp_path: Path) -> None:
    trained(tmp_path, quick(norm="l2", eps=Fraction(1, 2), epochs=1))
    assert loaded(tmp_path / "model.st").threat == ThreatModel("0.5", "L2")
