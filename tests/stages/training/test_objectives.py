from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import normalize

from stages.training.build_objective import build_objective
from stages.training.objectives import OBJECTIVES, Objective, anchor_logits
from stages.training.settings import TrainSettings

LABELS = torch.tensor([0, 2, 1, 2])
SIDES = {  # of those against anchors: whether the outer step looks at clean and at attacked images
    "laat": (True, True),
    "at": (False, True),
    "trades": (True, True),
    "clean": (True, False),
    "cos": (False, True),
    "acos": (False, True),
    "l2": (False, True),
}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def unit_rows(count: int, width: int, seed: int) -> Tensor:
    return normalize(random(count, width, seed=seed) - 0.5, dim=1)


ANCHORS = unit_rows(3, 6, seed=5)
X, X_ADV = random(4, 3, 2, 2, seed=1), random(4, 3, 2, 2, seed=2)


def objective(name: str, anchors: Tensor = ANCHORS, tau: float = 0.5, beta: float | None = 2.5) -> Objective:
    beta = beta if OBJECTIVES[name].default_beta else None
    return build_objective(TrainSettings(objective=name, tau=tau, beta=beta), anchors)


class Recorder(nn.Module):
    """Embeds an image as its first six values and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shown.append(x)
        return normalize(x.flatten(1)[:, :6] - 0.5, dim=1)


class Mixer(nn.Module):
    """A small smooth embedding with weights: gradients can be compared with differences."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(random(6, 12, seed=9).double() - 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return normalize(torch.tanh(x.flatten(1) - 0.5) @ self.weight.T, dim=1)


# each loss again in plain Python, one image at a time, from lists of numbers


def dot(one: list[float], other: list[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


def log_chances(embedding: list[float], tau: float) -> list[float]:
    scores = [dot(embedding, anchor) / tau for anchor in ANCHORS.double().tolist()]
    return [score - math.log(math.fsum(map(math.exp, scores))) for score in scores]


def terms_by_hand(
    name: str, clean: list[float], attacked: list[float], label: int, tau: float, beta: float
) -> dict[str, float]:
    own = ANCHORS.double().tolist()[label]
    if name == "laat":
        return {"A-CE": -log_chances(attacked, tau)[label], "smoothing": -beta * dot(clean, attacked)}
    if name == "at":
        return {"A-CE": -log_chances(attacked, tau)[label]}
    if name == "clean":
        return {"A-CE": -log_chances(clean, tau)[label]}
    if name == "trades":
        p, q = log_chances(clean, tau), log_chances(attacked, tau)
        return {"A-CE": -p[label], "KL": beta * math.fsum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True))}
    if name == "cos":
        return {"cosine": -dot(attacked, own)}
    if name == "acos":
        return {"angle": math.acos(dot(attacked, own))}
    return {"distance": math.dist(attacked, own)}


