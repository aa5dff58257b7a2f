"""`laat blend-weights`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.laatcli.conftest import Pipeline
from tests.laatcli.inside import inside
from tests.laatcli.shell import check_refusal


@pytest.fixture
def here(pipeline: Pipeline, tmp_path: Path) -> Path:
    shutil.copytree(pipeline.folder / "run", tmp_path / "run")
    return tmp_path


def test_a_curve_of_checkpoints_and_its_evaluation(here: Path, pipeline: Pipeline) -> None:
    shutil.copytree(pipeline.photos, here / "photos")
    done = inside(here, "blend-weights", "run/model.st", "run/last.st", "--weight", "0,0.25,1", "-o", "blend.st", "--json")
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    assert [(one["output"], one["weight"]) for one in said["outputs"]] == [
        ("blend-0.st", 0),
        ("blend-0.25.st", 0.25),
        ("blend-1.st", 1),
    ]
    assert "warning: the calibration is dropped" in done.stderr
    names = [one["output"] for one in said["outputs"]]
    done = inside(here, "eval", *names, "--data", "photos", "--attack", "fgsm", "--no-checks", "-o", "curve.json")
    assert done.code == 0, done.stderr
    report = json.loads((here / "curve.json").read_text())
    assert [model["training"]["blend"] for model in report["models"]] == [0, 0.25, 1]
    assert [result["model"] for result in report["results"]] == ["blend-0", "blend-0.25", "blend-1"]


def test_one_weight_and_standard_output(here: Path) -> None:
    done = inside(here, "blend-weights", "run/model.st", "run/last.st", "--weight", "0.7")
    assert (done.code, (here / "blended.st").exists()) == (0, True)
    assert "blended.st" in done.stdout
    assert "0.7" in done.stdout


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("run/last.st",), 2, "--weight is missing. Add --weight 0.7"),
        (("run/last.st", "--weight", "1.5"), 2, "--weight 1.5 is not between 0 and 1"),
        (("run/last.st", "--weight", "0.5,-1"), 2, "--weight -1 is not between 0 and 1"),
        (("run/last.st", "--weight", "nan"), 2, "--weight nan is not between 0 and 1"),
        (("run/last.st", "--weight", "half"), 2, "--weight 'half' is not a number"),
        (("run/last.st", "--weight", "0.5,.50"), 2, "--weight '0.5,.50' has a weight twice"),
        (("run/last.st", "--weight", "0,1", "-o", "-"), 2, "standard output takes one checkpoint, not 2"),
        (("run/last.st", "--weight", "0.5", "-o", "run/last.st"), 2, "--output would replace 'run/last.st', which OTHER reads"),
        (("run/last.st", "--weight", "0.5", "--anchors-of", "third"), 2, "unknown --anchors-of 'third'"),
        (("nowhere.st", "--weight", "0.5"), 3, "'nowhere.st' does not exist"),
        (("clip:ViT-B-32", "--weight", "0.5"), 2, "'clip:ViT-B-32' names no weights"),
        (("clip:demo", "--weight", "0.5"), 3, "'run/model.st' is no CLIP tower, and 'clip:demo' is one"),
    ],
)
def test_what_is_refused(args: tuple[str, ...], code: int, says: str, here: Path) -> None:
    before = sorted(here.rglob("*"))
    check_refusal(inside(here, "blend-weights", "run/model.st", *args), code, says)
    assert sorted(here.rglob("*")) == before
