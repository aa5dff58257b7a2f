"""The pixel grid, attacker knowledge and randomised models on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.laatcli.conftest import Pipeline, class_folders
from tests.laatcli.inside import inside

NOISY = """
import torch
from torch import nn
from stages.models.backbones import build_backbone

class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.features = build_backbone("conv4-8", 16, 0), 8

    def forward(self, x):
        return self.net(x + 0.5 * torch.randn_like(x))
"""
QUICK = ("--attack", "pgd-2", "--no-checks", "--json")


@pytest.fixture
def here(pipeline: Pipeline, tmp_path: Path) -> Path:
    shutil.copy(pipeline.model, tmp_path / "model.st")
    class_folders(tmp_path / "small/test", 3, first=8, size=8)
    return tmp_path


def test_images_are_resized_inside_the_attack(pipeline: Pipeline, here: Path) -> None:
    args = ("model.st", "--data", "small", "--resize-inside", "bicubic")
    done = inside(here, "eval", *args, *QUICK)
    assert done.code == 0, done.stderr
    report = json.loads(done.stdout)
    threat = {"grid": [8, 8], "knowledge": "white-box", "preprocessing": {"inside": "bicubic to 16x16", "outside": "none"}}
    assert threat.items() <= report["threat"].items()
    assert report["identity"]["settings"]["resize_inside"] == "bicubic"
    shown = inside(here, "report", "report.json").stdout
    assert "attacks in Linf 8/255 at 8x8, resized inside the attack: bicubic to 16x16" in shown
    outside = inside(here, "eval", "model.st", "--data", "small", "--resize", 16, *QUICK)
    assert outside.code == 2
    assert "--resize-inside was bicubic and is not given" in json.loads(outside.stderr.splitlines()[-1])["what"]
    outside = inside(here, "eval", "model.st", "--data", "small", "--resize", 16, "-o", "outside.json", *QUICK)
    assert json.loads(outside.stdout)["threat"]["preprocessing"]["outside"] == "bicubic-antialias to 16x16, centre crop"
    native = inside(here, "eval", "model.st", "--data", pipeline.photos, "--resize", 16, "-o", "native.json", *QUICK)
    assert json.loads(native.stdout)["threat"]["preprocessing"]["outside"] == "none"  # they are 16x16
    made = inside(here, "attack", *args, "--attack", "fgsm", "--json")
    assert json.loads(made.stdout)["threat"]["preprocessing"]["inside"] == "bicubic to 16x16"
    saved = ("eval", "model.st", "--adversarial", "adversarial.st", "-o", "saved.json", "--json")
    assert json.loads(inside(here, *saved, "--resize-inside", "bicubic").stdout)["threat"]["knowledge"] == "white-box"
    other = inside(here, *saved, "--resize-inside", "bilinear", "--force")  # another model
    assert json.loads(other.stdout)["threat"]["knowledge"] == "transfer"
    refused = inside(here, "eval", "model.st", "--data", pipeline.photos, "--resize-inside", "bicubic")
    assert refused.code == 2
    assert "--resize-inside bicubic has no effect: the images are 16x16" in refused.stderr


def test_what_the_attacker_knows(pipeline: Pipeline, here: Path) -> None:
    refused = inside(here, "eval", "model.st", "--data", pipeline.photos, "--knowledge", "oblivious")
    assert refused.code == 2
    assert "--knowledge oblivious needs saved images" in refused.stderr
    saved = ("eval", "model.st", "--adversarial", pipeline.folder / "adversarial.st")
    assert inside(here, *saved, "-o", "white.json", "--no-checks").code == 0
    assert "--checks cannot be combined with --adversarial" in inside(here, *saved, "--checks").stderr
    refused = inside(here, *saved, "--knowledge", "transfer")
    assert ". Leave --knowledge out: they are recorded as white-box" in refused.stderr
    said = inside(here, *saved, "--knowledge", "oblivious", "-o", "oblivious.json")
    assert "attacks in Linf 8/255 at 16x16, oblivious" in said.stdout
    both = inside(here, "report", "white.json", "oblivious.json", "--json")
    assert len(json.loads(both.stdout)["tables"]) == 2
    refused = inside(here, "compare", "white.json", "oblivious.json")
    assert refused.code == 3
    assert "different attacker knowledge: 'white.json' has white-box and 'oblivious.json' has oblivious" in refused.stderr


def test_an_older_report_is_white_box_where_it_ran_the_attacks(pipeline: Pipeline, here: Path) -> None:
    from stages.reports.records import Report

    saved = ("eval", "model.st", "--adversarial", pipeline.folder / "adversarial.st", "--json")
    new = [json.loads(pipeline.said["eval"].stdout), json.loads(inside(here, *saved).stdout)]
    for record in new:
        for name in ("grid", "knowledge", "preprocessing"):
            del record["threat"][name]
    old = [Report.model_validate_json(json.dumps(record)) for record in new]
    assert [(one.knowledge, one.under) for one in old] == [("white-box", "Linf 8/255")] * 2
    other = {**new[1], "models": [{**new[1]["models"][0], "sha256": "0" * 64}]}
    assert Report.model_validate_json(json.dumps(other)).under == "Linf 8/255, transfer"


def test_a_randomised_model_needs_eot(pipeline: Pipeline, untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(untrained)
    (untrained / "noisy_net.py").write_text(NOISY)
    own = ("--backbone", "noisy_net:Noisy")
    made = inside(untrained, "train", "--data", "photos", "--epochs", 1, "--steps", 1, "--batch-size", 16, *own)
    assert made.code == 0, made.stderr
    args = ("run/model.st", "--data", "photos", *own, "--attack", "pgd-2")
    for command in ("attack", "eval"):
        refused = inside(untrained, command, *args)
        assert refused.code == 2
        assert "is randomised" in refused.stderr
        assert "Add --eot 20" in refused.stderr
    assert not (untrained / "report.json").exists()
    predicted = inside(untrained, "predict", "run/model.st", "photos/test", *own, "--robust-to", "8/255")
    assert predicted.code == 2
    assert "Add --eot 20" in predicted.stderr
    first, again = (inside(untrained, "eval", *args, "--eot", 3, "--no-checks", "--force", "--json") for _ in range(2))
    assert first.code == 0, first.stderr
    assert first.stdout == again.stdout
    report = json.loads(first.stdout)
    assert report["attacks"][0]["eot"] == 3
    assert report["identity"]["settings"]["eot"] == 3
    assert any(note.startswith("--eot 3: every decision") for note in report["notes"])
    assert inside(untrained, "attack", *args, "--eot", 2).code == 0
