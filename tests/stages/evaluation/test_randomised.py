"""Randomised models: noticed before an attack, attacked through their randomness, and what an oblivious attack leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from stages.attacks.autoattack import _Batch
from stages.attacks.perturb import attack_images
from stages.attacks.samples import Samples
from stages.attacks.spec import AttackPlan, parse_attack
from stages.errors import UsageError
from stages.evaluation.attack_stage import attack_group
from stages.evaluation.checks import run_checks
from stages.evaluation.clean_passes import needless_draws, require_same_passes
from stages.evaluation.evaluate import evaluate_classifiers
from stages.evaluation.groups import ClassChoice
from stages.evaluation.protocol import Protocol
from stages.evaluation.saved_images import evaluate_saved
from stages.evaluation.score import evaluate
from stages.evaluation.task import Task
from stages.models.classifier import Classifier, predict
from stages.models.frozen import inference
from stages.models.origin import Origin
from stages.models.wrapped import mean_of_draws
from stages.threat import ThreatModel
from tests.stages.evaluation.defences import Purified, RandomResize, Smoothed
from tests.stages.evaluation.masking import Masked, noisy, trained
from tests.stages.evaluation.test_checks import GROUP, IMAGES

THREAT = ThreatModel("8/255")
ATTACK = parse_attack("margin-pgd-10")
FEW = IMAGES.take(range(0, len(IMAGES), 2))


class Seeded(nn.Module):
    """Draws the same noise in every pass, other noise for each place in the batch."""

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        embeddings: Tensor = trained("clean")(x + 0.1 * noise)
        return embeddings


def of(model: nn.Module, sha256: str = "") -> Classifier:
    made = GROUP.classifier(model, 10.0)
    made.origin = Origin(sha256=sha256)
    return made


def accuracy(classifier: Classifier, images: Tensor) -> float:
    return float((predict(classifier, images) == FEW.labels).float().mean())


@pytest.mark.parametrize(
    "model",
    [
        Smoothed(trained("clean"), 0.1),
        RandomResize(trained("clean")),
        Purified(trained("clean")),
        Masked(trained("clean"), noisy(0.003)),
        Masked(trained("clean"), lambda x: nn.functional.dropout(x, 0.1)),  # left on in eval mode
        Seeded(),
    ],
    ids=["noise", "random resize", "purification", "a little noise", "dropout", "noise of the place"],
)
def test_a_randomised_model_is_refused_before_an_attack(model: nn.Module) -> None:
    with pytest.raises(UsageError, match=r"the model 'mine' is randomised .* overestimates its robustness; add --eot 20"):
        require_same_passes({"mine": of(model)}, FEW.images, 1)
    require_same_passes({"mine": of(model)}, FEW.images, 20)


def test_dropout_and_deterministic_models_pass() -> None:
    require_same_passes({"": of(nn.Sequential(nn.Dropout(0.5), trained("laat")).train())}, FEW.images, 1)


def test_the_attack_stage_and_the_evaluation_refuse_it_too() -> None:
    model = of(Smoothed(trained("clean"), 0.1))
    with pytest.raises(UsageError, match="--eot 20"):
        attack_group(model, "all", FEW, AttackPlan(ATTACK, THREAT, 0))
    task = Task({"mine": model}, [ClassChoice("all", IMAGES.classes)], FEW, Protocol(), [ATTACK], THREAT)
    with pytest.raises(UsageError, match="'mine' is randomised"):
        evaluate_classifiers(task)
    sizes = [{eot: replace(task, eot=eot, batch_size=size).identity for eot in (1, 20)} for size in (8, 9)]
    assert sizes[0][1] == sizes[1][1]
    assert [one[20]["settings"]["batch_size"] for one in sizes] == [8, 9]


def test_raw_support_embeddings_are_refused_with_draws() -> None:
    model, protocol = of(Smoothed(trained("clean"), 0.1)), Protocol("episodes", shots=1, support_embeddings="raw")
    task = Task({"mine": model}, [ClassChoice("all", IMAGES.classes)], FEW, protocol, [], THREAT, eot=20)
    with pytest.raises(UsageError, match="--support-embeddings raw: with --eot"):
        task.check()


def test_eot_finds_what_a_single_draw_and_an_oblivious_attack_miss() -> None:
    defended, undefended = of(Smoothed(trained("clean"), 0.1), "ab"), of(trained("clean"), "cd")
    judge, plan = mean_of_draws(defended, 8, 0), AttackPlan(ATTACK, THREAT, 0, batch_size=45)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = accuracy(judge, attack_images(defended, FEW.images, FEW.labels, plan)[0])
    adapted = attack_images(defended, FEW.images, FEW.labels, replace(plan, eot=8))
    again = attack_images(defended, FEW.images, FEW.labels, replace(plan, eot=8))
    assert torch.equal(adapted[0], again[0])
    # at n = 90, 0.83 and 0.58 differ by more than 3 standard errors
    assert accuracy(judge, adapted[0]) < plain - 0.12
    made = attack_group(undefended, "all", FEW, plan, inputs={"model": {"kind": "model", "sha256": "cd", "inputs": {}}})
    lineage = {"kind": "adversarial", "sha256": "ef", "inputs": dict(made.saved.inputs)}
    given = {"where": "'a.st'", "eot": 8}
    oblivious = evaluate_saved({"mine": defended}, made.saved, lineage, knowledge="oblivious", **given)
    transfer = evaluate_saved({"mine": defended}, made.saved, lineage, **given)
    assert oblivious.results[0].worst.accuracy > accuracy(judge, adapted[0]) + 0.12
    assert [found.report.knowledge for found in (oblivious, transfer)] == ["oblivious", "transfer"]
    margins = [found.rows[0].result.rows.clean.margin for found in (oblivious, transfer)]  # type: ignore[union-attr]
    assert margins[0].tolist() == margins[1].tolist()  # both by the mean of the same draws
    assert "attacks follow" not in " ".join(oblivious.report.notes)
    assert oblivious.report.under == "Linf 8/255 at 16x16, oblivious"
    with pytest.raises(UsageError, match=r"--knowledge white-box: the images in 'a.st' were not made on 'mine'"):
        evaluate_saved({"mine": defended}, made.saved, lineage, knowledge="white-box", **given)
    with pytest.raises(UsageError, match=r"made on 'plain' and not on 'mine'.*evaluate the models one by one"):
        evaluate_saved({"mine": defended, "plain": undefended}, made.saved, lineage, **given)


def test_the_checks_say_whether_a_model_is_deterministic() -> None:
    few = FEW.take(range(0, len(FEW), 2))

    def said(model: nn.Module, draws: int) -> tuple[str, str]:
        judge = mean_of_draws(GROUP.classifier(model), draws, 0)
        rows = evaluate(judge, few, Protocol(), [parse_attack("fgsm")], THREAT).rows
        assert rows is not None
        with pytest.MonkeyPatch.context() as patch:
            from stages.evaluation import checks

            patch.setattr(checks, "CHECKS", {name: checks.CHECKS[name] for name in ("clean passes", "batch")})
            found = run_checks(judge, few, Protocol(), rows, [parse_attack("fgsm")], THREAT).findings
        assert [one.name for one in found] == ["clean passes", "batch"]
        return found[0].sentence, found[1].result

    sentence, batch = said(Smoothed(trained("clean"), 0.02), 3)
    assert (sentence.split(":")[0], batch) == ("randomised, eot 3", "warn")


def test_autoattack_does_not_see_the_draws_that_decide() -> None:
    judge = mean_of_draws(of(Smoothed(trained("clean"), 0.1)), 3, 0)
    samples = Samples(judge, lambda rows: FEW.images[rows] / 255, FEW.labels)
    with inference(judge):
        batch = _Batch(samples, torch.arange(5), AttackPlan(parse_attack("square-20"), THREAT, 0))
        decision = samples.scores(batch.x, batch.rows)
        assert torch.equal(samples.scores(batch.x, batch.rows), decision)
        assert not torch.equal(batch(batch.x), decision)


def test_draws_of_a_deterministic_model_are_noted() -> None:
    model = of(trained("clean"))
    (note,) = needless_draws("mine", model, FEW.images, 20)
    assert note.startswith("--eot 20 was not needed for mine: it is deterministic")
    task = Task({"mine": model}, [ClassChoice("all", IMAGES.classes)], FEW, Protocol(), [], THREAT, eot=2)
    assert note.replace("20", "2") in evaluate_classifiers(task).report.notes
    assert needless_draws("mine", of(Smoothed(trained("clean"), 0.1)), FEW.images, 20) == []


@pytest.mark.parametrize("name", ["pgd-3x2", "apgd-ce-5", "apgd-t-3", "fab-t-3", "square-20"])
def test_every_attack_averages_and_is_reproducible(name: str) -> None:
    few, model = FEW.take(range(0, 90, 9)), of(Smoothed(trained("clean"), 0.1))
    plan = AttackPlan(parse_attack(name), THREAT, 0, eot=3)
    state = torch.get_rng_state()
    first, again = (attack_images(model, few.images, few.labels, plan) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first[0], few.images / 255)
