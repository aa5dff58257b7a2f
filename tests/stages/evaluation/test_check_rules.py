"""The rules of single checks: neighbours in a batch, random noise, the shared gradient attack, and what the checks cost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.attacks.spec import GRADIENT, parse_attacks
from stages.evaluation import check_rules, checks
from stages.evaluation.check_rules import AGREE, BATCH_TOLERANCE, DRAWS, Finding, batch_independence, noise
from stages.evaluation.probe import CLIMB, STEPS, Probe
from stages.evaluation.protocol import Protocol
from stages.models.frozen import inference
from stages.threat import ThreatModel
from tests.stages.evaluation.masking import MASKS, Masked, noisy, purified, trained
from tests.stages.evaluation.models import Group, evaluate
from tests.stages.evaluation.test_checks import ALL, GROUP, THREAT, checked

GUIDE = Path(__file__).parents[3] / "examples/robust_evaluation/README.md"


def finding(model: nn.Module, check: Callable[[Probe], Finding], threat: ThreatModel = THREAT) -> Finding:
    """What one check finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "CHECKS", {"one": check})
        return checked(model, threat=threat).findings[0]


def probe_of(model: nn.Module) -> Probe:
    """The probe that the checks of `model` get."""
    probes: list[Probe] = []

    def keep(probe: Probe) -> Finding:
        probes.append(probe)
        return Finding("kept", "pass", {}, "")

    finding(model, keep)
    return probes[0]


def test_the_batch_is_named_as_the_fault_and_its_size_is_told() -> None:
    found = finding(MASKS["purification of the batch"][0](trained("laat")), batch_independence)
    assert found.result == "fail"
    assert found.figures["difference_clean"] > 10 * BATCH_TOLERANCE
    assert "decisions depend on the other images of the batch" in found.sentence


def test_a_purification_of_each_image_passes() -> None:
    found = finding(Masked(trained("laat"), purified(trained("laat"), of_batch=False)), batch_independence)
    assert (found.result, found.figures["changed_clean"], found.figures["changed_attacked"]) == ("pass", 0, 0)


def test_a_batch_that_matters_under_attack_alone_fails() -> None:
    class OfAttacked(nn.Module):
        """Mixes the images of a batch where one of them has values between the 256 grey levels."""

        def forward(self, x: Tensor) -> Tensor:
            levels = x.detach() * 255
            between = bool(((levels - levels.round()).abs() > 0.01).any())
            embeddings: Tensor = trained("laat")(x)
            return embeddings - embeddings.mean(0) if between else embeddings

    found = finding(OfAttacked(), batch_independence)
    assert found.result == "fail"
    assert found.figures["changed_clean"] == 0
    assert found.figures["difference_clean"] < AGREE
    assert found.figures["changed_attacked"] > 0


def test_logits_that_are_not_finite_in_some_batches_fail() -> None:
    found = finding(Masked(trained("clean"), back=lambda z: z / z.std(0)), batch_independence)  # NaN for one image alone
    assert found.result == "fail"
    assert "not finite in some batches" in found.sentence
    json.dumps(found.figures, allow_nan=False)


def test_decisions_that_change_fail_however_close_the_logits_are() -> None:
    probe = probe_of(trained("clean"))
    first = torch.zeros(len(probe), 2)
    with pytest.MonkeyPatch.context() as patch:
        tilted = first + torch.tensor([0.0, BATCH_TOLERANCE / 2])
        patch.setattr(Probe, "logits_in", lambda self, groups, images=None: tilted if len(groups) == len(self) else first)
        found = batch_independence(probe)
    assert (found.result, found.figures["changed_clean"]) == ("fail", 64)


def test_what_a_model_does_not_let_run_is_a_finding() -> None:
    def flat(x: Tensor) -> Tensor:
        return x.detach()

    found = checked(Masked(trained("clean"), flat), attacks=["square-2"])
    told = {one.name: one.sentence for one in found.findings if one.result == "fail"}
    assert {"gradients", "loss", "noise", "accuracy", "losses"} <= set(told)
    assert told["gradients"].startswith("not run: the model has no gradient with respect to its input")
    assert [one.name for one in found.findings] == ALL


def test_of_a_randomised_model_nothing_is_said_about_batches() -> None:
    found = finding(Masked(trained("clean"), noisy(0.1)), batch_independence)
    assert found.result == "warn"
    assert "the model is randomised" in found.sentence


