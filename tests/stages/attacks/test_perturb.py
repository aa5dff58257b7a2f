from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import normalize

from stages.attacks.perturb import attack_images
from stages.attacks.spec import KNOWN, AttackPlan, parse_attack
from stages.errors import ComputeError, InputError
from stages.models.classifier import Classifier, unit
from stages.threat import NORMS, ThreatModel

THREAT = ThreatModel(Fraction(8, 255))


class TinyNet(nn.Module):
    """A random convolutional embedding with batch norm, in train mode to begin with."""

    def __init__(self, seed: int = 0, width: int = 8) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6)
        self.out = nn.Linear(6 * 9, width, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in (self.conv, self.out):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return normalize(self.out(self.norm(self.conv(x - 0.5)).tanh().flatten(1)), dim=1)


def pixels(count: int, seed: int = 0) -> Tensor:
    """Random uint8 images in which black, white and everything between occur."""
    images = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    images[0], images[-1] = 0, 255
    return images


def anchors(count: int = 4, width: int = 8) -> Tensor:
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(9)), dim=1)


def clf(model: nn.Module, heads: Tensor | None = None) -> Classifier:
    return Classifier(model, anchors() if heads is None else heads)


def own_labels(model: nn.Module, images: Tensor) -> Tensor:
    """The model's predictions in eval mode, so that every image is attacked."""
    model.eval()
    with torch.no_grad():
        labels = (unit(model(images / 255)) @ anchors().T).argmax(1)
    model.train()
    return labels


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(KNOWN),
    seed=st.integers(0, 99),
    eps=st.sampled_from([Fraction(0), Fraction(1, 255), Fraction(8, 255), Fraction(1, 2), Fraction(1)]),
    norm=st.sampled_from(NORMS),
    early_stop=st.booleans(),
)
def test_every_attack_stays_in_the_ball_and_in_the_pixel_range(
    name: str, seed: int, eps: Fraction, norm: str, early_stop: bool
) -> None:
    model, images = TinyNet(seed), pixels(9, seed)
    labels = torch.arange(9) % 4
    x_adv, _, _ = attack_images(
        clf(model),
        images,
        labels,
        AttackPlan(parse_attack(name), ThreatModel(eps, norm), seed=0, batch_size=4, early_stop=early_stop),
    )
    assert x_adv.dtype == torch.float32
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    moved = (x_adv - images / 255).flatten(1)
    assert moved.abs().max() <= float(eps) + 1e-6
    if norm == "L2":
        assert moved.norm(dim=1).max() <= float(eps) + 1e-5


@pytest.mark.parametrize("name", ["fgsm", "pgd-5", "margin-pgd-5"])
def test_the_batch_size_changes_nothing_but_rounding(name: str) -> None:
    model, images = TinyNet(), pixels(40)
    labels = own_labels(model, images)
    results = [
        attack_images(clf(model), images, labels, AttackPlan(parse_attack(name), THREAT, seed=3, batch_size=size))
        for size in (1, 7, 64)
    ]
    assert 0 < int((results[0][2] != labels).sum()) < 40
    for x_adv, clean, attacked in results[1:]:
        assert torch.equal(clean, results[0][1])
        assert torch.equal(attacked, results[0][2])
        # a sign of a gradient near zero may flip with rounding: all but a few pixels agree
        assert ((x_adv - results[0][0]).abs() > 1e-6).float().mean() < 1e-3


def test_a_part_of_a_set_starts_as_it_does_in_the_set() -> None:
    model, images = TinyNet(), pixels(40)
    labels, spec = own_labels(model, images), parse_attack("pgd-1")
    whole, _, _ = attack_images(clf(model), images, labels, AttackPlan(spec, THREAT, seed=3))
    own, _, _ = attack_images(clf(model), images[25:], labels[25:], AttackPlan(spec, THREAT, seed=3), first_row=25)
    assert ((own - whole[25:]).abs() > 1e-6).float().mean() < 1e-3
    other, _, _ = attack_images(clf(model), images[25:], labels[25:], AttackPlan(spec, THREAT, seed=3))
    assert ((other - whole[25:]).abs() > 1e-6).float().mean() > 0.5


def test_what_fell_stays_fallen_and_what_was_wrong_is_left_alone() -> None:
    model, images = TinyNet(), pixels(60)
    labels = own_labels(model, images)
    labels[::3] = (labels[::3] + 1) % 4
    x_adv, clean, attacked = attack_images(
        clf(model), images, labels, AttackPlan(parse_attack("pgd-10"), THREAT, seed=0, batch_size=16)
    )
    wrong = clean != labels
    assert int(wrong.sum()) == 20
    assert torch.equal(x_adv[wrong], images[wrong] / 255)
    assert torch.equal(attacked[wrong], clean[wrong])
    assert int((attacked != labels).sum()) > 20
    model.eval()
    with torch.no_grad():
        again = (unit(model(x_adv)) @ anchors().T).argmax(1)
    assert torch.equal(again, attacked)


