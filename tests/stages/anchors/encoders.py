"""Small text encoders: one whose features can be worked out by hand, and a tiny CLIP in open_clip's own format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor

from stages.anchors.encoder import TextEncoder

WIDTH = 6


class Letters:
    """Tokenizer: a token a letter between start (300) and end (301), then padding; longer texts are cut, the end is kept."""

    def __init__(self, context: int, padding: int = 0) -> None:
        self.context_length, self.padding = context, padding

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        size = context_length or self.context_length
        rows = [[300, *text.encode(), 301] for text in texts]
        cut = [row if len(row) <= size else [*row[: size - 1], 301] for row in rows]
        return torch.tensor([row + [self.padding] * (size - len(row)) for row in cut])


NAMED = "laat-test-tiny"  # as open_clip knows the tiny CLIP where the fixture `named` is used


def feature(text: str) -> Tensor:
    """What the stand-in encoder gives for `text`: how often letters of each residue class occur, and a shared offset."""
    counts = torch.full((WIDTH,), 2.0)
    for letter in text.encode():
        counts[letter % WIDTH] += 1
    return counts


def letters_encoder(context: int = 77, padding: int = 0) -> TextEncoder:
    """A stand-in encoder over `feature`."""

    def encode(tokens: Tensor) -> Tensor:
        letters = [bytes(token for token in row if token < 256 and token != padding) for row in tokens.tolist()]
        return torch.stack([feature(text.decode()) for text in letters])

    record = {"model": "letters", "pretrained": "none", "weights_sha256": "0" * 64, "config_sha256": "1" * 64}
    return TextEncoder(encode, Letters(context, padding), context, {**record, "activation": "GELU"})


def tiny_config(quick_gelu: bool = False) -> dict[str, Any]:
    """An open_clip model_cfg with some 400,000 parameters, nearly all of them the token embedding."""
    vision = {"image_size": 16, "layers": 1, "width": 8, "head_width": 4, "patch_size": 8}
    text = {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
    return {"embed_dim": 5, "quick_gelu": quick_gelu, "vision_cfg": vision, "text_cfg": text}


def tiny_weights(path: Path, quick_gelu: bool = False) -> Path:
    """Random weights of the tiny CLIP."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = CLIP(**tiny_config(quick_gelu))
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path)
    return path


def tiny_folder(folder: Path, quick_gelu: bool = False, weights: str = "open_clip_model.safetensors") -> Path:
    """A model folder that `local-dir:` takes."""
    folder.mkdir(parents=True)
    unit = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    config = {"model_cfg": tiny_config(quick_gelu), "preprocess_cfg": unit}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    tiny_weights(folder / weights, quick_gelu)
    return folder
