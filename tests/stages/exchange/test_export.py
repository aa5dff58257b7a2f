from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from stages.anchors.anchor_set import AnchorSet
from stages.classes import ClassGroups
from stages.errors import ComputeError, InputError, LaatError, MissingError, UsageError
from stages.exchange import export_options
from stages.exchange.export import Exported, export, export_classifier
from stages.exchange.export_check import TOLERANCE_OF_COSINE, Images, compare
from stages.exchange.export_options import ExportOptions
from stages.files import artifacts
from stages.files.artifact_params import BiasFit, Calibration, SeenUnseenShares
from stages.models.classifier import Classifier
from stages.models.embedding import EmbeddingModel
from tests.stages.models.test_checkpoint import checkpoint
from tests.where import ROOT


def images(count: int = 70, size: int = 16) -> Images:
    draw = torch.Generator().manual_seed(0)
    return Images(torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=draw), "noise")


def calibrated() -> Classifier:
    shares = SeenUnseenShares(S=0.5, U=0.5, H=0.5)
    fit = BiasFit(seen_images=1, seen_classes=1, images=1, classes=1, before=shares, after=shares)
    found = Calibration(
        temperature=0.3, source="x", images=1, classes=2, ece_before=0.2, ece_after=0.1, bias=0.05, bias_fit=fit
    )
    made = checkpoint().eval()
    made.calibration = found
    return made


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """conv4-8 as ONNX."""
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    return export_classifier(calibrated(), path, ExportOptions(), images())


@pytest.fixture(scope="module")
def session(exported: Exported) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])


def test_onnx_gives_the_logits_for_any_number_of_images_and_anchors(session: onnxruntime.InferenceSession) -> None:
    made, pixels = calibrated(), images().pixels
    for count, heads in ((1, 5), (3, 1), (70, 9)):
        anchors = nn.functional.normalize(torch.randn(heads, 6, generator=torch.Generator().manual_seed(heads)), dim=1)
        given = {"images": pixels[:count].numpy(), "anchors": anchors.numpy()}
        logits, embeddings = session.run(["logits", "embeddings"], given)
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), made.over(anchors)(pixels[:count]), rtol=0, atol=1e-5)
            torch.testing.assert_close(torch.from_numpy(embeddings), made.embed(pixels[:count]), rtol=0, atol=1e-5)
    shapes = {one.name: (one.type, one.shape) for one in (*session.get_inputs(), *session.get_outputs())}
    assert shapes["images"] == ("tensor(uint8)", ["batch", 3, 16, 16])
    assert shapes["anchors"] == ("tensor(float)", ["classes", 6])
    assert shapes["logits"] == ("tensor(float)", ["batch", "classes"])


def test_metadata_and_anchors_are_all_that_a_confidence_needs(
    exported: Exported, session: onnxruntime.InferenceSession
) -> None:
    record = json.loads(session.get_modelmeta().custom_metadata_map["laat"])
    assert record == exported.record
    written = artifacts.read(exported.path.with_name(record["anchors"]["file"]), "anchors")
    assert written.sha256 == record["anchors"]["sha256"]
    assert list(written.params["classes"]) == record["classes"]
    made, pixels = calibrated(), images().pixels[:4]
    logits = session.run(["logits"], {"images": pixels.numpy(), "anchors": written.tensors["vectors"]})[0]
    seen = np.isin(range(len(record["classes"])), record["groups"]["seen"])
    sure = record["confidence"]
    values = torch.from_numpy((logits - record["logit_scale"] * sure["seen_bias"] * seen) / sure["temperature"])
    with torch.no_grad():
        expected = made.probabilities(made(pixels))
    torch.testing.assert_close(values.softmax(1).float(), expected, rtol=0, atol=1e-5)


def test_the_onnx_file_states_its_opset_and_has_no_path_of_this_machine(exported: Exported, tmp_path: Path) -> None:
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", exported.record["opset"])]
    data = exported.path.read_bytes()
    assert str(ROOT).encode() not in data
    assert b"site-packages" not in data
    again = export_classifier(calibrated(), tmp_path / "model.onnx", ExportOptions(), images(3))
    assert again.path.read_bytes() == data


