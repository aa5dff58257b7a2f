"""Models whose worst case is known on paper: the attacks reach it within 1 %, and nothing goes past it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from stages.attacks.losses import margin_loss
from stages.attacks.perturb import attack_samples
from stages.attacks.samples import Samples
from stages.attacks.spec import AttackPlan, parse_attack
from stages.threat import ThreatModel

SHAPE = (12, 3, 8, 8)
PIXELS = 3 * 8 * 8
LINF = ThreatModel(Fraction(8, 255))
L2 = ThreatModel(Fraction(1, 2), "L2")
NAMES = ("fgsm", "pgd-20", "pgd-20x2", "margin-pgd-20", "dlr-pgd-20")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def middle() -> Tensor:
    """Images far enough from 0 and 1 that no attack here is clipped."""
    return 0.4 + 0.2 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))


LEAD = 50.0


def opposed(score: Tensor) -> Tensor:
    """Four logits from a score (n,) under 25: class 1 at the score, class 0 well ahead of it, two that never count.

    Of all losses the cross-entropy goes blind first, with a lead of about 90 in float32.
    """
    far = torch.full_like(score, -10 * LEAD)
    return torch.stack((LEAD - score, score, far, far - 1), 1)


Scores = Callable[[Tensor, Tensor], Tensor]


class Function:
    """Any function of images and rows, where an attack expects a classifier."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores


def margins(victim: Scores, x: Tensor, name: str, threat: ThreatModel) -> tuple[Tensor, Tensor]:
    """How far the wrong class is ahead of class 0, before and after all steps of the attack."""
    labels = torch.zeros(len(x), dtype=torch.int64)
    rows = torch.arange(len(x))
    after = torch.empty(len(x))
    samples = Samples(Function(victim), lambda rows: x[rows], labels)  # type: ignore[arg-type]
    for judged in attack_samples(samples, rows, AttackPlan(parse_attack(name), threat, seed=0, batch_size=5, early_stop=False)):
        after[judged.rows] = margin_loss(judged.logits, labels[judged.rows])
    before = margin_loss(victim(x, rows), labels)
    assert (before < 0).all()
    assert (after < 0).all()  # the right class leads to the end, so that no loss runs dry and every restart runs
    return before, after


def check_reached(risen: Tensor, worst: Tensor) -> None:
    assert (risen >= 0.99 * worst).all(), (risen / worst).min()
    assert (risen <= worst * (1 + 1e-4)).all(), (risen / worst).max()


@pytest.mark.parametrize(
    ("threat", "name"), [*((LINF, name) for name in (*NAMES, "cw-linf")), *((L2, name) for name in NAMES)], ids=str
)
def test_a_linear_margin_decreases_by_eps_times_the_dual_norm(threat: ThreatModel, name: str) -> None:
    weight = normal(PIXELS)
    before, after = margins(lambda x, _: opposed(x.flatten(1) @ weight), middle(), name, threat)
    apart = 2 * weight  # w_1 - w_0
    dual = apart.abs().sum() if threat.norm == "Linf" else apart.norm()
    check_reached(after - before, threat.radius * dual.expand(len(before)))


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_with_several_wrong_classes_the_runner_up_is_followed_to_its_worst_case(threat: ThreatModel) -> None:
    # five linear classes; the worst case is the largest over k of (w_k - w_0) x + eps |w_k - w_0|. An untargeted attack
    # can climb another class than that one; where the runner-up is the worst case it is reached, and nothing goes past it
    weight = normal(5, PIXELS, seed=3)
    bias = torch.tensor([60.0, 0.0, 0.0, 0.0, 0.0])
    x = middle()
    apart = weight[1:] - weight[:1]
    dual = apart.abs().sum(1) if threat.norm == "Linf" else apart.norm(dim=1)
    ahead = x.flatten(1) @ apart.T - bias[0]
    first, second = ahead.topk(2, dim=1).values.T
    # a random start can make another class the runner-up where two are close
    clear = (ahead.argmax(1) == (ahead + threat.radius * dual).argmax(1)) & (first - second > 1)
    assert int(clear.sum()) >= 6
    worst = (ahead + threat.radius * dual).amax(1)
    for name in ("fgsm", "margin-pgd-20", "margin-pgd-20x3", "dlr-pgd-20"):
        before, after = margins(lambda z, _: z.flatten(1) @ weight.T + bias, x, name, threat)
        assert (after <= worst + 1e-3).all()
        if name.startswith("margin"):
            check_reached((after - before)[clear], (worst - before)[clear])


@pytest.mark.parametrize("name", ["pgd-40", "margin-pgd-40"])
def test_at_the_border_of_the_pixel_range_l2_spends_its_length_on_the_free_pixels(name: str) -> None:
    # the best direction is clip(x + s w) with the s that uses the whole radius, here by bisection in double precision
    weight = normal(PIXELS)
    x = (normal(*SHAPE, seed=5) + 0.5).clamp(0, 1)
    low, high = torch.zeros(len(x), 1, dtype=torch.float64), torch.full((len(x), 1), 100.0, dtype=torch.float64)
    flat, direction = x.flatten(1).double(), weight.double()
    for _ in range(100):
        half = (low + high) / 2
        far = ((flat + half * direction).clamp(0, 1) - flat).norm(dim=1, keepdim=True) > L2.radius
        low, high = torch.where(far, low, half), torch.where(far, half, high)
    worst = 2 * (((flat + low * direction).clamp(0, 1) - flat) @ direction)
    before, after = margins(lambda z, _: opposed(z.flatten(1) @ weight), x, name, L2)
    check_reached(after - before, worst.float())
    assert (worst < 0.95 * L2.radius * 2 * weight.norm()).all()


@pytest.mark.parametrize("name", [*NAMES, "cw-linf"])
def test_two_layers_linf(name: str) -> None:
    # every hidden unit rises along one sign pattern and the second layer is not negative: the worst case is its corner,
    # whichever units are off at the clean image
    pattern = normal(PIXELS).sign()
    first, second = normal(32, PIXELS, seed=1).abs() * pattern, normal(32, seed=2).abs()
    x = middle()
    at = (x.flatten(1) @ first.T).mean(0)
    offset = -at + 2 * normal(32, seed=4)

    def score(z: Tensor) -> Tensor:
        return (z.flatten(1) @ first.T + offset).relu() @ second / 10

    hidden_on = (x.flatten(1) @ first.T + offset) > 0
    assert 0.2 < float(hidden_on.float().mean()) < 0.8
    worst = 2 * (score(x + LINF.radius * pattern.reshape(SHAPE[1:])) - score(x))
    before, after = margins(lambda z, _: opposed(score(z)), x, name, LINF)
    check_reached(after - before, worst)


@pytest.mark.parametrize("name", NAMES)
def test_two_layers_l2(name: str) -> None:
    # every hidden unit sees the image through one direction, and the second layer is not negative: so the score rises
    # with the image's length along that direction, and the worst case is eps along it
    direction = normal(PIXELS)
    gain, offset, second = normal(32, seed=1).abs(), 3 * normal(32, seed=4), normal(32, seed=2).abs()
    x = middle()
    centre = (x.flatten(1) @ direction).mean()

    def score(z: Tensor) -> Tensor:
        return ((z.flatten(1) @ direction - centre)[:, None] * gain + offset).relu() @ second / 10

    along = (L2.radius * direction / direction.norm()).reshape(SHAPE[1:])
    worst = 2 * (score(x + along) - score(x))
    before, after = margins(lambda z, _: opposed(score(z)), x, name, L2)
    check_reached(after - before, worst)
