from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch

from stages.attacks.adversarial import AdversarialSet
from stages.attacks.perturb import attack_images
from stages.attacks.spec import AttackPlan, parse_attack
from stages.errors import InputError
from stages.evaluation.saved_images import score_saved
from stages.reports.results import GroupResult
from stages.threat import ThreatModel
from tests.stages.evaluation.models import Channels
from tests.stages.evaluation.test_score import group

THREAT = ThreatModel(Fraction(8, 255))


def attacked() -> torch.Tensor:
    one = group()
    spec = parse_attack("pgd-20")
    return attack_images(one.classifier(Channels()), one.images, one.labels, AttackPlan(spec, THREAT, seed=0))[0]


def score(model: Channels, x_adv: torch.Tensor, **options: Any) -> GroupResult:
    one, predicted = group(), torch.zeros(7, dtype=torch.int64)
    record = {"name": "pgd-20"}
    saved = AdversarialSet(x_adv, one.images, one.labels, predicted, predicted, tuple(one.classes), "seen", THREAT, record, {})
    return score_saved(one.classifier(model), saved, **options)


def test_saved_images_score_as_they_did_when_they_were_made() -> None:
    shown: list[tuple[int, int, str]] = []
    result = score(Channels(), attacked(), batch_size=3, progress=lambda *news: shown.append(news))
    assert result.correct["clean"].tolist() == [True, True, True, True, True, True, False]
    assert result.correct["saved pgd-20"].tolist() == [False, True, False, True, False, True, False]
    assert result.worst.accuracy == pytest.approx(3 / 7)
    assert shown[-1] == (7, 7, "saved pgd-20")


def test_another_model_is_wrong_where_it_is_wrong_when_clean() -> None:
    turned = Channels()
    with torch.no_grad():
        turned.weight.copy_(torch.eye(3).roll(-1, 0))
    result = score(turned, attacked())
    assert not (result.correct["saved pgd-20"] & ~result.correct["clean"]).any()
    assert result.clean.accuracy == pytest.approx(1 / 7)


def test_images_that_are_not_of_this_data_are_refused() -> None:
    with pytest.raises(InputError, match="outside eps 8/255; give the unchanged artifact"):
        score(Channels(), attacked().flip(0))


def test_rows_tell_how_far_saved_images_are() -> None:
    rows = score(Channels(), attacked(), batch_size=3).rows
    assert rows is not None
    found = rows.attacks["saved pgd-20"]
    far = (attacked() - group().images / 255).abs().amax((1, 2, 3))
    assert found.norm == pytest.approx(far.numpy(), abs=1e-7)
    assert ((found.margin > 0) == (found.predicted == rows.label)).all()
    assert rows.clean.predicted.tolist() == [0, 0, 1, 1, 2, 2, 1]
