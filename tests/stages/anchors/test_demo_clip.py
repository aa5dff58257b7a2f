"""The tiny CLIP that ships with the package, and what it was shown."""

from __future__ import annotations

import hashlib
import runpy
from importlib.resources import files
from pathlib import Path

import open_clip
import pytest
import torch

from stages.anchors.encoder import load_encoder
from stages.data.shapes import COLOURS, SEEN, SHAPES, render_split, shape_classes
from stages.randomness import numpy_generator

FOLDER = Path(str(files("stages.anchors") / "demo_clip"))
SCRIPT = Path(__file__).parents[3] / "examples" / "demo_clip" / "train_demo_clip.py"
GOLDEN = "2e0de6cdc24894b073c1a9fc8b749f344a66b628830a02dcd5089dfe6925265e"


@pytest.fixture(scope="module")
def model() -> open_clip.CLIP:
    return open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")[0].eval()


@pytest.fixture(scope="module")
def text(model: open_clip.CLIP) -> torch.Tensor:
    tokens = open_clip.get_tokenizer(f"local-dir:{FOLDER}")([f"This is a photo of a {name}" for name in shape_classes()])
    with torch.no_grad():
        return model.encode_text(tokens, normalize=True)


def test_the_weights_are_those_of_the_readme() -> None:
    digest = hashlib.sha256((FOLDER / "open_clip_model.safetensors").read_bytes()).hexdigest()
    assert digest == GOLDEN
    assert GOLDEN in (SCRIPT.parent / "README.md").read_text(encoding="utf-8")


def test_the_encoder_is_open_clip_bit_for_bit(model: open_clip.CLIP) -> None:
    names = [*shape_classes(), "", "x" * 300, "Crème brûlée, #1 — 日本 ½ &amp; 🍎", "<end_of_text> it's"]
    encoder, tokens = load_encoder("demo"), open_clip.get_tokenizer(f"local-dir:{FOLDER}")(names)
    assert torch.equal(encoder.tokenize(names), tokens)
    with torch.no_grad():
        assert torch.equal(encoder.encode(tokens), model.encode_text(tokens))
    assert encoder.record["weights_sha256"] == GOLDEN


def test_the_text_features_crowd_into_a_cone_as_those_of_clip_do(text: torch.Tensor) -> None:
    cosines = (text @ text.T)[~torch.eye(len(text), dtype=torch.bool)]
    assert 0.6 < cosines.mean() < 0.8
    assert cosines.max() < 0.98


def test_a_novel_pair_lies_next_to_a_pair_with_its_colour_or_shape(text: torch.Tensor) -> None:
    nearest = (text @ text.T - 2 * torch.eye(len(text))).argmax(1).tolist()
    for index, name in list(enumerate(shape_classes()))[SEEN:]:
        assert set(name.split()) & set(shape_classes()[nearest[index]].split()), name


def test_images_find_their_texts(model: open_clip.CLIP, text: torch.Tensor) -> None:
    images, labels = render_split("test", seed=1, per_class=2)
    with torch.no_grad():
        features = model.encode_image((torch.from_numpy(images).float() / 255 - 0.5) / 0.2, normalize=True)
    assert ((features @ text.T).argmax(1) == torch.from_numpy(labels)).float().mean() > 0.9


def test_no_novel_pair_is_ever_shown() -> None:
    script = runpy.run_path(str(SCRIPT))
    generator = numpy_generator(0, "test")
    captions = [caption for _ in range(20) for caption in script["draw_batch"](generator)[1]]
    for name in shape_classes()[SEEN:]:
        colour, shape = name.split()
        assert not any({colour, shape} <= set(caption.rstrip(".").split()) for caption in captions)
    shown = " ".join(captions).split()
    assert set(COLOURS) | set(SHAPES) <= {word.rstrip(".") for word in shown}
