"""Models of several kinds in the commands that take MODEL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.laatcli.conftest import NAMES, Pipeline, class_folders
from tests.laatcli.inside import inside
from tests.stages.anchors.encoders import tiny_folder

MODULE = """
from torch import nn

def net():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 6))
"""
QUICK = ("--attack", "fgsm", "--no-checks", "--rows", "none")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    class_folders(tmp_path / "photos", 2, size=32)
    (tmp_path / "zoo_net.py").write_text(MODULE)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    return tmp_path


def test_several_kinds_of_models_in_one_table(here: Path, pipeline: Pipeline) -> None:
    models = (pipeline.model, "clip:demo", "zoo_net:net")
    line = ("eval", *models, "--data", "photos", "--classes", "names.txt", *QUICK, "-o", "it.json")
    done = inside(here, *line)
    assert done.code == 3
    assert "models of a table get the same images: evaluate it in a table of its own" in done.stderr
    done = inside(here, "eval", *models[1:], *line[4:])
    assert done.code == 0, done.stderr
    report = json.loads((here / "it.json").read_text())
    assert [(one["name"], one["objective"]) for one in report["models"]] == [
        ("clip:demo", "zero-shot"),
        ("zoo_net:net", "closed set"),
    ]
    assert report["models"][0]["anchors"] == "text, raw, 'This is a photo of a {}'"
    assert (
        "all: whether these classes or images were trained on is unknown: the model was not trained with laat"
        in report["notes"]
    )
    assert {one["group"] for one in report["results"]} == {"all"}
    # the same again, then with another prompt
    assert "up to date" in inside(here, "eval", *models[1:], *line[4:]).stdout
    other = inside(here, "eval", *models[1:], *line[4:], "--template", "a {}")
    assert (other.code, "the anchors were" in other.stderr) == (2, True)


def test_a_checkpoint_lends_its_names_and_groups(here: Path, pipeline: Pipeline) -> None:
    tiny_folder(here / "clip")
    done = inside(here, "eval", pipeline.model, "local-dir:clip", "--data", pipeline.photos, *QUICK, "-o", "it.json", "--json")
    assert done.code == 0, done.stderr
    report = json.loads(done.stdout)
    assert [(one["model"], one["group"]) for one in report["results"]] == [("run", "novel"), ("local-dir:clip", "novel")]
    assert any(note.endswith("was not trained with laat (local-dir:clip)") for note in report["notes"])


def test_images_of_a_foreign_model_are_attacked(here: Path) -> None:
    line = ("attack", "clip:demo", "--data", "photos", "--classes", "names.txt", "--attack", "fgsm")
    assert inside(here, *line).code == 0
    assert "up to date" in inside(here, *line).stdout
    other = inside(here, *line, "--template", "a {}")
    assert (other.code, "the anchors were" in other.stderr) == (2, True)
    shown = json.loads(inside(here, "inspect", "adversarial.st", "--json").stdout)
    assert {name: one["kind"] for name, one in shown["inputs"].items()} == {"model": "clip", "anchors": "anchors"}
    saved = ("eval", "zoo_net:net", "--classes", "names.txt", "--adversarial", "adversarial.st", "-o", "t.json")
    assert inside(here, *saved).code == 0
    own = inside(here, "eval", "clip:demo", "--adversarial", "adversarial.st", "-o", "own.json", "--json")
    assert json.loads(own.stdout)["threat"]["knowledge"] == "white-box"  # with the names of the images


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("clip:demo",), 2, "'clip:demo' has no class names. Give --classes FILE, --names okapi,pagoda or --anchors FILE.st"),
        (("clip:demo", "--names", "a,,b"), 2, "--names 'a,,b' has an empty name"),
        (("clip:demo", "--classes", "names.txt", "--classes-from", "novel"), 3, "clip:demo has no novel classes"),
        (("clip:demo", "--classes", "names.txt", "--protocol", "gzsl"), 3, "clip:demo has no seen+novel classes"),
        (("ViT-B-32", "--classes", "names.txt"), 3, "'ViT-B-32' is neither a file nor a kind of model"),
        (("zoo_net:net", "--names", "a,b,c", "--resize", "8"), 3, "not in"),
        (("zoo_net:net", "--classes", "names.txt", "--protocol", "episodes", "--shots", "1"), 2, "without embeddings"),
    ],
)
def test_wrong_usage(here: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = inside(here, "eval", *arguments, "--data", "photos", *QUICK)
    assert (done.code, says in done.stderr) == (code, True), done.stderr
