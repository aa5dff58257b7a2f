"""AutoAttack on models without gradients, on linear models, at eps 0, and where it cannot run."""

from __future__ import annotations

import warnings
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from stages.attacks.perturb import attack_images
from stages.attacks.spec import ENSEMBLE, AttackPlan, parse_attack
from stages.errors import InputError, UsageError
from stages.models.classifier import Classifier
from stages.threat import ThreatModel
from tests.stages.attacks.test_autoattack import L2, LINF, SHORT, run, spec
from tests.stages.attacks.test_perturb import TinyNet, anchors, pixels


class Flat(nn.Module):
    """Says 0 for every image; its gradient is zero everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.eye(4)[torch.zeros(len(x), dtype=torch.int64)] + 0 * x.sum((1, 2, 3))[:, None]


@pytest.mark.parametrize("threat", [LINF, L2], ids=["Linf", "L2"])
@pytest.mark.parametrize("name", SHORT)
def test_a_model_without_gradients_is_attacked_without_errors(
    name: str, threat: ThreatModel, capfd: pytest.CaptureFixture[str]
) -> None:
    images = pixels(6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x_adv, _, attacked = attack_images(
            Classifier(Flat(), torch.eye(4)), images, torch.zeros(6, dtype=torch.int64), AttackPlan(spec(name), threat, seed=0)
        )
    assert torch.equal(x_adv, images / 255)
    assert not attacked.any()
    assert tuple(capfd.readouterr()) == ("", "")


class Slope(nn.Module):
    """Two classes; the second wins once the mean of the pixels is over a half."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack((torch.full((len(x),), 0.5, device=x.device), x.mean((1, 2, 3))), 1)


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "fab-t", "square-500"])
def test_a_linear_model_is_misclassified_exactly_within_reach(name: str) -> None:
    # the mean rises by eps at most in Linf, by eps / sqrt(D) in L2
    grey = torch.tensor([117, 118, 119, 121])
    images = grey.to(torch.uint8)[:, None, None, None].repeat(1, 3, 8, 8)
    needed = 0.5 - grey / 255
    for threat, reach in ((LINF, LINF.radius), (ThreatModel(Fraction(1, 2), "L2"), 0.5 / (3 * 64) ** 0.5)):
        labels = torch.zeros(4, dtype=torch.int64)
        _, _, attacked = attack_images(
            Classifier(Slope(), torch.eye(2)), images, labels, AttackPlan(spec(name), threat, seed=0)
        )
        can = needed < reach
        assert can.any()
        assert not can.all()
        misclassified = attacked == 1
        assert not misclassified[~can].any()
        if "square" not in name:
            assert torch.equal(misclassified, can)


def test_eps_0_changes_nothing() -> None:
    for name in ENSEMBLE:
        x_adv, labels, attacked = run(name, threat=ThreatModel(Fraction(0)), count=5)
        assert torch.equal(x_adv, pixels(5) / 255)
        assert torch.equal(attacked, labels)


def test_what_cannot_be_run_is_refused() -> None:
    model, images = TinyNet(), pixels(4)
    labels = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(UsageError, match="one class"):
        attack_images(Classifier(model, anchors(1)), images, labels, AttackPlan(spec("apgd-ce"), LINF, seed=0))
    small = torch.zeros(2, 3, 14, 14, dtype=torch.uint8)
    with pytest.raises(InputError, match="14x14"):
        attack_images(
            Classifier(Slope(), torch.eye(2)), small, torch.zeros(2, dtype=torch.int64), AttackPlan(spec("square"), L2, seed=0)
        )


def test_names_and_what_runs_on_few_classes() -> None:
    assert spec("APGD-CE-100") == spec("apgd-ce")
    assert (spec("apgd-t").steps, spec("square").steps, spec("square-70").name) == (100, 5000, "square-70")
    assert [spec("apgd-t").rounds(ways) for ways in (2, 3, 5, 10, 100)] == [1, 2, 4, 9, 9]
    assert [spec("fab-t").rounds(ways) for ways in (2, 5, 100)] == [1, 4, 9]
    assert [spec("apgd-t").loss_on(ways) for ways in (3, 4)] == ["margin-targeted", "dlr-targeted"]
    assert spec("apgd-t").ran_as(3) == "apgd-t: 100 steps, 2 targets, margin in place of DLR (3 classes)"
    assert spec("apgd-t").ran_as(5) == "apgd-t: 100 steps, 4 targets"
    record = spec("apgd-dlr").to_record()
    assert record["library"].startswith("pyautoattack 0.")
    assert record["few_classes"] == "margin in place of DLR below 4 classes"
    with pytest.raises(UsageError, match="nearest: 'fab-t'"):
        parse_attack("fab")
