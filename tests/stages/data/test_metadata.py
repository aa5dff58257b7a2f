"""Broken or huge metadata never costs the pixels, and a huge image stays refused."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.data.decoding.levels import UnreadableImageError
from stages.data.decoding.metadata import without_metadata
from stages.data.decoding.rgb import decode
from stages.data.request import DecodeOptions
from tests.stages.data.pictures import chunk, noise, png, png_header

LARGE = 2 << 20  # bytes; Pillow's limits for texts and profiles are 1 MiB, and 64 MiB for all texts of a file
IMAGE = noise(0, 16, 12)
TIFF_TURNED = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)


def read(raw: bytes) -> np.ndarray:
    return decode(raw, DecodeOptions(), nullcontext()).pixels


def with_chunks(*chunks: bytes, after: bytes = b"") -> bytes:
    raw = png(IMAGE)
    return raw[:33] + b"".join(chunks) + raw[33:-12] + after + raw[-12:]


def broken(kind: bytes, content: bytes) -> bytes:
    return chunk(kind, content)[:-4] + b"\0\0\0\0"


def saved(kind: str, image: Image.Image = IMAGE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_segment(marker: int, content: bytes, image: Image.Image = IMAGE) -> bytes:
    raw = saved("JPEG", image)
    return raw[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + raw[2:]


PACKED = zlib.compress(bytes(LARGE))
PNGS = {
    "text": with_chunks(chunk(b"tEXt", b"k\0" + bytes(LARGE))),
    "packed text": with_chunks(chunk(b"zTXt", b"k\0\0" + PACKED)),
    "text bomb": with_chunks(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100 << 20)))),
    "many texts": with_chunks(*(chunk(b"tEXt", b"k%d\0" % at + bytes(1 << 20)) for at in range(70))),
    "XMP": with_chunks(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + PACKED)),
    "profile": with_chunks(chunk(b"iCCP", b"icc\0\0" + PACKED)),
    "broken profile": with_chunks(chunk(b"iCCP", b"icc\0\7x")),
    "checksum of a text": with_chunks(broken(b"tEXt", b"k\0hello")),
    "checksum of EXIF": with_chunks(broken(b"eXIf", TIFF_TURNED)),
    "text after the pixels": with_chunks(after=chunk(b"zTXt", b"k\0\0" + PACKED)),
    "broken EXIF": with_chunks(chunk(b"eXIf", b"garbage")),
    "truncated EXIF": with_chunks(chunk(b"eXIf", TIFF_TURNED[:16])),
    "no gamma": with_chunks(chunk(b"gAMA", b"")),
    "no frames": with_chunks(chunk(b"acTL", b"")),
    "trailing bytes": png(IMAGE) + bytes(5000),
}
JPEGS = {
    "broken EXIF": with_segment(0xE1, b"Exif\0\0garbage"),
    "truncated EXIF": with_segment(0xE1, b"Exif\0\0" + TIFF_TURNED[:16]),
    "cut profile": with_segment(0xE2, b"ICC_PROFILE\0"),
    "broken profile": with_segment(0xE2, b"ICC_PROFILE\0\1\1garbage"),
    "cut JFIF": with_segment(0xE0, b"JFIF\0"),
    "cut Adobe": with_segment(0xEE, b"Adobe"),
    "cut MPF": with_segment(0xE2, b"MPF\0II*\0\x08\0\0\0"),
    "comment": with_segment(0xFE, bytes(65000)),
    "trailing bytes": saved("JPEG") + bytes(5000),
}
OTHERS = {
    "WEBP": saved("WEBP", lossless=True, exif=b"Exif\0\0garbage", icc_profile=bytes(LARGE), xmp=bytes(LARGE)),
    "moving WEBP": saved("WEBP", lossless=True, save_all=True, append_images=[noise(1, 16, 12)], exif=b"junk"),
    "moving PNG": saved("PNG", save_all=True, append_images=[noise(1, 16, 12)]),
    "TIFF": saved("TIFF", tiffinfo={700: bytes(LARGE), 34675: b"bad", 274: 77}),
}


@pytest.mark.parametrize("raw", [*PNGS.values(), *OTHERS.values()], ids=[*PNGS, *OTHERS])
def test_metadata_does_not_cost_the_pixels(raw: bytes) -> None:
    np.testing.assert_array_equal(read(raw), np.asarray(IMAGE))


@pytest.mark.parametrize("raw", JPEGS.values(), ids=JPEGS)
def test_metadata_of_jpeg_does_not_cost_the_pixels(raw: bytes) -> None:
    np.testing.assert_array_equal(read(raw), read(saved("JPEG")))


def test_cmyk_with_a_broken_profile_keeps_its_colours() -> None:
    image = IMAGE.convert("CMYK")
    turned = saved("JPEG", image)
    np.testing.assert_array_equal(read(saved("JPEG", image, icc_profile=b"broken" * 99)), read(turned))
    np.testing.assert_array_equal(read(with_segment(0xE2, b"ICC_PROFILE\0", image)), read(turned))


def test_the_orientation_stays_where_it_is_legible() -> None:
    assert read(with_chunks(chunk(b"eXIf", TIFF_TURNED), chunk(b"zTXt", b"k\0\0" + PACKED))).shape == (16, 12, 3)
    turned = with_segment(0xE1, b"Exif\0\0" + TIFF_TURNED)
    assert read(turned[:2] + b"\xff\xe2" + struct.pack(">H", 14) + b"ICC_PROFILE\0" + turned[2:]).shape == (16, 12, 3)


def test_the_significant_bits_stay() -> None:
    values = (np.arange(64, dtype=np.uint16).reshape(8, 8) * 16).astype(">u2")  # of 10 bits in 16
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    parts = [
        chunk(b"sBIT", b"\x0a"),
        chunk(b"zTXt", b"k\0\0" + PACKED),
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    assert read(png_header(8, 8, 16, 0) + b"".join(parts)).max() == round(63 * 16 / 1023 * 255)


def test_a_huge_image_stays_refused_with_its_reason() -> None:
    pixels, text = chunk(b"IDAT", b"") + chunk(b"IEND", b""), chunk(b"zTXt", b"k\0\0" + PACKED)
    for raw in (png_header(20000, 20000, 8, 2) + pixels, png_header(20000, 20000, 8, 2) + text + pixels):
        with pytest.raises(UnreadableImageError, match="20000x20000 pixels"):
            read(raw)


@pytest.mark.parametrize("raw", [*PNGS.values(), *JPEGS.values()])
def test_files_cut_anywhere_are_no_crash(raw: bytes) -> None:
    for length in range(8, min(len(raw), 400), 7):
        assert len(without_metadata(raw[:length])) <= length
