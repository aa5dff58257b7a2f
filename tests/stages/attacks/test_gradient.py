from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from stages.attacks.gradient import maximise, projected_gradient
from stages.attacks.losses import LOSSES, ce_loss
from stages.errors import ComputeError
from stages.models.frozen import frozen
from stages.threat import ThreatModel

THREAT = ThreatModel(Fraction(8, 255))
STEP = THREAT.radius / 4


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("loss", ["ce", "margin", "cw"])
@pytest.mark.parametrize("random_start", [False, True])
def test_on_a_linear_two_class_model_the_optimum_is_the_corner_of_the_ball(loss: str, random_start: bool) -> None:
    # z = W x with two classes: the worst case is x + eps * sign(w_other - w_y), cut to the pixel range
    weight = torch.randn(2, 48, generator=generator())
    x = torch.rand(16, 3, 4, 4, generator=generator())
    x[0], x[1] = 0.0, 1.0
    labels = torch.arange(16) % 2
    away = (weight[1 - labels] - weight[labels]).sign().reshape(x.shape)
    worst = (x + THREAT.radius * away).clamp(0, 1)
    # the CW loss has a gradient only while the right class leads
    lead = 100 * torch.eye(2)[labels] if loss == "cw" else 0
    found = maximise(
        lambda z: LOSSES[loss](z.flatten(1) @ weight.T + lead, labels),
        x,
        THREAT,
        steps=10,
        step_size=STEP,
        noise=torch.rand(x.shape, generator=generator()) if random_start else None,
    )
    torch.testing.assert_close(found, worst, rtol=0, atol=1e-6)


def test_after_k_steps_pgd_has_moved_k_step_sizes() -> None:
    x = torch.full((1, 3, 4, 4), 0.5)
    moved = maximise(lambda z: z.flatten(1).sum(1), x, THREAT, steps=3, step_size=STEP)
    torch.testing.assert_close(moved, x + 3 * STEP)


def test_no_step_and_no_image() -> None:
    x = torch.full((2, 3, 4, 4), 0.5)
    assert torch.equal(maximise(lambda z: z.sum(), x, THREAT, steps=0, step_size=STEP), x)
    empty = x[:0]
    assert maximise(lambda z: z.sum(), empty, THREAT, steps=2, step_size=STEP).shape == empty.shape


def test_the_loop_leaves_with_the_first_fallen_iterate_and_keeps_batches_full() -> None:
    # row r falls once its pixels have risen by r steps; the sizes of the batches show the refill
    x = torch.full((7, 3, 2, 2), 0.25)
    step = 2.0**-8
    sizes: list[int] = []

    def objective(x_adv: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(rows))
        risen = (x_adv - 0.25)[:, 0, 0, 0] / step
        return x_adv.flatten(1).sum(1), risen >= rows

    done = {}
    for part in projected_gradient(
        objective, lambda rows: (x[rows], x[rows]), torch.arange(7), THREAT, steps=4, step_size=step, batch_size=3
    ):
        done.update(zip(part.rows.tolist(), (part.x_adv - part.x)[:, 0, 0, 0].div(step).tolist(), strict=True))
    assert done == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 6: 4}
    assert sizes[:-4] == [3] * len(sizes[:-4])
    assert sum(sizes) == 1 + 2 + 3 + 4 * 4  # no forward pass is spent on a row that is done


def test_parameters_get_no_gradient_and_keep_every_flag() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    model[1].bias.requires_grad_(False)
    model[2].eval()
    flags = [(p.requires_grad, p.grad) for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    x, labels = torch.rand(5, 3, 2, 2, generator=generator()), torch.zeros(5, dtype=torch.int64)
    for freeze in (True, False):
        if freeze:
            with frozen(model):
                assert not any(p.requires_grad for p in model.parameters())
                assert not any(m.training for m in model.modules())
                maximise(lambda z: ce_loss(model(z), labels), x, THREAT, steps=2, step_size=STEP)
                after = {k: v.clone() for k, v in model.state_dict().items()}
            assert all(torch.equal(after[k], state[k]) for k in state)
        else:
            moved = maximise(lambda z: ce_loss(model(z), labels), x, THREAT, steps=2, step_size=STEP)
            assert not moved.requires_grad
        assert [(p.requires_grad, p.grad) for p in model.parameters()] == flags
        assert [m.training for m in model.modules()] == modes


def test_frozen_restores_after_an_error() -> None:
    model = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="stop"), frozen(model):
        raise RuntimeError("stop")
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


def test_a_loss_that_the_images_do_not_reach_has_no_gradient() -> None:
    weight, x = torch.ones(1, requires_grad=True), torch.zeros(1, 3, 2, 2)
    with pytest.raises(ComputeError, match="no gradient with respect to its input"):
        maximise(lambda x: weight * x.detach().sum(), x, THREAT, steps=1, step_size=0.1)
