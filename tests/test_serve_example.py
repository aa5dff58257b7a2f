"""examples/serve: the running service and the plain script answer as the classifier does, also for a class that is added."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from stages.anchors.encoder import load_encoder
from stages.anchors.expanded import expand_anchors
from stages.anchors.sources import text_anchors
from stages.classes import ClassGroups
from stages.data.decoding.rgb import decode
from stages.data.request import DecodeOptions
from stages.exchange.export import export_classifier
from stages.exchange.export_options import ExportOptions
from stages.models.classifier import Classifier
from stages.models.embedding import EmbeddingModel
from tests.laatcli.shell import environment
from tests.stages.exchange.test_export import calibrated, images
from tests.where import ROOT

SERVE = ROOT / "examples/serve"
NAMES = ("red star", "blue ring", "green heart")


def classifier() -> Classifier:
    """Untrained, over expanded anchors of the bundled encoder, the first two classes seen, with a temperature and a bias."""
    raw = text_anchors(NAMES, ClassGroups.from_counts(3, 2), load_encoder("demo"), ["a {}"])
    model = EmbeddingModel("conv4-8", 64, 16, mean=(0.5,) * 3, std=(0.2,) * 3)
    return Classifier(model, expand_anchors(raw)[0], logit_scale=5, image_size=16, calibration=calibrated().calibration).eval()


def expected(made: Classifier, pixels: np.ndarray) -> dict[str, float]:
    """The confidences of an image uint8 (16, 16, 3)."""
    with torch.no_grad():
        shares = made.probabilities(made(torch.from_numpy(pixels).permute(2, 0, 1)[None]))[0]
    return dict(zip(made.classes, shares.tolist(), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx, its anchors, and a picture of the model's size."""
    made = tmp_path_factory.mktemp("serve") / "here"
    made.mkdir()
    export_classifier(classifier(), made / "model.onnx", ExportOptions(), images(3))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(made / "picture.png")
    return made


@contextmanager
def serving(folder: Path) -> Iterator[httpx.Client]:
    """The service on a free port, stopped at the end."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(SERVE), "serve:app", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environment(home), stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            said = []
            for line in server.stderr:
                said.append(line)
                if found := re.search(r"running on (http://[0-9.:]+)", line):
                    break
            else:
                pytest.fail("".join(said))
            with httpx.Client(base_url=found[1], timeout=120, trust_env=False) as client:
                yield client
        finally:
            server.terminate()


def test_the_service_classifies_and_learns_a_name_while_it_runs(folder: Path) -> None:
    made, picture = classifier(), (folder / "picture.png").read_bytes()
    pixels = np.array(Image.open(folder / "picture.png"))
    with serving(folder) as client:

        def answers() -> dict[str, float]:
            found = client.post("/predict?top=9", files={"file": picture}).raise_for_status().json()
            assert [one["confidence"] for one in found] == sorted((one["confidence"] for one in found), reverse=True)
            return {one["class"]: one["confidence"] for one in found}

        assert answers() == pytest.approx(expected(made, pixels), abs=1e-4)
        added = client.put("/classes/cyan cross, large")
        assert added.status_code == 200, added.text
        assert added.json() == client.get("/classes").json() == [*NAMES, "cyan cross, large"]
        assert answers() == pytest.approx(expected(made.over([*NAMES, "cyan cross, large"]), pixels), abs=1e-4)
        assert client.put("/classes/Red%20Star").status_code == 409
        refused = client.put(f"/classes/{'long ' * 50}")
        assert (refused.status_code, "longer than the 32 tokens" in refused.json()["detail"]) == (422, True)
        broken = client.post("/predict", files={"file": b"no picture"})
        assert (broken.status_code, broken.json()["detail"]) == (422, "the file is not a picture that can be read")
        empty = client.put("/classes/%20")
        assert (empty.status_code, empty.json()["detail"]) == (422, "the name is empty")
        assert client.put("/classes/cyan cross%2C LARGE").status_code == 409
        refused = client.put(f"/classes/{'long%2F' * 50}")
        assert (refused.status_code, "/tmp" in refused.text) == (422, False)
        assert client.get("/classes").json() == [*NAMES, "cyan cross, large"]


def test_the_plain_script_prints_the_class_and_its_confidence(folder: Path) -> None:
    (folder / "cut.png").write_bytes(b"\x89PNG")
    command = [sys.executable, str(SERVE / "predict.py"), "model.onnx", "cut.png", "picture.png"]
    done = subprocess.run(command, cwd=folder, env={**os.environ}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    shares = expected(classifier(), np.array(Image.open(folder / "picture.png")))
    name = max(shares, key=shares.__getitem__)
    assert done.stdout == f"picture.png\t{name}\t{shares[name]:.3f}\n"


def pictures(folder: Path) -> list[Path]:
    """Pictures of all kinds, 40x30."""
    grey = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
    colours = Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    palette = colours.quantize(16)
    alpha = colours.convert("RGBA")
    alpha.putalpha(Image.fromarray(grey))
    deep = Image.fromarray(grey.astype(np.uint16) * 250 + 3)
    kinds = {
        "grey.png": Image.fromarray(grey),
        "one.png": Image.fromarray(grey).convert("1"),
        "palette.png": palette,
        "alpha.png": alpha,
        "grey_alpha.png": alpha.convert("LA"),
        "cmyk.jpg": colours.convert("CMYK"),
        "16.png": deep,
        "16.tif": deep,
        "16.pgm": deep,
    }
    for name, image in kinds.items():
        image.save(folder / name)
    palette.save(folder / "hole.png", transparency=3)
    palette.save(folder / "hole.gif", transparency=3)
    exif = Image.Exif()
    exif[274] = 6
    colours.save(folder / "turned.jpg", exif=exif)
    deep.save(folder / "16_turned.png", exif=exif)
    return [folder / name for name in (*kinds, "hole.png", "hole.gif", "turned.jpg", "16_turned.png")]


def test_the_script_reads_pictures_as_laat_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SERVE)
    script = importlib.import_module("predict")
    for path in pictures(tmp_path):
        expected = decode(path.read_bytes(), DecodeOptions(16), nullcontext()).pixels
        assert np.array_equal(script.read_image(path, 16).transpose(1, 2, 0), expected), path.name
    Image.fromarray(np.ones((30, 40), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match="does not say which value is white"):
        script.read_image(tmp_path / "float.tif", 16)


def test_the_scripts_stay_short_and_import_no_torch() -> None:
    for script, most in (("serve.py", 60), ("predict.py", 85)):
        text = (SERVE / script).read_text(encoding="utf-8")
        assert len(text.splitlines()) <= most
        assert not re.search(r"^\s*(import|from) (torch|stages)", text, flags=re.MULTILINE)
