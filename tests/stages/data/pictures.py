"""Small pictures for the tests of the data room."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from stages.data.request import ImageRequest
from stages.data.sources import open_source


def solid(colour: tuple[int, int, int], width: int = 8, height: int = 8) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def noise(seed: int, width: int = 8, height: int = 8) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width: int, height: int, depth: int, colour: int) -> bytes:
    """The start of a PNG file: `depth` bits per channel; `colour` 0 is grey, 2 RGB, 4 grey and alpha, 6 RGB and alpha."""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def bmp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "BMP")
    return buffer.getvalue()


def class_folders(root: Path, counts: dict[str, int], *, size: int = 8) -> Path:
    """PNG files of noise, `counts` a class: root/cat/0.png …"""
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for at in range(count):
            noise(1000 * number + at, size, size).save(root / name / f"{at:03}.png")
    return root


def class_names(request: ImageRequest) -> list[str]:
    """The class names of data, in its own order."""
    return list(open_source(request).classes)
