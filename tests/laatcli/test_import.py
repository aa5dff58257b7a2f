"""`laat import`, as a user types it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.exchange import foreign_file
from stages.files import artifacts
from tests.laatcli.inside import inside
from tests.stages.exchange.published import Conv4, convert_here, save_laat, trained_like
from tests.stages.models.test_checkpoint import anchors


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(foreign_file.subprocess, "run", convert_here)
    artifacts.write(anchors(width=6).to_artifact(), tmp_path / "anchors.st")
    save_laat(trained_like(nn.Sequential(Conv4(8), nn.Linear(8, 6, bias=False))), tmp_path / "model_best.pt")
    return tmp_path


def test_what_was_read_folded_and_ignored_is_said(here: Path) -> None:
    done = inside(here, "import", "model_best.pt", "--as", "laat", "--anchors", "anchors.st")
    assert done.code == 0, done
    first, *rest = done.stdout.splitlines()
    assert first == "model.st: conv4-8 at 32 px with 5 classes, 29 tensors of model_best.pt, 0.00 million parameters"
    said = "\n".join(rest)
    for line in (
        "names and shapes are those of conv4-8",
        "4 biases of convolutions folded into the running means",
        "normalized as the published program normalizes cifar-fs; --normalization names another",
        "logits are cosines / tau, tau 1",
        "the groups are those of the anchors: 3 seen, 0 val, 2 novel",
        "second names of the same layers (28 entries)",
        "objective and threat model are unknown",
    ):
        assert line in said
    shown = inside(here, "inspect", "model.st")
    for text in ("imported from model_best.pt", "its training is unknown", "training.imported.layout"):
        assert text in shown.stdout
    result = json.loads(inside(here, "import", "model_best.pt", "--as", "laat", "--anchors", "anchors.st", "--json").stdout)
    assert (result["architecture"], result["imported"]["file"]) == ("conv4-8", "model_best.pt")
    assert result["sha256"] == artifacts.read(here / "model.st").sha256


def test_a_refused_file_leaves_the_output_alone(here: Path) -> None:
    (here / "model.st").write_bytes(b"the only copy")
    torch.save({"state_dict": {"visual.proj": torch.ones(1)}}, here / "other.pt")
    for arguments, code, says in (
        (("other.pt", "--as", "laat", "--anchors", "anchors.st"), 3, "It looks like --as open_clip"),
        (("model_best.pt", "--anchors", "anchors.st"), 2, "Say what it is: --as laat, tecoa, fare, open_clip"),
        (("model_best.pt", "--as", "laat", "--anchors", "anchors.st", "-o", "anchors.st"), 2, "would replace 'anchors.st'"),
        (
            ("model_best.pt", "--as", "laat", "--anchors", "anchors.st", "--backbone", "a:b"),
            2,
            "`laat import --help` shows the options",
        ),
    ):
        done = inside(here, "import", *arguments, "--force")
        assert (done.code, done.stdout) == (code, "")
        assert says in done.stderr.splitlines()[-1]
    assert (here / "model.st").read_bytes() == b"the only copy"


def test_an_output_of_something_else_is_replaced_on_demand_alone(here: Path) -> None:
    line = ("import", "model_best.pt", "--as", "laat", "--anchors", "anchors.st")
    (here / "model.st").write_bytes(b"the only copy")
    done = inside(here, *line)
    assert (done.code, (here / "model.st").read_bytes()) == (3, b"the only copy")
    assert "--force" in done.stderr
    done = inside(here, *line, "--force")
    assert (done.code, "up to date" in done.stdout) == (0, False), done
    before = (here / "model.st").read_bytes()
    done = inside(here, *line)
    assert (done.code, "model.st is up to date: same file and parameters" in done.stdout) == (0, True), done
    older = artifacts.to_bytes(replace(artifacts.read(here / "model.st"), tool="0.0.1"))
    (here / "model.st").write_bytes(older)
    done = inside(here, *line)
    assert (done.code, "is up to date" in done.stdout, (here / "model.st").read_bytes() == older) == (0, True, True), done
    (here / "model.st").write_bytes(before)
    done = inside(here, *line, "--tau", "0.5")
    assert (done.code, (here / "model.st").read_bytes()) == (2, before)
    assert "'model.st' is an import of another file or with other parameters" in done.stderr
    (here / "other.st").write_bytes((here / "anchors.st").read_bytes())
    done = inside(here, *line, "-o", "other.st")
    assert (done.code, "'other.st' is not an import" in done.stderr) == (2, True), done


def test_the_help_is_that_of_an_import(here: Path) -> None:
    said = " ".join(inside(here, "import", "--help").stdout.replace("│", " ").split())
    assert "recognized from the shapes, except with --as open_clip" in said
    assert "timm:" not in said
    assert "A checkpoint encodes" not in said


def test_the_layout_can_be_set_in_a_file(here: Path) -> None:
    (here / "laat.toml").write_text('[import]\nas = "laat"\nanchors = "anchors.st"\n')
    assert inside(here, "import", "model_best.pt").code == 0


def test_an_evaluation_says_that_the_training_is_unknown(here: Path) -> None:
    torch.save(torch.load(here / "model_best.pt", weights_only=True)["model_state_dict"], here / "plain.pt")
    options = ("--architecture", "clip:demo", "--names", "red circle,blue star", "-o", "clip.st")
    done = inside(here, "import", "plain.pt", "--as", "fare", *options)
    assert done.code == 3
    folder = Path(artifacts.__file__).parents[1] / "anchors/demo_clip/open_clip_model.safetensors"
    done = inside(here, "import", folder, "--as", "open_clip", *options)
    assert "whether it was trained on these classes is unknown" in done.stdout
    done = inside(here, "eval", "clip.st", "--data", "shapes", "--max-images", 8, "--attack", "fgsm", "--no-checks")
    assert done.code == 0, done
    assert "whether these classes or images were trained on is unknown" in done.stdout