def test_noise_is_compared_with_the_best_of_the_gradient_attack() -> None:
    found = finding(MASKS["few grey levels"][0](trained("clean")), noise)
    assert found.result == "fail"
    assert found.figures["draws"] == STEPS
    assert found.figures["higher"] > 32  # of 64
    assert f"on {found.figures['higher']} of the" in found.sentence


@pytest.mark.parametrize("threat", [THREAT, ThreatModel(Fraction(1, 2), "L2"), ThreatModel(Fraction(1, 10**6))])
@pytest.mark.parametrize("objective", ["laat", "clean"])
def test_noise_beats_no_gradient_of_an_honest_model(objective: str, threat: ThreatModel) -> None:
    assert finding(trained(objective), noise, threat).figures["higher"] == 0


@pytest.mark.parametrize(("count", "result"), [(3, "pass"), (4, "warn"), (9, "fail")])
def test_a_few_samples_are_chance(count: int, result: str, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = probe_of(trained("laat"))
    withstand = probe.climb.robust.numpy()
    beaten = np.isin(np.arange(len(probe)), np.flatnonzero(withstand)[:count])
    above = probe.climb.loss.max(0) + np.where(beaten | ~withstand, 3 * AGREE, AGREE / 3)
    assert not withstand.all()  # what the gradient misclassifies does not count
    monkeypatch.setattr(Probe, "noise_loss", lambda self, draws: above)
    assert (noise(probe).result, noise(probe).figures["higher"]) == (result, count)


def test_noise_stays_in_the_ball_at_its_radius(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = probe_of(trained("laat"))
    seen: list[Tensor] = []
    scores = type(probe.samples).scores

    def watch(samples: object, x: Tensor, rows: Tensor) -> Tensor:
        seen.append(THREAT.distance(x, probe.samples.source(rows)))
        return scores(probe.samples, x, rows)

    monkeypatch.setattr(type(probe.samples), "scores", watch)
    with inference(probe.samples.classifier):
        assert np.isfinite(probe.noise_loss(2)).all()
    assert torch.cat(seen).numpy() == pytest.approx(THREAT.radius, rel=1e-5)


def test_one_attack_serves_several_checks() -> None:
    probe = probe_of(trained("laat"))
    with inference(probe.samples.classifier):
        assert torch.equal(probe.climb.robust, probe.robust_under(CLIMB))
    assert 0 < int(probe.climb.robust.sum()) < len(probe)
    assert np.isfinite(probe.climb.loss).all()


class Deaf(nn.Module):
    """Gives every image the same embedding: no attack succeeds, so every check takes all its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return GROUP.anchors[:1].expand(len(x), -1) + 0 * self.weight * x.mean()


def test_the_passes_of_the_checks_are_those_that_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(GROUP.classes, GROUP.anchors, GROUP.images[:30], torch.zeros(30, dtype=torch.int64))
    specs = parse_attacks(["fgsm"])
    rows = evaluate(Deaf(), group, Protocol(), specs, THREAT).rows
    assert rows is not None
    passes = {False: 0, True: 0}
    told: list[tuple[int, int, str]] = []

    def count(spent: object, points: int) -> None:
        passes[torch.is_grad_enabled()] += points
        add(spent, points)

    add = checks._Spent.add
    monkeypatch.setattr(checks._Spent, "add", count)
    checks.run_checks(
        group.classifier(Deaf()), group.image_set(), Protocol(), rows, specs, THREAT, progress=lambda *at: told.append(at)
    )
    assert passes == {False: 30 * checks.FORWARD, True: 30 * checks.BACKWARD}
    most = 30 * (checks.FORWARD + GRADIENT * checks.BACKWARD)
    assert told[-1] == (most, most, "checks: losses")
    assert [name.removeprefix("checks: ") for name in dict.fromkeys(name for *_, name in told)] == ALL


def test_the_guide_tells_the_checks_and_their_price() -> None:
    text = " ".join(GUIDE.read_text().split())
    names = re.findall(r"^\| ([a-z ]+) \| .* \|$", GUIDE.read_text().partition("| check |")[2], re.MULTILINE)
    assert names[: len(check_rules.CHECKS)] == ALL
    assert f"{checks.FORWARD} forward passes and {checks.BACKWARD} gradients" in text
    assert f"Square's {check_rules.QUERIES} queries" in text
    assert f"{DRAWS} random images" in text
