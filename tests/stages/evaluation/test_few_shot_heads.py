"""Episodes under heads made from support images, on the features before the projection."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stages.attacks.spec import parse_attacks
from stages.errors import InputError, UsageError
from stages.evaluation.evaluate import evaluate_classifiers
from stages.evaluation.groups import ClassChoice
from stages.evaluation.points import protocol_episodes
from stages.evaluation.protocol import Protocol
from stages.evaluation.score import evaluate
from stages.evaluation.task import Task
from stages.models.classifier import Classifier
from stages.models.few_shot import few_shot
from stages.models.heads import RidgeHead
from stages.models.origin import Origin
from stages.models.wrapped import mean_of_draws, resize_inside
from stages.reports.records import Report
from stages.threat import ThreatModel
from tests.stages.training.synthetic import made_up_anchors, made_up_images, quick, small_model
from tests.stages.training.test_run import loaded, trained

EPISODES = Protocol("episodes", ways=3, shots=2, queries=3, episodes=4, head="protonet")
THREAT = ThreatModel(Fraction(8, 255))
IMAGES = made_up_images()
HEAD = {name: value.numpy() for name, value in RidgeHead().state_dict().items()}


def classifier() -> Classifier:
    return Classifier(small_model().eval(), made_up_anchors()).eval()


def test_protonet_decides_by_the_nearest_class_mean_and_attacks_climb_its_loss() -> None:
    judge = few_shot(classifier(), "protonet")
    result = evaluate(judge, IMAGES, EPISODES, parse_attacks(["fgsm"]), THREAT)
    assert result.rows is not None
    correct, model, at = result.rows.correct(), classifier().embedding, 0
    sampled = protocol_episodes(IMAGES, EPISODES)
    for support, query in zip(sampled.support, sampled.query, strict=True):
        pixels = IMAGES.images.float() / 255
        with torch.no_grad():
            means = torch.stack([model.features(pixels[own]).mean(0) for own in support])  # type: ignore[operator]
        x, labels = pixels[query.flatten()].requires_grad_(), torch.arange(3).repeat_interleave(3)
        logits = -(model.features(x)[:, None] - means).square().sum(2) / 8  # type: ignore[operator]
        (grad,) = torch.autograd.grad(F.cross_entropy(logits, labels), x)
        x_adv = (x.detach() + 8 / 255 * grad.sign()).clamp(0, 1)
        after = (model.features(x_adv)[:, None] - means).square().sum(2).argmin(1)  # type: ignore[operator]
        right = logits.argmax(1) == labels
        assert correct["clean"][at : at + 9].tolist() == right.tolist()
        assert correct["fgsm"][at : at + 9].tolist() == (right & (after == labels)).tolist()
        at += 9
    assert correct["fgsm"].sum() < correct["clean"].sum()


def test_ridge_heads_are_attacked_and_reach_through_what_is_around_the_model() -> None:
    head = RidgeHead()
    around = resize_inside(replace_size(classifier()), "bilinear")
    plain, inside = few_shot(classifier(), head), mean_of_draws(few_shot(around, head), 2, 0)
    results = [evaluate(one, IMAGES, EPISODES, parse_attacks(["pgd-2"]), THREAT) for one in (plain, inside)]
    assert results[0].clean.accuracy == results[1].clean.accuracy > 1 / 3
    assert results[0].attacks["pgd-2"].accuracy < results[0].clean.accuracy


def replace_size(one: Classifier) -> Classifier:
    one.image_size = 16
    return one


def test_a_sweep_has_the_anchors_at_0_shots_and_the_report_names_the_head() -> None:
    choice = ClassChoice("all", IMAGES.classes)
    task = Task({"one": classifier()}, [choice], IMAGES, replace(EPISODES, shots=0), (), THREAT, shots=(0, 1, 2))
    found = evaluate_classifiers(task)
    rows = [row.result.rows for row in found.rows]
    assert all(one is not None and one.image.tolist() == rows[0].image.tolist() for one in rows)  # type: ignore[union-attr]
    anchors = evaluate(classifier(), IMAGES, replace(EPISODES, shots=0, head="class-means"))
    assert found.rows[0].result.clean == anchors.clean
    assert found.report.protocol.head == "protonet"
    assert Report.model_validate_json(found.report.model_dump_json()).protocol.head == "protonet"
    by_means = replace(task, protocol=replace(task.protocol, head="class-means"))
    assert by_means.identity != task.identity
    assert evaluate_classifiers(by_means).report.protocol.head is None


def test_what_a_model_has_not_is_refused(tmp_path: Path) -> None:
    choice = ClassChoice("all", IMAGES.classes)

    def task(model: Classifier, protocol: Protocol) -> Task:
        return Task({"one": model}, [choice], IMAGES, protocol, (), THREAT)

    with pytest.raises(InputError, match=r"one has no head r2d2.* use --head protonet"):
        task(classifier(), replace(EPISODES, head="r2d2")).check()
    damaged = classifier()
    damaged.origin = Origin(head={**HEAD, "scale": np.ones(3, np.float32)})
    with pytest.raises(InputError, match=r"tensor 'scale' in the head of one has shape \(3,\), a head r2d2 expects \(\)"):
        task(damaged, replace(EPISODES, head="r2d2")).check()
    with pytest.raises(UsageError, match="--blend has no effect on --head protonet"):
        replace(EPISODES, blend=1.0)
    trained(tmp_path, quick(objective="at-linear"), anchors=made_up_anchors(seen=3, val=3))
    without_anchors = loaded(tmp_path / "model.st")
    task(without_anchors, EPISODES).check()
    for protocol in (Protocol(), replace(EPISODES, shots=0), replace(EPISODES, head="class-means")):
        with pytest.raises(UsageError, match="one was trained without the anchors: its projection to them is random"):
            task(without_anchors, protocol).check()
