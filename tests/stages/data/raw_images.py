"""Image files of more than 8 bits, written by hand: Pillow writes few of them."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from tests.stages.data.pictures import chunk, png_header

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # of PNG, by the number of channels


def png16(values: np.ndarray, *, bits: int | None = None) -> bytes:
    """A 16-bit PNG file of values (H, W) or (H, W, C); `bits` is its sBIT."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    told = b"" if bits is None else chunk(b"sBIT", bytes([bits] * channels))
    start = png_header(width, height, 16, COLOUR_TYPES[channels])
    return start + told + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(
    values: np.ndarray,
    *,
    photometric: int | None = None,
    extra: int | None = None,
    white: float | None = None,
    deflate: bool = False,
) -> bytes:
    """A little-endian TIFF file of values (H, W) or (H, W, C) of any type.

    Args:
        values: the samples.
        photometric: 0 white is zero, 1 black is zero, 2 RGB; by default 1 or 2 by the number of channels.
        extra: the meaning of the last channel: 1 premultiplied alpha, 2 alpha.
        white: MaxSampleValue of unsigned integers, SMaxSampleValue of others.
        deflate: compressed.
    """
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    data = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).tobytes()
    data = zlib.compress(data) if deflate else data
    shape = 2 if channels > 2 else 1
    bits = [values.dtype.itemsize * 8] * channels
    tags: list[tuple[int, str, list[float]]] = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", list(bits)),
        (259, "H", [8 if deflate else 1]),
        (262, "H", [shape if photometric is None else photometric]),
        (277, "H", [channels]),
        (278, "I", [height]),
        (279, "I", [len(data)]),
        (339, "H", [kind] * channels),
    ]
    if extra is not None:
        tags.append((338, "H", [extra]))
    if white is not None:
        tags.append((281, "H", [white] * channels) if kind == 1 else (341, "d", [white] * channels))
    types = {"H": 3, "I": 4, "d": 12}
    room = 8 + 2 + 12 * (len(tags) + 1) + 4
    more = b""
    entries = []
    for tag, code, content in tags:
        packed = struct.pack(f"<{len(content)}{code}", *(content if code == "d" else map(int, content)))
        if len(packed) > 4:
            packed, more = struct.pack("<I", room + len(more)), more + packed
        entries.append((tag, struct.pack("<HHI", tag, types[code], len(content)) + packed.ljust(4, b"\0")))
    entries.append((273, struct.pack("<HHII", 273, 4, 1, room + len(more))))
    directory = struct.pack("<H", len(entries)) + b"".join(entry for _, entry in sorted(entries)) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + more + data
