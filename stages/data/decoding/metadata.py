"""Metadata of image files: what is broken or too large in it must not cost the pixels."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_ORIENTATION = 0x0112  # EXIF tag
# How an image of each EXIF orientation is turned upright: the values of PIL.Image.Transpose.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_SCAN, _COMMENT, _APP0, _APP15 = 0xDA, 0xFE, 0xE0, 0xEF  # JPEG markers
# JPEG segments that say how colours are stored, with the fewest bytes that Pillow reads
_COLOURS = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
_EXIF = b"Exif\0\0"


def turn_of(image: Image) -> int | None:
    """How to turn a loaded image upright, a value of PIL.Image.Transpose; None where its metadata says nothing legible."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow's readers raise nearly anything on broken metadata
        return None


def without_metadata(raw: bytes) -> bytes:
    """A PNG or JPEG file with only what its pixels need; other files unchanged.

    Pillow gives up a whole image for a text or a colour profile of more than 1 MiB, and for some broken metadata. Nothing is
    unpacked here, so metadata that would fill the memory does not.
    """
    if raw.startswith(PNG):
        return PNG + b"".join(raw[start:end] for start, end in png_chunks(raw) if _is_needed(raw[start:end]))
    if raw.startswith(JPEG):
        return b"".join(_jpeg_parts(raw))
    return raw


def png_chunks(raw: bytes) -> Iterator[tuple[int, int]]:
    """Where each chunk of a PNG file begins and ends: its length, kind, content and checksum."""
    start = len(PNG)
    while start < len(raw):
        end = start + 12 + int.from_bytes(raw[start : start + 4], "big")
        yield start, end
        start = end


def _is_needed(chunk: bytes) -> bool:
    """Whether a PNG chunk is critical, says how many bits count, or is intact EXIF, for the orientation."""
    kind, content, checksum = chunk[4:8], chunk[8:-4], chunk[-4:]
    if kind == b"eXIf":
        return zlib.crc32(kind + content) == int.from_bytes(checksum, "big") and _is_legible(content)
    return kind[:1].isupper() or kind == b"sBIT"


def _is_legible(exif: bytes) -> bool:
    from PIL import Image as Pillow

    found = Pillow.Exif()
    try:
        found.load(exif)
        return bool(dict(found))
    except Exception:  # as in `turn_of`
        return False


def _jpeg_parts(raw: bytes) -> Iterator[bytes]:
    yield raw[:2]
    at = 2
    while raw[at : at + 1] == b"\xff" and raw[at + 1 : at + 2] not in (b"", b"\xff") and raw[at + 1] != _SCAN:
        marker, end = raw[at + 1], at + 2 + max(2, int.from_bytes(raw[at + 2 : at + 4], "big"))
        if not (marker == _COMMENT or _APP0 <= marker <= _APP15) or _says_how(marker, raw[at + 4 : end]):
            yield raw[at:end]
        at = end
    yield raw[at:]


def _says_how(marker: int, content: bytes) -> bool:
    """Whether a segment of metadata says how colours are stored, or which side is up."""
    begins, least = _COLOURS.get(marker, (_EXIF, len(_EXIF)))
    fits = content.startswith(begins) and len(content) >= least
    return fits and (begins != _EXIF or _is_legible(content))
