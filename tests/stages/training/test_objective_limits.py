"""Objectives at the limits of their values: bounds, exact hits, and what gets no gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from stages.training.build_objective import build_objective
from stages.training.objectives import (
    Clean,
    Laat,
    Trades,
    divergence,
    smoothing_loss,
)
from tests.stages.training.synthetic import quick, small_model
from tests.stages.training.test_objectives import ANCHORS, LABELS, SIDES, X_ADV, X, objective, random, unit_rows


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(2, 9))
def test_smoothing_lies_between_minus_one_and_one(seed: int, count: int, width: int) -> None:
    one, two = unit_rows(count, width, seed), unit_rows(count, width, seed + 1)
    assert smoothing_loss(one, two).shape == (count,)
    assert float(smoothing_loss(one, two).abs().max()) <= 1 + 1e-6
    torch.testing.assert_close(smoothing_loss(one, one), -torch.ones(count))
    torch.testing.assert_close(smoothing_loss(one, -one), torch.ones(count))
    torch.testing.assert_close(smoothing_loss(one, two), smoothing_loss(two, one))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(2, 9), st.sampled_from([0.01, 1.0, 300.0]))
def test_divergence_is_zero_of_equals_and_never_negative(seed: int, classes: int, scale: float) -> None:
    one, two = ((scale * random(5, classes, seed=seed + at)).log_softmax(1) for at in range(2))
    assert torch.equal(divergence(one, one), torch.zeros(5))
    assert float(divergence(one, two).min()) >= -1e-6
    assert torch.isfinite(divergence(one, two)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize("sign", [1, -1])
def test_an_exact_hit_and_its_opposite_have_finite_losses_and_gradients(name: str, sign: int, dtype: torch.dtype) -> None:
    anchors = torch.eye(3, 6, dtype=dtype)
    embeddings = (sign * anchors[LABELS]).requires_grad_()
    found = objective(name, anchors, tau=0.01)
    losses = found.outer(lambda x: embeddings, X, X_ADV, LABELS).losses
    (grad,) = torch.autograd.grad(losses.sum(), embeddings)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(grad).all()
    hit = {"cos": -sign, "acos": 0 if sign == 1 else math.pi, "l2": 1 - sign}
    if name in hit:
        assert losses.tolist() == pytest.approx([hit[name]] * 4, abs=2e-3)


@pytest.mark.parametrize("name", ["acos", "l2"])
@pytest.mark.parametrize("away", [1e-4, 1e-3, 1e-2])
def test_near_a_hit_distances_are_nearly_exact(name: str, away: float) -> None:
    anchors = torch.eye(3, 6, dtype=torch.float64)
    embeddings = normalize(anchors[LABELS] + away * torch.eye(6, dtype=torch.float64)[5], dim=1)
    found = objective(name, anchors).outer(lambda x: embeddings, X, X_ADV, LABELS).losses
    assert found.tolist() == pytest.approx([away] * 4, abs=1.5e-3 if away < 2e-3 else 1e-6)


@pytest.mark.parametrize("name", SIDES)
def test_anchors_get_no_gradients(name: str) -> None:
    anchors, model = ANCHORS.clone(), small_model()
    x, x_adv = random(4, 3, 16, 16), random(4, 3, 16, 16, seed=1)
    objective(name, anchors).outer(model, x, x_adv, LABELS).losses.mean().backward()
    assert not anchors.requires_grad
    assert anchors.grad is None
    assert torch.equal(anchors, ANCHORS)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_second_weight_has_the_published_default() -> None:
    laat, trades = (build_objective(quick(objective=name), ANCHORS) for name in ("laat", "trades"))
    assert isinstance(laat, Laat)
    assert isinstance(trades, Trades)
    assert (laat.beta, trades.beta) == (1, 6)
    assert isinstance(build_objective(quick(objective="clean"), ANCHORS), Clean)