def test_a_fallen_image_is_the_first_iterate_that_fell() -> None:
    # only early stopping leaves an image before all of its steps have carried most pixels to the border of the ball
    model, images = TinyNet(), pixels(40)
    labels, spec = own_labels(model, images), parse_attack("pgd-40")
    moved = []
    for early_stop in (True, False):
        x_adv, _, attacked = attack_images(clf(model), images, labels, AttackPlan(spec, THREAT, seed=0, early_stop=early_stop))
        misclassified = attacked != labels
        assert misclassified.any()
        moved.append(float((x_adv - images / 255).abs()[misclassified].mean()))
    assert moved[0] < 0.9 * moved[1]


@pytest.mark.parametrize("norm", NORMS)
def test_a_restart_attacks_robust_samples_only(norm: str) -> None:
    threat = THREAT if norm == "Linf" else ThreatModel(Fraction(1, 4), "L2")
    model, images = TinyNet(), pixels(60)
    labels = own_labels(model, images)
    results = [
        attack_images(clf(model), images, labels, AttackPlan(parse_attack(name), threat, seed=0, batch_size=7))
        for name in ("pgd-2", "pgd-2x2", "pgd-2x6")
    ]
    misclassified = [attacked != labels for _, _, attacked in results]
    assert 0 < int(misclassified[0].sum()) < int(misclassified[2].sum())
    for fewer, more, (x_fewer, *_), (x_more, *_) in zip(misclassified, misclassified[1:], results, results[1:], strict=False):
        assert bool((more | ~fewer).all())  # misclassified samples stay misclassified
        assert torch.equal(x_more[fewer], x_fewer[fewer])  # to the same image
    robust = ~misclassified[2]
    assert not torch.equal(results[0][0][robust], results[2][0][robust])


def test_a_restarts_forward_passes_are_spent_on_robust_samples() -> None:
    model, images = TinyNet(), pixels(40)
    labels = own_labels(model, images)
    seen: list[int] = []

    class Counted(Classifier):
        def scores(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
            seen.append(len(x))
            return super().scores(x, rows)

    def spent(name: str) -> tuple[int, int]:
        seen.clear()
        _, _, attacked = attack_images(
            Counted(model, anchors()), images, labels, AttackPlan(parse_attack(name), THREAT, seed=0, batch_size=4)
        )
        return sum(seen), int((attacked == labels).sum())

    (once, robust), (twice, _) = spent("pgd-2"), spent("pgd-2x2")
    assert 0 < robust < 40
    assert twice - once <= 3 * robust  # two steps and the judgement, each for the robust samples


def test_without_early_stop_every_image_is_attacked() -> None:
    model, images = TinyNet(), pixels(20)
    labels = (own_labels(model, images) + 1) % 4
    x_adv, _, _ = attack_images(clf(model), images, labels, AttackPlan(parse_attack("pgd-5"), THREAT, seed=0, early_stop=False))
    assert ((x_adv - images / 255).abs().flatten(1).amax(1) > THREAT.radius / 2).all()


def test_the_model_comes_back_as_it_was() -> None:
    model, images = TinyNet(), pixels(10)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    attack_images(clf(model), images, own_labels(model, images), AttackPlan(parse_attack("pgd-3"), THREAT, seed=0))
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_progress_counts_up_to_the_end() -> None:
    model, images = TinyNet(), pixels(30)
    shown: list[tuple[int, int, str]] = []
    plan = AttackPlan(parse_attack("pgd-3"), THREAT, seed=0, batch_size=8)
    attack_images(clf(model), images, torch.arange(30) % 4, plan, progress=lambda *news: shown.append(news))
    counts = [done for done, _, _ in shown]
    assert counts == sorted(counts)
    assert shown[-1] == (30, 30, "pgd-3")


def test_anchors_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match="anchors have width 5, the model's embeddings 8"):
        attack_images(
            Classifier(TinyNet(), anchors(4, 5)), pixels(4), torch.arange(4), AttackPlan(parse_attack("fgsm"), THREAT, seed=0)
        )


def test_a_model_with_nan_is_a_computation_error() -> None:
    model = TinyNet()
    with torch.no_grad():
        model.out.weight.fill_(float("nan"))
    with pytest.raises(ComputeError, match="output is not finite"):
        attack_images(clf(model), pixels(4), torch.arange(4), AttackPlan(parse_attack("fgsm"), THREAT, seed=0))


@pytest.mark.parametrize("attack", ["fgsm", "pgd-2", "apgd-ce", "apgd-t", "fab-t"])
@pytest.mark.parametrize("cut", ["detach", "no_grad"])
def test_a_model_without_gradient_is_told(attack: str, cut: str) -> None:
    class Cut(TinyNet):
        def forward(self, x: Tensor) -> Tensor:
            with torch.set_grad_enabled(cut == "detach" and torch.is_grad_enabled()):
                found: Tensor = super().forward(x.detach())
            return found

    model, images = Cut(), pixels(4)
    with pytest.raises(ComputeError, match="no gradient with respect to its input") as told:
        attack_images(clf(model), images, own_labels(model, images), AttackPlan(parse_attack(attack), THREAT, seed=0))
    assert "--attack square" in told.value.fix
