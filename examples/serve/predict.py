"""Classify pictures with a model that `laat export` wrote. Needs numpy, onnxruntime and pillow: no laat, no torch.

python predict.py model.onnx photo.jpg …
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

NO_PICTURE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def read_anchors(path: str | Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, unit vectors (C, D) and which of them are seen, 0 or 1 (C,), of a .st file, which is safetensors.

    That is: the length of a JSON header, the header, and the numbers of all tensors.
    """
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    params = json.loads(header["__metadata__"]["laat"])["params"]
    first, end = (start + at for at in header["vectors"]["data_offsets"])
    vectors = np.frombuffer(data[first:end], "<f4").reshape(header["vectors"]["shape"])
    return params["classes"], vectors, np.isin(range(len(vectors)), params["groups"]["seen"]).astype(np.float32)


def read_image(file: str | Path | IO[bytes], size: int) -> np.ndarray:
    """A picture as uint8 (3, size, size), resized and cropped as in training. Raises one of `NO_PICTURE` for anything else."""
    with Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened)
    if opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in ("PNG", "PPM")):  # 16 bits, 65535 is white
        image = Image.fromarray(np.floor(np.asarray(image) / 257 + 0.5).astype(np.uint8))
    elif opened.mode in ("I", "F"):
        raise ValueError("32 bits for each pixel, and it does not say which value is white")
    image = (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")
    short = min(image.size)
    width, height = (max(size, side * size // short) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    return np.asarray(image).transpose(2, 0, 1)


class Model:
    """An ONNX file and the anchors of the classes."""

    def __init__(self, path: str | Path, anchors: str | Path | None = None) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.record = json.loads(self.session.get_modelmeta().custom_metadata_map["laat"])
        self.anchors = Path(anchors or Path(path).with_name(self.record["anchors"]["file"])).resolve()
        self.classes = read_anchors(self.anchors)

    def add(self, names: list[str], vectors: np.ndarray, seen: np.ndarray) -> None:
        """More classes."""
        old_names, old_vectors, old_seen = self.classes
        self.classes = old_names + names, np.concatenate((old_vectors, vectors)), np.concatenate((old_seen, seen))

    def predict(self, image: np.ndarray, top: int = 5) -> list[tuple[str, float]]:
        """The most likely classes of an image uint8 (3, S, S), with their confidence."""
        names, vectors, seen = self.classes
        logits = self.session.run(["logits"], {"images": image[None], "anchors": vectors})[0][0]
        sure = self.record["confidence"]
        logits = (logits - self.record["logit_scale"] * sure["seen_bias"] * seen) / sure["temperature"]
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        return [(names[at], float(shares[at])) for at in np.argsort(-shares, kind="stable")[:top]]


if __name__ == "__main__":
    model = Model(sys.argv[1])
    for path in sys.argv[2:]:
        try:
            ((name, share),) = model.predict(read_image(path, model.record["images"]["size"]), top=1)
            print(f"{path}\t{name}\t{share:.3f}")
        except NO_PICTURE as error:
            print(f"{path}: {error}", file=sys.stderr)