def test_pt2_takes_pixels_as_floats(tmp_path: Path) -> None:
    artifacts.write(checkpoint().anchor_set.to_artifact(), tmp_path / "model.anchors.st")  # of another export
    done = export_classifier(checkpoint(), tmp_path / "model.pt2", ExportOptions(pixels="float"), images())
    extra = {"laat.json": ""}
    program = torch.export.load(done.path, extra_files=extra)
    assert json.loads(extra["laat.json"])["images"] == {**done.record["images"], "dtype": "float32", "range": [0, 1]}
    made, pixels = checkpoint().eval(), images().pixels[:7]
    with torch.no_grad():
        logits, _ = program.module()(pixels / 255, made.anchors[:4])
        torch.testing.assert_close(logits, made.over(made.anchors[:4])(pixels), rtol=0, atol=1e-5)
    assert {file.name for file in tmp_path.iterdir()} == {"model.pt2", "model.anchors.st"} == set(done.files)


@pytest.mark.parametrize(("backbone", "name"), [("resnet12", "model.pt2"), ("timm:test_vit", "model.onnx")])
def test_other_backbones(backbone: str, name: str, tmp_path: Path) -> None:
    size = 32
    model = EmbeddingModel(backbone, 6, size, mean=(0.5,) * 3, std=(0.2,) * 3).eval()
    made = Classifier(model, torch.eye(4, 6), logit_scale=100, image_size=size)
    done = export_classifier(made, tmp_path / name, ExportOptions(), images(6, size))
    assert done.comparison.largest <= done.comparison.tolerance == 100 * TOLERANCE_OF_COSINE
    assert done.comparison.same == done.comparison.decided > 3


class Logits(nn.Module):
    """Logits of three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 3]]))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) @ self.weight


def closed(module: nn.Module | None = None) -> Classifier:
    names, groups = ("a", "b", "c"), ClassGroups.from_counts(3, None)
    anchors = AnchorSet(np.eye(3, dtype=np.float32), names, groups, {"source": "given"})
    return Classifier(module or Logits(), anchors, closed=True).eval()


def test_a_closed_set_of_classes_has_no_anchors(tmp_path: Path) -> None:
    done = export_classifier(closed().over(["c", "a"]), tmp_path / "model.onnx", ExportOptions(), images(9))
    run = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    assert [one.name for one in run.get_inputs()] == ["images"]
    assert done.record["classes"] == ["c", "a"]
    assert done.record["anchors"] is None
    white = np.full((1, 3, 16, 16), 255, np.uint8)
    np.testing.assert_allclose(run.run(None, {"images": white})[0], [[3.0, 1.0]], atol=1e-5)
    assert set(done.files) == {"model.onnx"}


def test_weights_and_configuration_in_a_folder(tmp_path: Path) -> None:
    done = export(checkpoint(), tmp_path / "out", data="shapes")
    assert done.format == "torch"
    assert done.comparison.source == "shapes"
    assert done.comparison.images == 200
    record = json.loads((done.path / "config.json").read_text())
    assert record["architecture"]["backbone"] == "conv4-8"
    np.testing.assert_allclose(record["architecture"]["mean"], (0.5, 0.4, 0.3), rtol=1e-6)


class Flattening(Logits):
    """Takes its images apart with `view`, which needs them contiguous."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1).unflatten(1, (3, -1)).mean(2) @ self.weight


@pytest.mark.parametrize(
    ("name", "pixels"), [("folder", "uint8"), ("model.onnx", "uint8"), ("model.pt2", "uint8"), ("model.pt2", "float")]
)
def test_own_modules_get_contiguous_images(name: str, pixels: str, tmp_path: Path) -> None:
    decoded = Images(images(3).pixels.contiguous(memory_format=torch.channels_last), "noise")
    done = export_classifier(closed(Flattening()), tmp_path / name, ExportOptions(pixels=pixels), decoded)
    assert done.comparison.same == done.comparison.decided


