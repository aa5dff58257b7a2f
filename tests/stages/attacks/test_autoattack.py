from __future__ import annotations

import logging
from fractions import Fraction

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor, nn
from torch.nn.functional import normalize

from stages.attacks import autoattack
from stages.attacks.autoattack import library_seed
from stages.attacks.losses import margin_loss
from stages.attacks.perturb import attack_images, attack_samples
from stages.attacks.samples import Judged, Samples
from stages.attacks.spec import AttackPlan, EnsembleSpec, parse_attack
from stages.attacks.start import LIBRARY_BLOCK as BLOCK
from stages.models.classifier import Classifier, predict, unit
from stages.models.frozen import frozen
from stages.pixels import to_pixels
from stages.threat import ThreatModel
from tests.stages.attacks.test_perturb import TinyNet, anchors, pixels

LINF, L2 = ThreatModel(Fraction(8, 255)), ThreatModel(Fraction(1, 3), "L2")
# enough steps for APGD to come to its first decisions
SHORT = ("apgd-ce-20", "apgd-dlr-20", "apgd-t-10", "fab-t-10", "square-100")


def spec(name: str) -> EnsembleSpec:
    found = parse_attack(name)
    assert isinstance(found, EnsembleSpec)
    return found


def answers(model: nn.Module, images: Tensor, heads: Tensor) -> Tensor:
    """The model's predictions, so that every image is attacked."""
    return predict(Classifier(model, heads), images)


def run(
    name: str, ways: int = 5, *, threat: ThreatModel = LINF, count: int = 30, seed: int = 0, batch_size: int = 256
) -> tuple[Tensor, Tensor, Tensor]:
    """Adversarial images, labels and predictions of a small network on images that it gets right."""
    model, images, heads = TinyNet(), pixels(count), anchors(ways)
    labels = answers(model, images, heads)
    x_adv, _, attacked = attack_images(
        Classifier(model, heads), images, labels, AttackPlan(spec(name), threat, seed=seed, batch_size=batch_size)
    )
    return x_adv, labels, attacked


@pytest.mark.parametrize("threat", [LINF, L2], ids=["Linf", "L2"])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd_is_the_librarys_own_on_the_same_points_and_seed(threat: ThreatModel, loss: str) -> None:
    name = f"apgd-{loss}"
    x_adv, labels, attacked = run(name, threat=threat, count=40, seed=3)
    model, heads = TinyNet(), anchors(5)
    with frozen(model):
        attack = APGDAttack(
            Classifier(model, heads).scores,
            norm=threat.norm,
            eps=threat.radius,
            loss=loss,
            seed=library_seed(3, spec(name)),
            logger=logging.getLogger("test"),
        )
        with torch.random.fork_rng(devices=[]):
            theirs = attack.perturb(pixels(40) / 255, labels)
    misclassified = attacked != labels
    assert 0 < int(misclassified.sum()) < 40
    if threat.norm == "Linf":
        assert torch.equal(x_adv, theirs)
    else:  # theirs is on the sphere up to rounding, ours is projected
        torch.testing.assert_close(x_adv, theirs, rtol=0, atol=1e-6)


def test_the_first_target_of_apgd_t_is_the_librarys_own() -> None:
    model, images, heads = TinyNet(), pixels(40), anchors(12)
    labels = answers(model, images, heads)
    with frozen(model), torch.random.fork_rng(devices=[]):
        attack = APGDAttack_targeted(
            Classifier(model, heads).scores,
            eps=LINF.radius,
            seed=library_seed(0, spec("apgd-t")),
            n_target_classes=1,
        )
        theirs = attack.perturb(images / 255, labels)
    x_adv, _, attacked = attack_images(Classifier(model, heads), images, labels, AttackPlan(spec("apgd-t"), LINF, seed=0))
    first = (theirs != images / 255).flatten(1).any(1)
    assert 0 < int(first.sum()) < 40
    assert torch.equal(x_adv[first], theirs[first])
    assert (attacked != labels)[first].all()


@pytest.mark.parametrize("ways", [2, 3, 5])
@pytest.mark.parametrize("name", SHORT)
def test_few_classes_run_to_the_end_with_points_that_survive_every_target(
    name: str, ways: int, capfd: pytest.CaptureFixture[str]
) -> None:
    weak = ThreatModel(Fraction(2, 255))
    x_adv, labels, attacked = run(name, ways, threat=weak, count=20)
    misclassified = attacked != labels
    assert not misclassified.all()
    assert torch.equal(x_adv[~misclassified], (pixels(20) / 255)[~misclassified])
    if "square" not in name:
        assert misclassified.any()
    assert tuple(capfd.readouterr()) == ("", "")


@pytest.mark.parametrize("threat", [LINF, L2], ids=["Linf", "L2"])
@pytest.mark.parametrize("name", SHORT)
def test_results_repeat_whatever_the_batch_and_stay_inside(name: str, threat: ThreatModel) -> None:
    whole, labels, attacked = run(name, threat=threat)
    again, _, _ = run(name, threat=threat)
    assert torch.equal(whole, again)
    parts, _, predicted = run(name, threat=threat, batch_size=7)
    assert torch.equal(predicted, attacked)
    assert ((parts - whole).abs() > 1e-3).float().mean() < 1e-2
    assert (attacked != labels).any()
    threat.check(whole, pixels(30) / 255)
    if "fab" not in name:  # FAB starts at the clean image
        other, _, _ = run(name, threat=threat, seed=1)
        assert not torch.equal(whole, other)


