"""The user's modules, and a stand-in for RobustBench."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from stages.api import evaluate, load
from stages.attacks.spec import parse_attack
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.errors import InputError, MissingError, UsageError
from stages.evaluation.groups import ClassChoice
from stages.evaluation.protocol import Protocol
from stages.evaluation.task import Task
from stages.exchange.model_request import ModelRequest
from stages.exchange.open_model import open_model
from stages.exchange.own_module import class_names
from stages.threat import ThreatModel
from tests.laatcli.conftest import NAMES, class_folders

MODULES = """
import torch
from torch import nn

def classifier(outputs=6):
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, outputs))

def wide():
    return classifier(7)

def maps():
    return nn.Conv2d(3, 6, 3)

def number():
    return 3

def ends():
    raise SystemExit(0)

def load_model(model_name, dataset, threat_model):
    torch.manual_seed(0)
    return {("Standard", "cifar10", "Linf"): classifier(10)}[model_name, dataset, threat_model]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("zoo_nets", "robustbench", "robustbench.utils"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "zoo_nets.py").write_text(MODULES)
    return tmp_path


@pytest.fixture
def robustbench(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "robustbench").mkdir()
    (here / "robustbench/__init__.py").write_text("")
    (here / "robustbench/utils.py").write_text(MODULES)
    monkeypatch.syspath_prepend(here)


def test_logits_with_class_names_are_a_closed_set(here: Path) -> None:
    made = load("zoo_nets:classifier", names=NAMES, device="cpu")
    x = torch.rand(5, 3, 16, 16)
    logits = made(x)
    assert torch.equal(logits, made.embedding(x))
    # the rows of the batch do not matter, and names pick columns
    torch.testing.assert_close(made.scores(x[:1]), logits[:1])
    assert torch.equal(made.over([NAMES[4], NAMES[1]])(x), logits[:, [4, 1]])
    with pytest.raises(InputError, match=r"the model has no class 'okapi' .*: it is a classifier of 6 fixed classes"):
        made.over(["okapi"])
    with pytest.raises(InputError, match="has no novel classes; choose all, or give"):
        made.over("novel")


def test_a_closed_set_is_evaluated(here: Path) -> None:
    made = load("zoo_nets:classifier", names=NAMES, device="cpu")
    data = str(class_folders(here / "photos", 4))
    report = evaluate(made, data, attacks=["pgd-2"], checks=True).report
    (model,), (result,) = report.models, report.results
    assert (model.objective, result.group) == ("closed set", "all")
    assert any("whether these classes or images were trained on is unknown" in note for note in report.notes)
    batch = [one for one in (report.checks or [])[0].findings if one.name == "batch"]
    assert batch[0].result in ("pass", "few")
    episodes = Protocol("episodes", ways=3, queries=2, episodes=3)
    assert evaluate(made, data, attacks=[], protocol=episodes).results
    images = load_images(ImageRequest(data), side="test")
    shots = Protocol("episodes", ways=3, shots=1, queries=1, episodes=3)
    task = Task({"it": made}, [ClassChoice("all", NAMES)], images, shots, [parse_attack("fgsm")], ThreatModel())
    with pytest.raises(UsageError, match="without embeddings of support images"):
        task.check()


def test_factories_that_do_not_fit(here: Path) -> None:
    data = str(class_folders(here / "photos", 1))
    with pytest.raises(UsageError, match="MODEL zoo_nets:number returns a int; name a function"):
        open_model("zoo_nets:number", ModelRequest(names=NAMES))
    with pytest.raises(UsageError, match=r"MODEL zoo_nets:ends: ends\(\) fails with SystemExit"):
        load("zoo_nets:ends", names=NAMES, device="cpu")
    with pytest.raises(MissingError, match="MODEL zoo_netz:make: No module named 'zoo_netz'"):
        open_model("zoo_netz:make", ModelRequest(names=NAMES))
    with pytest.raises(UsageError, match="'zoo_nets:wide' has no class names"):
        open_model("zoo_nets:wide")
    with pytest.raises(InputError, match="the model has 7 outputs and 6 class names"):
        evaluate(load("zoo_nets:wide", names=NAMES, device="cpu"), data, attacks=[])
    with pytest.raises(UsageError, match=r"zoo_nets:maps gives \(2, 6, 14, 14\) for 2 images"):
        evaluate(load("zoo_nets:maps", names=NAMES, device="cpu"), data, attacks=[])


@pytest.mark.usefixtures("robustbench")
def test_robustbench() -> None:
    opened = open_model("robustbench:Standard")
    assert opened.classifier.classes[:2] == ("airplane", "automobile")
    assert (opened.classifier.image_size, opened.classifier.closed) == (32, True)
    assert opened.lineage["model"]["kind"] == "robustbench"
    assert open_model("robustbench:cifar10/linf/Standard").classifier.origin.sha256 == opened.classifier.origin.sha256
    for spec, says in (
        ("robustbench:Standrd", "has no model 'Standrd' of cifar10, Linf"),
        ("robustbench:cifar10/Standard", "is not a model of RobustBench; write robustbench:MODEL"),
        ("robustbench:mnist/Linf/Standard", "DATASET one of cifar10, cifar100, imagenet"),
    ):
        with pytest.raises(UsageError, match=says):
            open_model(spec)


def test_without_robustbench(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "robustbench", None)
    with pytest.raises(MissingError, match="cannot be imported"):
        open_model("robustbench:Standard")


def test_a_robustbench_that_needs_an_older_setuptools(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "robustbench").mkdir()
    (here / "robustbench/__init__.py").write_text("")
    (here / "robustbench/utils.py").write_text("import pkg_resources")
    monkeypatch.syspath_prepend(here)
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    with pytest.raises(MissingError, match="pkg_resources") as raised:
        open_model("robustbench:Standard")
    assert "pip install 'setuptools<81'" in raised.value.fix


def test_names_of_the_data_sets() -> None:
    cifar = class_names("cifar100")
    assert (len(cifar), cifar[0], cifar[1], cifar[-1]) == (100, "apple", "aquarium fish", "worm")
    imagenet = class_names("imagenet")
    assert len({*imagenet}) == 1000
