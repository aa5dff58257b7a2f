"""Checks on models that were really trained: honest ones fail none, those that mislead attacks fail at least one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from stages.attacks.spec import parse_attacks
from stages.evaluation.check_rules import FEWEST, judge_count
from stages.evaluation.checks import MOST, Checked, run_checks
from stages.evaluation.protocol import Protocol
from stages.threat import ThreatModel
from tests.stages.evaluation.masking import MASKS, trained
from tests.stages.evaluation.models import Group, evaluate
from tests.stages.training.synthetic import made_up_anchors, made_up_images

IMAGES = made_up_images(per_class=30, seed=5)
GROUP = Group(IMAGES.classes, torch.from_numpy(made_up_anchors().vectors), IMAGES.images, IMAGES.labels, seen=4)
THREAT = ThreatModel(Fraction(8, 255))
ALL = ["clean passes", "batch", "gradients", "loss", "noise", "accuracy", "strength", "black box", "losses"]


def checked(
    model: nn.Module,
    protocol: Protocol | None = None,
    threat: ThreatModel = THREAT,
    attacks: Sequence[str] = ("pgd-20", "margin-pgd-20"),
    batch_size: int = 64,
    seed: int = 0,
    scale: float = 1.0,
    group: Group = GROUP,
    most: int = MOST,
) -> Checked:
    protocol, specs = protocol or Protocol(), parse_attacks(attacks)
    rows = evaluate(model, group, protocol, specs, threat, seed=seed, scale=scale).rows
    assert rows is not None
    options = {"seed": seed, "batch_size": batch_size, "most": most}
    return run_checks(group.classifier(model, scale), group.image_set(), protocol, rows, specs, threat, **options)


def failed(found: Checked) -> list[str]:
    """The names of the checks that failed."""
    return [one.name for one in found.findings if one.result == "fail"]


@pytest.mark.parametrize(
    ("protocol", "threat"),
    [
        (Protocol(), THREAT),
        (Protocol(), ThreatModel(Fraction(1, 2), "L2")),
        (Protocol("gzsl"), THREAT),
        (Protocol("episodes", ways=3, shots=2, queries=4, episodes=20, blend=2.0), THREAT),
    ],
)
def test_an_honest_adversarially_trained_model_fails_no_check(protocol: Protocol, threat: ThreatModel) -> None:
    found = checked(trained("laat"), protocol, threat)
    assert [one.name for one in found.findings] == ALL
    assert failed(found) == [], [one.sentence for one in found.findings]
    assert found.points == 64
    assert all(one.figures["points"] >= 64 and one.sentence for one in found.findings)


def test_an_undefended_model_fails_no_check_either() -> None:
    found = checked(trained("clean"))
    assert failed(found) == [], [one.sentence for one in found.findings]


def few(found: Checked) -> list[str]:
    return [one.name for one in found.findings if one.result == "few"]


def test_no_check_passes_on_too_few_points() -> None:
    for count, passes in ((1, False), (FEWEST - 1, False), (FEWEST, True)):
        found = checked(trained("laat"), most=count)
        results = {one.result for one in found.findings}
        assert ("pass" in results, "few" in results) == (passes, not passes), results


def test_no_check_passes_on_too_few_images() -> None:
    # many points of 20 images
    few_images = Group(GROUP.classes, GROUP.anchors, GROUP.images[::9], GROUP.labels[::9])
    protocol = Protocol("episodes", ways=3, queries=3, episodes=40)
    found = checked(trained("laat"), protocol, group=few_images)
    assert found.points == 64
    assert not [one for one in found.findings if one.result == "pass"]


def test_attacks_on_robust_samples_need_such_samples() -> None:
    found = checked(trained("clean"), threat=ThreatModel(Fraction(1, 2)))
    assert few(found) == ["strength", "black box"]
    assert "noise cannot do better" in {one.name: one.sentence for one in found.findings}["noise"]
    assert found.findings[ALL.index("strength")].figures["standing"] == 0


@pytest.mark.parametrize("name", MASKS)
def test_models_that_mislead_attacks_fail(name: str) -> None:
    make, fails = MASKS[name]
    found = checked(make(trained("clean")))
    assert fails <= set(failed(found)), [one.sentence for one in found.findings]


def test_logits_of_a_large_scale_fail() -> None:
    assert "gradients" in failed(checked(trained("clean"), scale=1e4))


def test_square_beats_attacks_that_have_no_gradient() -> None:
    found = checked(MASKS["few grey levels"][0](trained("clean")), threat=ThreatModel(Fraction(16, 255)))
    assert "black box" in failed(found)
    (box,) = (one for one in found.findings if one.name == "black box")
    assert box.figures["fell"] > 10
    assert "gradients mislead" in box.sentence


def test_an_attack_that_is_too_weak_is_reported() -> None:
    found = checked(trained("clean"), attacks=["fgsm"])
    assert failed(found) == ["strength"]
    assert any("attack too weak" in one.sentence for one in found.findings)


def test_losses_apart_are_a_warning_and_no_more() -> None:
    found = checked(trained("clean"), scale=1e4)
    assert found.findings[-1].result == "warn"
    assert "cross-entropy alone overestimates robustness" in found.findings[-1].sentence
    assert found.findings[-1].figures["points"] == len(IMAGES)  # the report's own attacks, on all points


def test_sampled_points_keep_their_heads() -> None:
    # at this eps no attack succeeds: a misclassified sample has another head than in the evaluation
    for protocol in (Protocol("episodes", ways=4, shots=3, queries=5, episodes=30, blend=1.0), Protocol("gzsl")):
        found = checked(trained("laat"), protocol, ThreatModel(Fraction(1, 10**6)), attacks=["fgsm"])
        robust = found.findings[ALL.index("accuracy")].figures["standing"]
        assert list(robust.values())[:2] == [64, 64]


def test_the_same_seed_finds_the_same_and_batches_change_no_result() -> None:
    first, again, other = (checked(trained("laat"), seed=seed) for seed in (0, 0, 1))
    assert first.to_record() == again.to_record()
    assert first.to_record() != other.to_record()
    assert first.to_record()["sample"] == {"points": 64, "of": first.right, "seed": 0}
    small = checked(trained("laat"), batch_size=10)
    assert [one.result for one in small.findings] == [one.result for one in first.findings]


def test_at_eps_0_only_the_model_is_checked() -> None:
    found = checked(trained("laat"), threat=ThreatModel(Fraction(0)))
    assert [(one.name, one.result) for one in found.findings] == [(name, "pass") for name in ALL[:3]]


def test_without_a_correct_sample_there_is_nothing_to_check() -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            # the anchor opposite to the right class
            anchors = GROUP.anchors
            return anchors[:1].expand(len(x), -1) + 0 * self.weight * x.sum()

    group = Group(GROUP.classes, GROUP.anchors, GROUP.images[30:], GROUP.labels[30:])
    specs = parse_attacks(["fgsm"])
    rows = evaluate(Wrong(), group, Protocol(), specs, THREAT).rows
    assert rows is not None
    found = run_checks(group.classifier(Wrong()), group.image_set(), Protocol(), rows, specs, THREAT)
    assert [(one.name, one.result) for one in found.findings] == [("sample", "few")]


def test_the_model_is_left_as_it_was() -> None:
    model = trained("laat")
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        checked(model)
        assert all(module.training for module in model.modules())
        assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    finally:
        model.eval()


def test_counts_are_judged_for_the_size_of_the_sample() -> None:
    def chance(count: int, total: int, share: float) -> float:
        return sum(math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(count, total + 1))

    for total in (1, 2, 5, 20, 64, 100):
        for count in range(total + 1):
            fails, warns = chance(count, total, 0.05) < 0.01, chance(count, total, 0.02) < 0.05
            assert judge_count(count, total) == ("fail" if fails else "warn" if warns else "pass")
    assert [judge_count(count, 64) for count in (3, 4, 8, 9)] == ["pass", "warn", "warn", "fail"]
    assert judge_count(1, 1) == "warn"  # one point is no proof
