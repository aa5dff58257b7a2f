from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import normalize

from stages.errors import UsageError
from stages.train.objectives import Adversarial, Clean, Laat, anchor_logits, build_objective, smoothing_loss
from stages.train.settings import TrainSettings
from tests.stages.train.synthetic import quick, small_model

LABELS = torch.tensor([0, 2, 1, 2])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def unit_rows(count: int, width: int, seed: int) -> Tensor:
    return normalize(random(count, width, seed=seed) - 0.5, dim=1)


ANCHORS = unit_rows(3, 6, seed=5)


def a_ce_by_hand(embeddings: Tensor, tau: float) -> float:
    """Cross-entropy of cosines over tau, image by image."""
    losses = []
    for embedding, label in zip(embeddings.double().tolist(), LABELS.tolist(), strict=True):
        scores = [sum(e * a for e, a in zip(embedding, anchor, strict=True)) / tau for anchor in ANCHORS.double().tolist()]
        losses.append(math.log(sum(math.exp(score) for score in scores)) - scores[label])
    return sum(losses) / len(losses)


class Recorder(nn.Module):
    """Embeds an image as its first six values and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shown.append(x)
        return normalize(x.flatten(1)[:, :6] - 0.5, dim=1)


def test_logits_are_cosines_over_tau() -> None:
    embeddings = unit_rows(4, 6, seed=1)
    expected = torch.nn.functional.cosine_similarity(embeddings[:, None], ANCHORS[None], dim=2) / 0.1
    torch.testing.assert_close(anchor_logits(embeddings, ANCHORS, 0.1), expected)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(2, 9))
def test_smoothing_lies_between_minus_one_and_one(seed: int, count: int, width: int) -> None:
    one, two = unit_rows(count, width, seed), unit_rows(count, width, seed + 1)
    assert -1 - 1e-6 <= float(smoothing_loss(one, two)) <= 1 + 1e-6
    assert float(smoothing_loss(one, one)) == pytest.approx(-1, abs=1e-6)
    assert float(smoothing_loss(one, -one)) == pytest.approx(1, abs=1e-6)
    assert float(smoothing_loss(one, two)) == pytest.approx(float(smoothing_loss(two, one)))


@pytest.mark.parametrize(("tau", "beta"), [(1.0, 1.0), (0.1, 0.0), (0.5, 2.5)])
def test_laat_is_a_ce_on_attacked_images_plus_weighted_smoothing(tau: float, beta: float) -> None:
    x, x_adv = random(4, 3, 2, 2, seed=1), random(4, 3, 2, 2, seed=2)
    outcome = Laat(ANCHORS, tau, beta).outer(Recorder(), x, x_adv, LABELS)
    clean, attacked = Recorder()(x), Recorder()(x_adv)
    smoothing = -sum(float(c @ a) for c, a in zip(clean.double(), attacked.double(), strict=True)) / 4
    assert float(outcome.loss) == pytest.approx(a_ce_by_hand(attacked, tau) + beta * smoothing, rel=1e-5)
    torch.testing.assert_close(outcome.clean, clean @ ANCHORS.T / tau)
    torch.testing.assert_close(outcome.attacked, attacked @ ANCHORS.T / tau)


def test_laat_shows_the_attacked_images_first() -> None:
    x, x_adv = random(4, 3, 2, 2, seed=1), random(4, 3, 2, 2, seed=2)
    model = Recorder()
    Laat(ANCHORS, 1.0, 1.0).outer(model, x, x_adv, LABELS)
    assert [shown is x_adv for shown in model.shown] == [True, False]


def test_both_sides_of_the_smoothing_get_gradients() -> None:
    x, x_adv = random(4, 3, 2, 2, seed=1).requires_grad_(), random(4, 3, 2, 2, seed=2).requires_grad_()
    Laat(ANCHORS, 1.0, 1.0).outer(Recorder(), x, x_adv, LABELS).loss.backward()
    assert x.grad is not None
    assert x_adv.grad is not None
    assert float(x.grad.abs().max()) > 0


def test_plain_adversarial_training_looks_at_attacked_images_alone() -> None:
    x_adv = random(4, 3, 2, 2, seed=2)
    model = Recorder()
    outcome = Adversarial(ANCHORS, 0.5).outer(model, torch.full_like(x_adv, torch.nan), x_adv, LABELS)
    assert float(outcome.loss) == pytest.approx(a_ce_by_hand(Recorder()(x_adv), 0.5), rel=1e-5)
    assert outcome.clean is None
    assert len(model.shown) == 1


def test_clean_training_looks_at_clean_images_alone() -> None:
    x = random(4, 3, 2, 2, seed=1)
    objective = Clean(ANCHORS, 0.5)
    outcome = objective.outer(Recorder(), x, torch.full_like(x, torch.nan), LABELS)
    assert float(outcome.loss) == pytest.approx(a_ce_by_hand(Recorder()(x), 0.5), rel=1e-5)
    assert outcome.attacked is None
    assert not objective.attacks


def test_the_inner_attack_ascends_the_a_ce_of_each_image() -> None:
    x_adv = random(4, 3, 2, 2, seed=2)
    for objective in (Laat(ANCHORS, 0.5, 3.0), Adversarial(ANCHORS, 0.5)):
        losses = objective.inner(Recorder(), LABELS)(x_adv)
        assert losses.shape == (4,)
        assert float(losses.mean()) == pytest.approx(a_ce_by_hand(Recorder()(x_adv), 0.5), rel=1e-5)


@pytest.mark.parametrize("name", ["laat", "at", "clean"])
def test_anchors_get_no_gradients(name: str) -> None:
    anchors, model = ANCHORS.clone(), small_model()
    x = random(4, 3, 16, 16)
    build_objective(quick(objective=name), anchors).outer(model, x, x, LABELS).loss.backward()
    assert not anchors.requires_grad
    assert anchors.grad is None
    assert torch.equal(anchors, ANCHORS)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_objectives_by_name() -> None:
    laat = build_objective(TrainSettings(tau=0.3, smoothing=0.7), ANCHORS)
    assert isinstance(laat, Laat)
    assert (laat.tau, laat.beta) == (0.3, 0.7)
    assert type(build_objective(quick(objective="at"), ANCHORS)) is Adversarial
    assert type(build_objective(quick(objective="clean"), ANCHORS)) is Clean
    unknown = quick()
    object.__setattr__(unknown, "objective", "trades")
    with pytest.raises(UsageError, match="choose one of laat, at, clean"):
        build_objective(unknown, ANCHORS)
