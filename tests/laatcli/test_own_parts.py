"""Backbones and objectives of the user's own on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.laatcli.shell import check_refusal, run

PARTS = """
from torch import nn
from stages.training.objectives import Adversarial

def make():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def maps():
    return nn.Conv2d(3, 8, 3)

class Mine(Adversarial):
    pass

class NoObjective:
    pass
"""
TRAIN = ("train", "--data", "photos", "--epochs", 2, "--steps", 1, "--batch-size", 8, "--device", "cpu")


@pytest.fixture
def here(untrained: Path) -> Path:
    (untrained / "my_parts.py").write_text(PARTS)
    return untrained


def test_they_are_found_in_the_current_folder_and_recorded(here: Path) -> None:
    own = ("--backbone", "my_parts:make", "--objective", "my_parts:Mine", "--accumulate", 2)
    done = run(*TRAIN, *own, cwd=here)
    assert done.code == 0, done.stderr
    assert "batch norm uses the statistics of each micro-batch: --accumulate 2 does not give the same result" in done.stderr
    shown = json.loads(run("inspect", "run/model.st", "--json", cwd=here).stdout)
    settings = shown["params"]["training"]["settings"]
    assert (settings["backbone"], settings["objective"]) == ("my_parts:make", "my_parts:Mine")
    assert run(*TRAIN, *own, cwd=here).stdout.startswith("run is up to date")
    # with other code it is another run
    (here / "my_parts.py").write_text(PARTS.replace("Conv2d(3, 8, 3, 2)", "Conv2d(3, 8, 5, 2)"))
    again = run(*TRAIN, *own, "--resume", "auto", cwd=here)
    assert again.code == 2
    assert "cannot be resumed with other parameters: the code of my_parts was" in again.stderr
    assert "the model's shapes " in again.stderr


def test_a_checkpoint_of_own_code_is_evaluated_when_the_user_names_it(here: Path) -> None:
    assert run(*TRAIN, "--backbone", "my_parts:make", cwd=here).code == 0
    data, own = ("--data", "photos"), ("--backbone", "my_parts:make")
    says = "was trained with your own backbone my_parts:make, and loading it runs that code. Add --backbone my_parts:make"
    for command in ("eval", "attack"):
        check_refusal(run(command, "run/model.st", *data, cwd=here), 3, says)
    for line in (("eval", "run/model.st", "--attack", "fgsm", "--no-checks"), ("attack", "run/model.st", "--attack", "fgsm")):
        done = run(*line, *data, *own, cwd=here)
        assert done.code == 0, done.stderr
    (here / "my_parts.py").write_text(PARTS.replace("nn.ReLU()", "nn.ELU()"))  # the same weights, another model
    for command in ("eval", "attack"):
        check_refusal(run(command, "run/model.st", "--attack", "fgsm", *data, *own, cwd=here), 2, "the code of my_parts was ")
    (here / "my_parts.py").unlink()
    check_refusal(run("eval", "run/model.st", *data, *own, cwd=here), 4, "No module named 'my_parts'")


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--backbone", "my_parts:mak"), 2, "'my_parts' has no 'mak'. Nearest: 'make'"),
        (("--backbone", "your_parts:make"), 4, "No module named 'your_parts'"),
        (("--backbone", "my_parts:Mine"), 2, "fails with TypeError"),
        (("--backbone", "my_parts:maps"), 2, "my_parts:maps gives (2, 8, "),
        (("--objective", "my_parts:NoObjective"), 2, "--objective my_parts:NoObjective is not an objective"),
        (
            ("--backbone", "timm:vgg11", "--resize", 32, "--grad-checkpointing"),
            2,
            "timm:vgg11 does not support gradient checkpointing",
        ),
    ],
)
def test_mistakes(options: tuple[object, ...], code: int, says: str, here: Path) -> None:
    check_refusal(run(*TRAIN, *options, "--out", "new", cwd=here), code, says)
    assert not (here / "new").exists()