class Noisy(Logits):
    """Draws random numbers in eval mode, too."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.01 * torch.randn(len(x), 3)


class Choosing(Logits):
    """Depends on values in a way that cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else -super().forward(x)


@pytest.mark.parametrize(
    ("module", "name", "error", "says"),
    [
        (Noisy(), "folder", UsageError, "randomised .* a file cannot be compared with it"),
        (Choosing(), "model.onnx", InputError, "cannot trace the model"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(
    module: nn.Module, name: str, error: type[LaatError], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        export_classifier(closed(module), tmp_path / name, ExportOptions(), images(5))
    assert not list(tmp_path.iterdir())


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(export_options, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(MissingError, match=r"needs onnxscript; pip install 'laat\[export\]'"):
        export_classifier(checkpoint(), tmp_path / "model.onnx", ExportOptions(), images(5))
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "model.anchors.st").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_text("mine")
    for name, options, says in (
        ("model.onnx", ExportOptions(), r"model.anchors.st' exists"),
        ("model.pt", ExportOptions(), r"no export format has files that end in '.pt'"),
        ("model.pt2", ExportOptions(format="onnx"), r"--format is onnx, and .* ends in '.pt2'"),
        ("model.onnx", ExportOptions(format="torch"), r"--format is torch, and .* ends in '.onnx'"),
        ("folder", ExportOptions(), "is not empty"),
        ("folder", ExportOptions(force=True), r"a file that is not of an export: 'notes.txt'"),
        ("new", ExportOptions(pixels="float"), "--pixels has no effect"),
        ("new", ExportOptions(format="torch", text_tower="x"), "--text-tower has no effect"),
        ("new", ExportOptions(format="open_clip"), "only a clip: image tower"),
    ):
        with pytest.raises(UsageError, match=says):
            export_classifier(checkpoint(), tmp_path / name, options, images(2))
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["folder", "model.anchors.st", "notes.txt"]


def test_another_format_replaces_all_files_of_an_earlier_one(tmp_path: Path) -> None:
    for name in ("open_clip_config.json", "open_clip_model.safetensors", "config.json"):
        (tmp_path / name).write_text("old")
    done = export_classifier(checkpoint(), tmp_path, ExportOptions(format="torch", force=True), images(2))
    assert {file.name for file in tmp_path.iterdir()} == set(done.files) == {"anchors.st", "config.json", "model.safetensors"}


def shifted(made: Classifier, by: Tensor, tolerance: float | None = None) -> float:
    """The largest difference that `compare` finds where an exported model gives the logits of the classifier `by` more."""

    def run(pixels: Tensor, anchors: Tensor) -> Tensor:
        with torch.no_grad():
            return made.over(anchors)(pixels) + by[: len(anchors)]

    return compare(made, run, images(5), "a runtime", tolerance=tolerance).largest


def test_the_comparison_refuses_what_differs() -> None:
    made = closed()
    assert shifted(made, torch.tensor([0, 5e-5, 0])) == pytest.approx(5e-5, rel=0.01)
    assert shifted(made, torch.tensor([0, 2e-4, 0]), tolerance=1e-3) == pytest.approx(2e-4, rel=0.01)
    for wrong in (torch.tensor([0, 2e-4, 0]), torch.tensor([float("nan"), 0, 0])):
        with pytest.raises(ComputeError, match="gives other logits than the model, and nothing was written"):
            shifted(made, wrong)


def test_classes_that_rounding_could_swap_are_left_out_and_counted() -> None:
    made = closed()
    with torch.no_grad():
        made.embedding.weight.copy_(torch.ones(3, 3))  # type: ignore[union-attr, operator]
    found = compare(made, lambda pixels, anchors: made(pixels).detach() + torch.tensor([0, 0, 1e-6]), images(5), "a runtime")
    assert (found.same, found.decided, found.undecided) == (0, 0, 5)
    assert replace(found, undecided=2).decided == 3
