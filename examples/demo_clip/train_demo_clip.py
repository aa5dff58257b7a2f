"""Train the tiny CLIP that ships with laat as `--model demo`, on images of shapes and their captions.

    python examples/demo_clip/train_demo_clip.py --out demo_clip

It writes a folder in open_clip's format (open_clip_config.json, open_clip_model.safetensors), which open_clip loads as
`local-dir:demo_clip`. The 16 novel pairs of the shapes data appear neither as images nor in captions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch.nn import functional as F

from stages.data.shapes import COLOURS, SEEN, SHAPES, SIZE, render, render_split, shape_classes
from stages.randomness import derive_seed, numpy_generator

LAAT_TEMPLATE = "This is a photo of a {}"  # Li et al., CVPR 2024
TEMPLATES = (
    LAAT_TEMPLATE, "This is a photo of a {}.", "a photo of a {}", "a photo of the {}.", "a picture of a {}", "an image of a {}",
    "a drawing of a {}", "there is a {} here", "a large {}", "one {} on grey ground", "a {}", "{}",
)  # fmt: skip
PATTERNS = ("field", "stripes", "checkerboard", "noise", "gradient", "spots")
"""Subjects other than shapes, each in every colour."""

CONFIG = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": SIZE, "layers": 3, "width": 64, "head_width": 32, "patch_size": 4, "mlp_ratio": 2.0},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2, "mlp_ratio": 2.0},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "interpolation": "bicubic", "resize_mode": "shortest"},
}
_INK = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1], [0, 0, 0]]) * 2.0 - 1.0


def pattern_images(generator: np.random.Generator) -> NDArray[np.uint8]:
    """One image per colour and pattern, ordered by colour, then pattern: (48, 3, 32, 32) uint8."""
    row, column = np.mgrid[:SIZE, :SIZE]
    images = []
    for ink in _INK:
        for pattern in PATTERNS:
            period = 4 + int(4 * generator.random())
            shift = int(8 * generator.random())
            across, along = (row, column) if generator.random() < 0.5 else (column, row)
            marks = {
                "field": np.ones((SIZE, SIZE)),
                "stripes": (across + shift) // period % 2,
                "checkerboard": ((across + shift) // period + (along + shift) // period) % 2,
                "noise": generator.random((SIZE, SIZE)),
                "gradient": across / (SIZE - 1),
                "spots": ((across + shift) % 8 < 3) * ((along + shift) % 8 < 3),
            }[pattern]
            strength = 30.0 + 20.0 * generator.random()
            base = 127.5 + 10.0 * (2.0 * generator.random((3, 1, 1)) - 1.0)
            grain = 6.0 * (2.0 * generator.random((1, SIZE, SIZE)) - 1.0)
            images.append(base + strength * ink[:, None, None] * marks + grain)
    return np.clip(np.rint(np.stack(images)), 0, 255).astype(np.uint8)


def subjects() -> list[str]:
    """The subjects of the captions: the 48 seen pairs, then the 48 coloured patterns. No novel pair."""
    patterns = [f"{colour} {pattern}" for colour in COLOURS for pattern in PATTERNS]
    return [*shape_classes()[:SEEN], *patterns]


def draw_batch(generator: np.random.Generator) -> tuple[NDArray[np.uint8], list[str]]:
    """One image and one caption per subject, so that no two captions of a batch have the same meaning."""
    pairs = [name.split() for name in shape_classes()[:SEEN]]
    colours = np.array([COLOURS.index(colour) for colour, _ in pairs])
    shapes = np.array([SHAPES.index(shape) for _, shape in pairs])
    images = np.concatenate([render(colours, shapes, generator), pattern_images(generator)])
    choice = (generator.random(len(images)) * len(TEMPLATES)).astype(int)
    return images, [TEMPLATES[which].format(name) for which, name in zip(choice, subjects(), strict=True)]


def build(seed: int) -> open_clip.CLIP:
    """An untrained CLIP. Word vectors start at +-0.02, so that untrained ones are distinct and compress well."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "demo_clip/weights"))
        model = open_clip.CLIP(**CONFIG["model_cfg"])
        with torch.no_grad():
            words = model.token_embedding.weight
            words.copy_(0.02 * (2.0 * torch.randint(0, 2, words.shape) - 1.0))
    return model