@pytest.mark.parametrize("name", SHORT)
def test_no_global_state_changes(name: str) -> None:
    model, images, heads = TinyNet(), pixels(8), anchors(5)
    labels = answers(model, images, heads)
    before = torch.random.get_rng_state()
    attack_images(Classifier(model, heads), images, labels, AttackPlan(spec(name), LINF, seed=0))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", SHORT)
def test_without_early_stop_every_image_is_pressed_on(name: str) -> None:
    model, images, heads = TinyNet(), pixels(20), anchors(5)
    labels = answers(model, images, heads)
    labels[::2] = (labels[::2] + 1) % 5
    x_adv, _, attacked = attack_images(
        Classifier(model, heads), images, labels, AttackPlan(spec(name), LINF, seed=0, early_stop=False)
    )
    LINF.check(x_adv, images / 255)
    with frozen(model), torch.no_grad():
        before, after = (margin_loss(unit(model(x)) @ heads.T, labels) for x in (images / 255, x_adv))
    assert (after >= before - 1e-6).all()
    # Square and FAB have nothing more to do on an image that is wrong
    assert (after > before + 1e-3).float().mean() > (0.9 if "ce" in name else 0.3)
    assert (attacked != labels)[::2].all()


def test_fab_aims_at_wrong_classes_also_where_the_sample_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    aims: list[Tensor] = []
    look = autoattack._FAB.get_diff_logits_grads_batch_targeted

    def spied(self: autoattack._FAB, imgs: Tensor, la: Tensor, la_target: Tensor) -> tuple[Tensor, Tensor]:
        aims.append(self.predict.ranked[:, -self.target_class])
        ahead, grad = look(self, imgs, la, la_target)
        logits = self.predict(imgs)
        wanted = logits.gather(1, aims[-1][:, None]) - logits.gather(1, la[:, None])
        torch.testing.assert_close(ahead, wanted)
        return ahead, grad

    monkeypatch.setattr(autoattack._FAB, "get_diff_logits_grads_batch_targeted", spied)
    model, images, heads = TinyNet(), pixels(12), anchors(5)
    labels = (answers(model, images, heads) + 1) % 5  # all wrong
    attack_images(Classifier(model, heads), images, labels, AttackPlan(spec("fab-t-2"), LINF, seed=0, early_stop=False))
    met = torch.stack(aims)
    assert not (met == labels).any()
    assert all(set(column.tolist()) == set(range(5)) - {int(label)} for column, label in zip(met.T, labels, strict=True))


def heads_of_its_own(name: str, threat: ThreatModel, batch_size: int) -> tuple[dict[int, bool], Samples, Tensor]:
    """Which of 48 rows are misclassified; row r has head r % 3, with shuffled heads."""
    model, images = TinyNet(), pixels(48)
    model.eval().requires_grad_(False)
    heads = torch.stack([normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(at)), dim=1) for at in range(3)])

    everything = torch.arange(48)
    classifier = Classifier(model, heads, head=everything % 3)
    source = lambda part: to_pixels(images, part, "cpu")  # noqa: E731
    with torch.no_grad():
        labels = classifier.scores(source(everything), everything).argmax(1)
    samples = Samples(classifier, source, labels)
    found: dict[int, bool] = {}
    judged: Judged
    for judged in attack_samples(samples, everything, AttackPlan(spec(name), threat, seed=0, batch_size=batch_size)):
        again = classifier.scores(judged.x_adv, judged.rows).argmax(1)
        assert torch.equal(again, judged.predicted)
        for row, predicted in zip(judged.rows.tolist(), judged.predicted.tolist(), strict=True):
            assert row not in found
            found[row] = predicted != int(labels[row])
    return found, samples, everything


@pytest.mark.parametrize("name", SHORT)
def test_each_row_is_attacked_against_its_own_head(name: str) -> None:
    found, samples, everything = heads_of_its_own(name, LINF, 48)
    assert sorted(found) == everything.tolist()
    for at in range(3):  # the rows of one head, by themselves
        rows = everything[everything % 3 == at]
        alone = attack_samples(samples, rows, AttackPlan(spec(name), LINF, seed=0, batch_size=48))
        misclassified = {
            row: predicted != int(samples.labels[row])
            for judged in alone
            for row, predicted in zip(judged.rows.tolist(), judged.predicted.tolist(), strict=True)
        }
        assert misclassified == {row: found[row] for row in rows.tolist()}
    assert 0 < sum(found.values()) < 48


def test_rows_past_the_first_block_start_elsewhere() -> None:
    count = BLOCK + 5
    images = pixels(1).expand(count, -1, -1, -1).contiguous()
    model, heads = TinyNet(), anchors(5)
    labels = answers(model, images, heads)
    x_adv, _, attacked = attack_images(
        Classifier(model, heads), images, labels, AttackPlan(spec("apgd-ce-1"), ThreatModel(Fraction(1, 4)), seed=0)
    )
    misclassified = (attacked != labels).nonzero()[:, 0]
    assert len(misclassified) > 2
    assert len(x_adv[misclassified].flatten(1).unique(dim=0)) == len(misclassified)
    own, _, predicted = attack_images(
        Classifier(model, heads),
        images[250:],
        labels[250:],
        AttackPlan(spec("apgd-ce-1"), ThreatModel(Fraction(1, 4)), seed=0),
        first_row=250,
    )
    assert torch.equal(predicted, attacked[250:])
    torch.testing.assert_close(own, x_adv[250:], rtol=0, atol=1e-5)
