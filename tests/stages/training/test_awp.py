from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from stages.models.embedding import EmbeddingModel
from stages.training.awp import WeightPerturbation, buffers_restored
from tests.stages.training.synthetic import made_up_anchors, made_up_images, small_model

ANCHORS, IMAGES = torch.from_numpy(made_up_anchors().vectors), made_up_images()
NORM = "backbone.blocks.0.norm"
X, LABELS = IMAGES.images.float() / 255, IMAGES.labels


def loss(model: nn.Module) -> Tensor:
    return cross_entropy(model(X) @ ANCHORS.to(X.dtype).T / 0.1, LABELS)


def gradients(model: EmbeddingModel) -> list[Tensor]:
    return list(torch.autograd.grad(loss(model), list(model.parameters())))


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same_bits(one: Tensor, other: Tensor) -> bool:
    return one.detach().contiguous().numpy().tobytes() == other.detach().contiguous().numpy().tobytes()


@pytest.mark.parametrize("gamma", [5e-3, 0.1])
def test_each_weight_moves_by_gamma_times_its_norm_along_its_gradient(gamma: float) -> None:
    model = small_model()
    before, found = copies(model), gradients(model)
    WeightPerturbation(model, gamma).perturb(found)
    for (name, parameter), grad in zip(model.named_parameters(), found, strict=True):
        move = (parameter.detach() - before[name]).double()
        if parameter.ndim < 2:
            assert not move.any()
            continue
        assert float(move.norm() / before[name].double().norm()) == pytest.approx(gamma, rel=1e-4)
        direction = float((move * grad).sum() / move.norm() / grad.double().norm())
        assert direction == pytest.approx(1, abs=1e-6)


def test_the_loss_is_higher_there() -> None:
    model = small_model()
    at_rest, found = float(loss(model).detach()), gradients(model)
    perturbation = WeightPerturbation(model, 5e-3)
    perturbation.perturb(found)
    assert float(loss(model).detach()) > at_rest + 1e-3
    perturbation.restore()
    assert float(loss(model).detach()) == at_rest


@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.05])
def test_it_is_the_move_of_the_published_proxy_at_any_proxy_rate(rate: float) -> None:
    model = small_model().double()
    proxy = copy.deepcopy(model)
    optimizer = torch.optim.SGD(proxy.parameters(), lr=rate)
    images = X.double()
    (-cross_entropy(proxy(images) @ ANCHORS.double().T, LABELS)).backward()
    optimizer.step()
    found = torch.autograd.grad(cross_entropy(model(images) @ ANCHORS.double().T, LABELS), list(model.parameters()))
    before = copies(model)
    WeightPerturbation(model, 5e-3).perturb(found)
    for name, moved in proxy.named_parameters():
        difference = moved.detach() - before[name]
        expected = before[name] + (5e-3 * before[name].norm() / difference.norm() * difference if moved.ndim > 1 else 0)
        torch.testing.assert_close(model.get_parameter(name).detach(), expected, rtol=1e-9, atol=1e-12)


def test_restored_weights_are_the_old_ones_bit_for_bit() -> None:
    model = small_model()
    found = gradients(model)
    before, perturbation = copies(model), WeightPerturbation(model, 0.3)
    for _ in range(3):
        perturbation.perturb(found)
        assert not same_bits(model.projection.weight, before["projection.weight"])
        perturbation.restore()
        assert all(same_bits(value, before[name]) for name, value in model.state_dict().items())


def test_the_step_taken_at_the_perturbed_weights_is_kept() -> None:
    model, apart = small_model(), small_model()
    perturbation, found = WeightPerturbation(model, 5e-3), gradients(model)
    optimizers = [torch.optim.SGD(which.parameters(), lr=0.05, momentum=0.9) for which in (model, apart)]
    perturbation.perturb(found)
    at_perturbed = gradients(model)
    for which, optimizer in zip((model, apart), optimizers, strict=True):
        for parameter, grad in zip(which.parameters(), at_perturbed, strict=True):
            parameter.grad = grad.clone()
        optimizer.step()
    perturbation.restore()
    # without weight decay the step does not look at the weights: the same from either place
    for mine, theirs in zip(model.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
    assert not torch.equal(at_perturbed[-1], found[-1])


def test_no_gradient_no_move() -> None:
    model = small_model()
    before = copies(model)
    found: list[Tensor | None] = [torch.zeros_like(parameter) for parameter in model.parameters()]
    found[-1] = None
    perturbation = WeightPerturbation(model, 0.5)
    perturbation.perturb(found)
    assert all(same_bits(value, before[name]) for name, value in model.state_dict().items())
    perturbation.restore()
    assert all(same_bits(value, before[name]) for name, value in model.state_dict().items())


def test_a_gamma_of_zero_does_nothing() -> None:
    model = small_model()
    before, found = copies(model), gradients(model)
    perturbation = WeightPerturbation(model, 0.0)
    perturbation.perturb(found)
    with torch.no_grad():
        model.projection.weight.add_(1)
    perturbation.restore()
    assert torch.equal(model.projection.weight, before["projection.weight"] + 1)


def test_frozen_parameters_stay_and_have_no_gradient_to_give() -> None:
    model = small_model()
    model.backbone.requires_grad_(False)
    before = copies(model)
    WeightPerturbation(model, 0.1).perturb([torch.ones_like(model.projection.weight)])
    moved = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert moved == ["projection.weight"]


def test_gradients_are_only_read() -> None:
    model = small_model()
    found = gradients(model)
    kept = [grad.clone() for grad in found]
    perturbation = WeightPerturbation(model, 0.1)
    perturbation.perturb(found)
    perturbation.restore()
    assert all(torch.equal(one, other) for one, other in zip(found, kept, strict=True))


def test_a_gradient_that_is_not_finite_shows_in_the_weights() -> None:
    model = small_model()
    found = gradients(model)
    found[0][0] = torch.nan
    WeightPerturbation(model, 0.1).perturb(found)
    assert not torch.isfinite(next(model.parameters())).all()


def test_running_statistics_are_put_back() -> None:
    model = small_model().train()
    before = copies(model)
    with buffers_restored(model):
        model(X)
        assert not torch.equal(model.state_dict()[f"{NORM}.running_mean"], before[f"{NORM}.running_mean"])
        assert int(model.state_dict()[f"{NORM}.num_batches_tracked"]) == 1
    assert all(same_bits(value, before[name]) for name, value in model.state_dict().items())
    model(X)
    assert int(model.state_dict()[f"{NORM}.num_batches_tracked"]) == 1


def test_running_statistics_are_put_back_after_a_failure() -> None:
    model = small_model().train()
    before = copies(model)

    def fails() -> None:
        with buffers_restored(model):
            model(X)
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fails()
    assert all(same_bits(value, before[name]) for name, value in model.state_dict().items())
