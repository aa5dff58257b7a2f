from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from torch.nn import functional as F

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.encoder import load_encoder
from stages.anchors.expanded import expand_anchors
from stages.anchors.sources import text_anchors
from stages.classes import ClassGroups
from stages.errors import InputError, LaatError
from stages.exchange.export import export_classifier
from stages.exchange.export_options import ExportOptions
from stages.models.classifier import Classifier
from stages.models.embedding import EmbeddingModel
from tests.stages.anchors.encoders import tiny_folder
from tests.stages.exchange.test_export import images

NAMES = ("okapi", "pagoda", "abacus")


def zero_shot(folder: Path, *, trained: bool = True) -> Classifier:
    """The tiny CLIP with the anchors of its own text tower; its projection is another after a training."""
    encoder = load_encoder(f"local-dir:{folder}")
    anchors = text_anchors(NAMES, ClassGroups.from_counts(3, None), encoder, ["a {}", "two {}"])
    model = EmbeddingModel(f"clip:local-dir:{folder}", 5, 16, mean=(0,) * 3, std=(1,) * 3).eval()
    if trained:
        with torch.no_grad():
            model.projection.weight += 0.3 * torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    return Classifier(model, anchors, logit_scale=20, image_size=16).eval()


@pytest.mark.parametrize("trained", [False, True])
def test_open_clip_loads_the_folder_and_gives_the_same_logits(trained: bool, folder: Path, tmp_path: Path) -> None:
    made = zero_shot(folder, trained=trained)
    options = ExportOptions(text_tower=f"local-dir:{folder}")
    done = export_classifier(made, tmp_path / "clip", options, images(9))
    assert done.format == "open_clip"
    assert set(done.files) == {"anchors.st", "laat.json", "open_clip_config.json", "open_clip_model.safetensors"}
    net = open_clip.create_model(f"local-dir:{done.path}").eval()
    pixels = images(9).pixels
    with torch.no_grad():
        texts = [net.encode_text(open_clip.SimpleTokenizer(context_length=12)([f"{how} {name}" for name in NAMES]))
                 for how in ("a", "two")]  # fmt: skip
        anchors = F.normalize(sum(F.normalize(text, dim=1) for text in texts), dim=1)
        features = F.normalize(net.encode_image((pixels / 255 - 0.5) / 0.5), dim=1)
        torch.testing.assert_close(net.logit_scale.exp() * features @ anchors.T, made(pixels), rtol=0, atol=1e-4)


def with_anchors(made: Classifier, anchors: AnchorSet) -> Classifier:
    return Classifier(made.embedding, anchors, logit_scale=20, image_size=16)


def test_a_text_tower_that_is_not_that_of_the_anchors_is_refused(folder: Path, tmp_path: Path) -> None:
    made = zero_shot(folder)
    other = tiny_folder(tmp_path / "other")
    weights = other / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    expanded = with_anchors(made, expand_anchors(made.anchor_set)[0])
    imported = with_anchors(made, replace(made.anchor_set, origin={"source": "features"}))
    here = f"local-dir:{folder}"
    cases: list[tuple[Classifier, str | None, str]] = [
        (made, None, r"was given as 'tiny'.*--text-tower local-dir:PATH"),
        (made, f"local-dir:{other}", "other weights than the encoder of the anchors"),
        (expanded, here, "expanded anchors.*--format torch"),
        (imported, here, "come from features"),
    ]
    for classifier, tower, says in cases:
        with pytest.raises(LaatError, match=says) as error:
            export_classifier(classifier, tmp_path / "clip", ExportOptions(text_tower=tower), images(2))
        assert isinstance(error.value, InputError)
    assert [entry.name for entry in tmp_path.iterdir()] == ["other"]
