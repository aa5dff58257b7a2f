"""Whether saved images were made on the model that they are evaluated on."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch

from stages.attacks.adversarial import AdversarialSet
from stages.attacks.spec import AttackPlan, parse_attack
from stages.evaluation.attack_stage import attack_group
from stages.evaluation.saved_images import evaluate_saved
from stages.files import artifacts
from stages.models.classifier import Classifier
from stages.threat import ThreatModel
from tests.stages.training.synthetic import NAMES, SIZE, made_up_anchors, made_up_images, small_model

FILE = {"kind": "model", "sha256": "ab", "inputs": {}}
OTHER_FILE = {**FILE, "sha256": "cd"}
MODEL = Classifier(small_model(), made_up_anchors(), logit_scale=10, image_size=SIZE).eval()


def attacked(classifier: Classifier = MODEL) -> AdversarialSet:
    images = made_up_images(per_class=2).restricted_to(NAMES[:4], names_from="the test")
    plan = AttackPlan(parse_attack("fgsm"), ThreatModel("8/255"), 0)
    made = attack_group(classifier.over(NAMES[:4]), "all", images, plan, inputs={"model": FILE}).saved
    return AdversarialSet.from_artifact(artifacts.from_bytes(artifacts.to_bytes(made.to_artifact()), where="a"), "a")


def knowledge(model: Classifier, saved: AdversarialSet, file: dict[str, Any] = OTHER_FILE) -> str:
    lineage = {"kind": "adversarial", "sha256": "ef", "inputs": dict(saved.inputs)}
    found = evaluate_saved({"mine": model}, saved, lineage, where="'a.st'", lineages={"mine": {"model": file}})
    return str(found.report.knowledge)


def changed(**attributes: Any) -> Classifier:
    made = deepcopy(MODEL)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def test_another_file_of_the_same_model_is_known_to_the_attacker() -> None:
    saved = attacked()
    assert knowledge(changed(calibration=object()), saved) == "white-box"
    assert knowledge(MODEL.over(NAMES[:5]), saved) == "white-box"  # the images are of four of its classes


def test_another_model_in_a_file_of_the_same_hash_is_not() -> None:
    saved, other = attacked(), deepcopy(MODEL)
    with torch.no_grad():
        next(other.embedding.parameters()).mul_(1.01)
    assert knowledge(other, saved, FILE) == "transfer"
    assert knowledge(changed(logit_scale=5.0), saved, FILE) == "transfer"
    anchors = made_up_anchors()
    turned = replace(anchors, vectors=anchors.vectors[::-1].copy())
    assert knowledge(Classifier(MODEL.embedding, turned, logit_scale=10), saved, FILE) == "transfer"


@pytest.mark.parametrize("code", [{}, {"code": {"mine": "12"}}])
def test_images_of_an_older_version_go_by_the_file_and_the_code(code: dict[str, Any]) -> None:
    saved = replace(attacked(), attacked=None, identity=code)
    assert knowledge(MODEL, saved, FILE) == ("transfer" if code else "white-box")
    assert knowledge(MODEL, saved, OTHER_FILE) == "transfer"
