from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.models.embedding import EmbeddingModel
from stages.randomness import torch_generator
from stages.training.ema import WeightAverage
from tests.stages.training.synthetic import made_up_images, small_model

X = made_up_images().images.float() / 255


def wander(model: EmbeddingModel, step: int) -> None:
    """Change everything that training changes."""
    stream = torch_generator(step, "tests/wander")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=stream))
        model.train()(X[:16])


def by_hand(history: list[dict[str, np.ndarray]], decay: float) -> dict[str, np.ndarray]:
    """The average of `history`, whose first entry is the untrained model, in float64."""
    average = {name: value.astype(np.float64) for name, value in history[0].items()}
    for t, newest in enumerate(history[1:]):
        d = min(decay, (1 + t) / (10 + t))
        average = {name: d * value + (1 - d) * newest[name] for name, value in average.items()}
    return average


def snapshot(model: EmbeddingModel) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_twenty_updates_by_hand(decay: float) -> None:
    model = small_model()
    average, history = WeightAverage(model, decay), [snapshot(model)]
    for step in range(20):
        wander(model, step)
        average.update_parameters(model)
        history.append(snapshot(model))
    expected = by_hand(history, decay)
    for name, value in average.module.state_dict().items():
        if value.is_floating_point():
            np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
        else:
            assert int(value) == 20, name


def test_of_weights_that_stand_still_it_is_those_weights() -> None:
    model = small_model()
    average = WeightAverage(model, 0.9)
    for _ in range(50):
        average.update_parameters(model)
    for name, value in average.module.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_untrained_weights_are_forgotten_long_before_one_over_one_minus_decay() -> None:
    model = small_model()
    average = WeightAverage(model, 0.9999)
    with torch.no_grad():
        model.projection.weight.zero_()
    start = float(average.module.projection.weight.abs().max())
    for _ in range(100):
        average.update_parameters(model)
    assert 0 < float(average.module.projection.weight.abs().max()) < 1e-9 * start


def test_the_averaged_model_embeds_and_the_trained_one_is_left_alone() -> None:
    model = small_model().train()
    average = WeightAverage(model, 0.5)
    wander(model, 0)
    before = snapshot(model)
    average.update_parameters(model)
    assert isinstance(average.module, EmbeddingModel)
    assert not average.module.training
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert average.module(X).shape == (len(X), 6)
    assert all(np.array_equal(value, before[name]) for name, value in snapshot(model).items())


def test_a_resumed_average_goes_on_bit_for_bit() -> None:
    model = small_model()
    whole = WeightAverage(model, 0.99)
    state: dict[str, Tensor] = {}
    for step in range(12):
        wander(model, step)
        whole.update_parameters(model)
        if step == 6:
            state, weights = whole.state(), {name: value.clone() for name, value in model.state_dict().items()}
    again = small_model(seed=5)
    resumed = WeightAverage(again, 0.99)
    again.load_state_dict(weights)
    resumed.load(state)
    for step in range(7, 12):
        wander(again, step)
        resumed.update_parameters(again)
    one, two = whole.state(), resumed.state()
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_the_state_is_a_copy() -> None:
    model = small_model()
    average = WeightAverage(model, 0.9)
    state = average.state()
    kept = {name: value.clone() for name, value in state.items()}
    wander(model, 0)
    average.update_parameters(model)
    assert all(torch.equal(value, kept[name]) for name, value in state.items())
    assert int(average.state()["updates"]) == 1


def test_a_decay_of_zero_is_the_newest_model() -> None:
    model = small_model()
    average = WeightAverage(model, 0.0)
    wander(model, 3)
    average.update_parameters(model)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in average.module.state_dict().items())