@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize(("tau", "beta"), [(1.0, 1.0), (0.1, 0.0), (0.5, 2.5)])
def test_terms_are_those_of_the_formulas(name: str, tau: float, beta: float) -> None:
    found = objective(name, tau=tau, beta=beta)
    outcome = found.outer(Recorder(), X, X_ADV, LABELS)
    pairs = zip(Recorder()(X).double().tolist(), Recorder()(X_ADV).double().tolist(), LABELS.tolist(), strict=True)
    expected = [terms_by_hand(name, clean, attacked, label, tau, beta) for clean, attacked, label in pairs]
    assert tuple(outcome.terms) == found.terms == tuple(expected[0])
    for term, values in outcome.terms.items():
        assert values.tolist() == pytest.approx([image[term] for image in expected], rel=1e-5, abs=1e-6)
    assert outcome.losses.tolist() == pytest.approx([sum(image.values()) for image in expected], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", SIDES)
def test_losses_are_those_of_pytorch(name: str) -> None:
    clean, attacked = Recorder()(X), Recorder()(X_ADV)
    logits, clean_logits = attacked @ ANCHORS.T / 0.5, clean @ ANCHORS.T / 0.5
    kl = F.kl_div(F.log_softmax(logits, 1), F.softmax(clean_logits, 1), reduction="none").sum(1)
    expected = {
        "laat": F.cross_entropy(logits, LABELS, reduction="none") - 2.5 * F.cosine_similarity(clean, attacked),
        "at": F.cross_entropy(logits, LABELS, reduction="none"),
        "trades": F.cross_entropy(clean_logits, LABELS, reduction="none") + 2.5 * kl,
        "clean": F.cross_entropy(clean_logits, LABELS, reduction="none"),
        "cos": -F.cosine_similarity(attacked, ANCHORS[LABELS]),
        "acos": torch.acos(F.cosine_similarity(attacked, ANCHORS[LABELS])),
        "l2": F.pairwise_distance(attacked, ANCHORS[LABELS], eps=0),
    }
    losses = objective(name).outer(Recorder(), X, X_ADV, LABELS).losses
    torch.testing.assert_close(losses, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SIDES)
def test_each_image_has_its_own_loss(name: str) -> None:
    whole = objective(name).outer(Recorder(), X, X_ADV, LABELS).losses
    for at in range(4):
        one = slice(at, at + 1)
        alone = objective(name).outer(Recorder(), X[one], X_ADV[one], LABELS[one]).losses
        torch.testing.assert_close(alone, whole[one])


@pytest.mark.parametrize("name", SIDES)
def test_an_empty_micro_batch_has_no_losses(name: str) -> None:
    outcome = objective(name).outer(Recorder(), X[:0], X_ADV[:0], LABELS[:0])
    assert outcome.losses.shape == (0,)
    assert float(outcome.losses.sum()) == 0


def differences(loss: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of a scalar function, float64."""
    slopes = torch.zeros_like(at)
    for index in range(at.numel()):
        ahead, behind = at.clone(), at.clone()
        ahead.view(-1)[index] += step
        behind.view(-1)[index] -= step
        slopes.view(-1)[index] = (loss(ahead) - loss(behind)) / (2 * step)
    return slopes


@pytest.mark.parametrize("name", SIDES)
def test_gradients_of_the_outer_loss_are_finite_differences(name: str) -> None:
    model, found = Mixer(), objective(name, ANCHORS.double())

    def loss(weight: Tensor) -> Tensor:
        with torch.no_grad():
            model.weight.copy_(weight)
            return found.outer(model, X.double(), X_ADV.double(), LABELS).losses.sum()

    start = model.weight.detach().clone()
    (grad,) = torch.autograd.grad(found.outer(model, X.double(), X_ADV.double(), LABELS).losses.sum(), model.weight)
    torch.testing.assert_close(grad, differences(loss, start), rtol=1e-6, atol=1e-8)
    assert float(grad.abs().max()) > 1e-3


@pytest.mark.parametrize("name", [name for name in SIDES if name != "clean"])
def test_gradients_of_the_inner_loss_are_finite_differences(name: str) -> None:
    loss = objective(name, ANCHORS.double()).inner(Mixer(), X.double(), LABELS)
    x_adv = X_ADV.double().requires_grad_()
    (grad,) = torch.autograd.grad(loss(x_adv).sum(), x_adv)
    expected = differences(lambda x: loss(x).sum().detach(), x_adv.detach())
    torch.testing.assert_close(grad, expected, rtol=1e-6, atol=1e-8)
    assert float(grad.abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["laat", "at", "clean"])
def test_the_inner_attack_ascends_the_a_ce_of_each_image(name: str) -> None:
    losses = objective(name).inner(Recorder(), X, LABELS)(X_ADV)
    expected = [-log_chances(e, 0.5)[y] for e, y in zip(Recorder()(X_ADV).double().tolist(), LABELS.tolist(), strict=True)]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["cos", "acos", "l2"])
def test_the_inner_attack_on_a_distance_ascends_that_distance(name: str) -> None:
    found = objective(name)
    outer = found.outer(Recorder(), X, X_ADV, LABELS).losses
    torch.testing.assert_close(found.inner(Recorder(), X, LABELS)(X_ADV), outer)


def test_the_inner_attack_of_trades_ascends_the_divergence_alone() -> None:
    found = objective("trades", beta=2.5)
    model = Recorder()
    loss = found.inner(model, X, LABELS)
    kl = found.outer(Recorder(), X, X_ADV, LABELS).terms["KL"] / 2.5
    torch.testing.assert_close(loss(X_ADV), kl)
    loss(X_ADV)
    assert sum(shown is X for shown in model.shown) == 1  # the clean side is looked up once


def test_the_divergence_of_trades_is_flat_at_the_image_and_steep_at_a_random_start() -> None:
    loss = objective("trades", ANCHORS.double()).inner(Mixer(), X.double(), LABELS)
    slopes = []
    for start in (X.double(), X.double() + 8 / 255 * (2 * random(4, 3, 2, 2, seed=7).double() - 1)):
        x_adv = start.requires_grad_()
        losses = loss(x_adv)
        (grad,) = torch.autograd.grad(losses.sum(), x_adv)
        slopes.append((float(losses.detach().abs().max()), float(grad.abs().max())))
    assert slopes[0] == pytest.approx((0, 0), abs=1e-14)
    assert min(slopes[1]) > 1e-6


def test_logits_are_cosines_over_tau() -> None:
    embeddings = unit_rows(4, 6, seed=1)
    expected = F.cosine_similarity(embeddings[:, None], ANCHORS[None], dim=2) / 0.1
    torch.testing.assert_close(anchor_logits(embeddings, ANCHORS, 0.1), expected)


@pytest.mark.parametrize("name", SIDES)
def test_logits_come_along_for_the_sides_that_were_looked_at(name: str) -> None:
    found, model = objective(name), Recorder()
    outcome = found.outer(model, X, X_ADV, LABELS)
    assert (found.clean, found.attacks) == SIDES[name]
    for looked, logits, x in zip(SIDES[name], (outcome.clean, outcome.attacked), (X, X_ADV), strict=True):
        assert any(shown is x for shown in model.shown) == looked
        if looked:
            torch.testing.assert_close(logits, Recorder()(x) @ ANCHORS.T / 0.5)
        else:
            assert logits is None
    assert len(model.shown) == sum(SIDES[name])


@pytest.mark.parametrize("name", [name for name in SIDES if sum(SIDES[name]) == 1])
def test_the_other_side_is_not_even_read(name: str) -> None:
    nothing = torch.full_like(X, torch.nan)
    x, x_adv = (X, nothing) if name == "clean" else (nothing, X_ADV)
    assert torch.isfinite(objective(name).outer(Recorder(), x, x_adv, LABELS).losses).all()


@pytest.mark.parametrize(("name", "attacked_first"), [("laat", True), ("trades", False)])
def test_the_published_order_of_the_two_passes(name: str, attacked_first: bool) -> None:
    model = Recorder()
    objective(name).outer(model, X, X_ADV, LABELS)
    assert [shown is X_ADV for shown in model.shown] == [attacked_first, not attacked_first]


@pytest.mark.parametrize("name", ["laat", "trades"])
def test_both_sides_of_the_second_term_get_gradients(name: str) -> None:
    found = objective(name)
    x, x_adv = X.clone().requires_grad_(), X_ADV.clone().requires_grad_()
    second = found.outer(Recorder(), x, x_adv, LABELS).terms[found.terms[1]]
    for grad in torch.autograd.grad(second.sum(), (x, x_adv)):
        assert float(grad.abs().max()) > 1e-3
