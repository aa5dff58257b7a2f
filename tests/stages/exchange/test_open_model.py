"""A MODEL as a classifier: checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stages.errors import InputError, UsageError
from stages.exchange.model_request import ModelRequest, split_names
from stages.exchange.open_model import open_model, open_models, report_names
from stages.files import artifacts
from stages.models.checkpoint import checkpoint_of
from stages.models.embedding import EmbeddingModel
from tests.stages.models.test_checkpoint import anchors


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    net = EmbeddingModel("conv4-8", 5, 16, mean=(0.5,) * 3, std=(0.5,) * 3)
    made = checkpoint_of(net, anchors(width=5), {"settings": {"tau": 0.1}}, {}, image_size=16)
    (tmp_path / "run").mkdir()
    artifacts.write(made, tmp_path / "run/model.st")
    return tmp_path / "run/model.st"


def test_a_checkpoint_with_some_of_its_names(checkpoint: Path) -> None:
    whole = open_model(str(checkpoint), ModelRequest())
    assert (whole.name, whole.lineage["model"]["kind"]) == ("run", "model")
    two = whole.classifier.classes[1::-1]
    some = open_model(str(checkpoint), ModelRequest(names=two))
    assert some.classifier.classes == two
    assert some.lineage["anchors"]["sha256"] != whole.lineage["model"]["sha256"]
    assert some.classifier.groups.of("all") == (0, 1)


def test_a_checkpoint_lends_its_names_whatever_the_order(checkpoint: Path) -> None:
    clip, own = open_models(["clip:demo", str(checkpoint)])
    assert (clip.name, own.name) == ("clip:demo", "run")
    assert clip.classifier.classes == own.classifier.classes


def test_a_module_for_what_is_no_checkpoint() -> None:
    with pytest.raises(UsageError, match=r"^module means nothing for a CLIP model; leave it out"):
        open_model("clip:demo", ModelRequest(names=("a", "b")), module=torch.nn.Linear(2, 2))


def test_names(tmp_path: Path) -> None:
    assert split_names(" okapi, red  circle") == ("okapi", "red circle")
    with pytest.raises(UsageError, match="has an empty name"):
        split_names("okapi,,pagoda")
    with pytest.raises(InputError, match="--names has a class twice"):
        ModelRequest(names=("okapi", "Okapi")).read_names()
    with pytest.raises(UsageError, match="given twice, by --classes and by --anchors"):
        ModelRequest(classes="shapes", anchors=tmp_path)
    with pytest.raises(UsageError, match="--template cannot be combined with --anchors; leave it out"):
        ModelRequest(anchors=tmp_path, template=["a {}"])
    assert ModelRequest().read_names() is None


def test_names_in_reports(tmp_path: Path) -> None:
    assert report_names([str(tmp_path / "a/model.st"), "b.st"]) == ["a", "b"]
    assert report_names([str(tmp_path / "a/x.st"), str(tmp_path / "b/x.st")]) == ["a/x", "b/x"]
    assert report_names([str(tmp_path / "1/a/x.st"), str(tmp_path / "2/a/x.st")]) == ["1", "2"]