def to_input(images: NDArray[np.uint8]) -> torch.Tensor:
    """Pixels normalised as in CONFIG: (N, 3, 32, 32) uint8 -> (N, 3, 32, 32) float32."""
    return (torch.from_numpy(images).float() / 255 - 0.5) / 0.2


def train(model: open_clip.CLIP, steps: int, lr: float, scale: float, seed: int) -> None:
    """Train with the symmetric contrastive loss; the logit scale is fixed at `scale`."""
    tokenize = open_clip.SimpleTokenizer(context_length=model.context_length)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(scale))
    model.logit_scale.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1, cycle_momentum=False)
    generator = numpy_generator(seed, "demo_clip/batches")
    started = time.monotonic()
    for step in range(1, steps + 1):
        images, captions = draw_batch(generator)
        image, text, logit_scale = model(to_input(images), tokenize(captions))
        logits = logit_scale * image @ text.T
        target = torch.arange(len(logits))
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            hits = (logits.argmax(1) == target).float().mean()
            print(f"step {step}/{steps}  loss {loss:.3f}  matched {hits:.1%}  {time.monotonic() - started:.0f} s", flush=True)


@torch.no_grad()
def anchors(model: open_clip.CLIP) -> torch.Tensor:
    """Unit text features of all classes, seen and novel: (64, 64)."""
    tokenize = open_clip.SimpleTokenizer(context_length=model.context_length)
    return model.encode_text(tokenize([LAAT_TEMPLATE.format(name) for name in shape_classes()]), normalize=True)


@torch.no_grad()
def measure(model: open_clip.CLIP) -> dict[str, float]:
    """Cosines and zero-shot accuracies of the trained encoder, by name."""
    model.eval()
    text = anchors(model)
    cosines = text @ text.T
    pairs = cosines[~torch.eye(len(text), dtype=torch.bool)]
    names = [name.split() for name in shape_classes()]
    nearest = cosines.masked_fill(torch.eye(len(text), dtype=torch.bool), -1.0).argmax(1).tolist()
    related = [set(names[i]) & set(names[nearest[i]]) != set() for i in range(SEEN, len(names))]
    images, labels = render_split("test")
    features = model.encode_image(to_input(images), normalize=True)
    target = torch.from_numpy(labels)
    seen = target < SEEN
    return {
        "mean pairwise cosine": pairs.mean().item(),
        "min pairwise cosine": pairs.min().item(),
        "max pairwise cosine": pairs.max().item(),
        "novel anchors whose nearest neighbour shares a word": float(np.mean(related)),
        "zero-shot accuracy, 48 seen": ((features[seen] @ text[:SEEN].T).argmax(1) == target[seen]).float().mean().item(),
        "zero-shot accuracy, 16 novel": ((features[~seen] @ text[SEEN:].T).argmax(1) == target[~seen] - SEEN)
        .float()
        .mean()
        .item(),
        "zero-shot accuracy, novel among all 64": ((features[~seen] @ text.T).argmax(1) == target[~seen]).float().mean().item(),
    }


def write(model: open_clip.CLIP, folder: Path) -> str:
    """Write both files, weights as float16, and return the SHA-256 of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: tensor.half().contiguous() for name, tensor in sorted(model.state_dict().items())}, {"format": "pt"})
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
    (folder / "open_clip_model.safetensors").write_bytes(weights)
    return hashlib.sha256(weights).hexdigest()


def main() -> int:
    """Train, measure and write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo_clip"), help="folder to write (default: demo_clip)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--scale", type=float, default=300.0, help="logit scale; larger values leave the texts closer together")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the order of sums, and so the last digits, depend on the number of threads
    model = build(options.seed)
    train(model, options.steps, options.lr, options.scale, options.seed)
    model.half().float()  # measure the weights as stored
    for name, value in measure(model).items():
        print(f"{name}: {value:.3f}")
    print(f"sha256: {write(model, options.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
