"""Images of more than 8 bits: which value is white."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.data.decoding import cache
from stages.data.decoding.levels import UnreadableImageError
from stages.data.decoding.rgb import Picture, decode
from stages.data.image_set import LabelledImages
from stages.data.load import load_images, open_images
from stages.data.request import DecodeOptions, ImageRequest
from stages.data.summary import summary_of
from stages.errors import InputError, UsageError
from tests.stages.data.pictures import chunk, class_folders, noise, png, png_header
from tests.stages.data.raw_images import png16, tiff

GREY = np.array([[0, 1, 100, 2000], [4095, 32767, 32896, 65535]])
BLACK_TO_WHITE = np.linspace(0, 1, 8).reshape(2, 4)


def read(content: bytes, white: float | None = None) -> Picture:
    return decode(content, DecodeOptions(white=white), Lock())


def levels(content: bytes, white: float | None = None) -> list[list[int]]:
    """The first channel."""
    return read(content, white).pixels[..., 0].tolist()


def scaled(values: Any, white: float) -> list[list[int]]:
    return np.floor(np.asarray(values, dtype=float) * 255 / white + 0.5).astype(int).tolist()


def pgm(values: np.ndarray, highest: int) -> bytes:
    return f"P5 {values.shape[1]} {values.shape[0]} {highest}\n".encode() + values.astype(">u2").tobytes()


def saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def big_endian_tiff() -> bytes:
    return saved(Image.frombytes("I;16B", (4, 2), GREY.astype(">u2").tobytes()), "TIFF")


SIXTEEN = {
    "PNG": png16(GREY),
    "TIFF": tiff(GREY.astype(np.uint16)),
    "TIFF, big endian": big_endian_tiff(),
    "TIFF, compressed": tiff(GREY.astype(np.uint16), deflate=True),
    "PGM": pgm(GREY, 65535),
    "JPEG 2000": saved(Image.fromarray(GREY.astype(np.uint16)), "JPEG2000"),
}


@pytest.mark.parametrize("content", SIXTEEN.values(), ids=SIXTEEN.keys())
def test_16_bits_are_scaled_by_their_whole_range(content: bytes) -> None:
    assert levels(content) == scaled(GREY, 65535)
    assert read(content).undeclared


COLOURS = {
    "PNG": png16(np.stack([GREY] * 3, 2)),
    "PNG with alpha": png16(np.stack([GREY] * 4, 2)),
    "PNG, grey with alpha": png16(np.stack([GREY] * 2, 2)),
    "TIFF": tiff(np.stack([GREY] * 3, 2).astype(np.uint16)),
    "TIFF, compressed": tiff(np.stack([GREY] * 3, 2).astype(np.uint16), deflate=True),
}


@pytest.mark.parametrize("content", COLOURS.values(), ids=COLOURS.keys())
def test_16_bit_colours_are_right_to_one_level(content: bytes) -> None:
    assert np.abs(np.array(levels(content)) - scaled(GREY, 65535)).max() <= 1
    assert read(content).undeclared


TWELVE = np.rint(BLACK_TO_WHITE * 4095).astype(np.uint16)
DECLARED = {
    "PNG sBIT": png16(TWELVE, bits=12),
    "PNG sBIT, colours": png16(np.stack([TWELVE] * 3, 2), bits=12),
    "PNG sBIT, colours and alpha": png16(np.stack([TWELVE] * 4, 2), bits=12),
    "PGM": pgm(TWELVE, 4095),
    "TIFF MaxSampleValue": tiff(TWELVE, white=4095),
    "TIFF MaxSampleValue, colours": tiff(np.stack([TWELVE] * 3, 2), white=4095),
    "TIFF MaxSampleValue, compressed colours": tiff(np.stack([TWELVE] * 3, 2), white=4095, deflate=True),
    "TIFF MaxSampleValue, 32 bits": tiff(TWELVE.astype(np.uint32), white=4095),
    "TIFF SMaxSampleValue, signed": tiff(TWELVE.astype(np.int16), white=4095),
    "TIFF SMaxSampleValue, float": tiff(BLACK_TO_WHITE.astype(np.float32), white=1),
}


@pytest.mark.parametrize("content", DECLARED.values(), ids=DECLARED.keys())
def test_a_declared_range_is_used(content: bytes) -> None:
    assert levels(content) == scaled(TWELVE, 4095)
    assert not read(content).undeclared


@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("how", ["shifted", "repeated", "multiplied"])
def test_sbit_of_values_that_fill_the_range_changes_nothing(how: str, colours: bool) -> None:
    """PNG wants values scaled to 16 bits; a dark image of this kind is not a 12-bit one stored as it is."""
    for values in (TWELVE, np.array([[0, 1, 15, 100, 200, 255]])):
        full = {
            "shifted": values * 16,
            "repeated": values * 16 + values // 256,
            "multiplied": np.rint(values * (65535 / 4095)),
        }[how].astype(np.uint16)
        found = np.array(levels(png16(np.stack([full] * 3, 2) if colours else full, bits=12)))
        assert np.abs(found - scaled(full, 65535)).max() == 0


@pytest.mark.parametrize("value", [3000, 60000])
def test_a_largest_value_that_is_no_range_is_not_taken_for_white(value: int) -> None:
    """MaxSampleValue is a statistic of one image in files of many programs."""
    content = tiff(GREY.astype(np.uint16), white=value)
    assert levels(content) == scaled(GREY, 65535)
    assert read(content).undeclared


UNKNOWN = {
    "32 bits": tiff(np.array([[0, 128, 255]], dtype=np.uint32)),
    "32 bits, signed": tiff(np.array([[0, 128, 255]], dtype=np.int32)),
    "16 bits, signed": tiff(np.array([[0, 128, 255]], dtype=np.int16)),
    "floating point": tiff(np.array([[0, 128, 255]], dtype=np.float32)),
    "PFM": b"Pf 3 1 -1.0\n" + np.array([0, 128, 255], dtype="<f4").tobytes(),
}


@pytest.mark.parametrize("content", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_other_values_are_refused_unless_white_is_given(content: bytes) -> None:
    with pytest.raises(UnreadableImageError, match="does not declare which of them is white") as caught:
        read(content)
    assert "--white 255" in caught.value.hint
    assert levels(content, white=255) == [[0, 128, 255]]
    assert not read(content, white=255).undeclared


@pytest.mark.parametrize(
    "content",
    [png16(TWELVE), png16(np.stack([TWELVE] * 3, 2)), tiff(TWELVE), pgm(TWELVE, 65535), tiff(np.stack([TWELVE] * 3, 2))],
    ids=["PNG", "PNG, colours", "TIFF", "PGM", "TIFF, colours"],
)
def test_white_is_given_for_16_bits(content: bytes) -> None:
    assert levels(content, white=4095) == scaled(TWELVE, 4095)
    assert levels(content, white=8190) == scaled(TWELVE, 8190)
    with pytest.raises(UnreadableImageError, match="the value 4095, outside 0 to 1023"):
        read(content, white=1023)


def test_white_counts_in_the_values_of_the_file() -> None:
    assert levels(pgm(TWELVE // 2, 4095), white=2047) == scaled(TWELVE // 2, 2047)


def test_white_changes_nothing_in_8_bits() -> None:
    np.testing.assert_array_equal(read(png(noise(0)), white=4095).pixels, np.asarray(noise(0)))


def test_white_is_refused_where_pillow_drops_the_lower_bits() -> None:
    with pytest.raises(UnreadableImageError, match="--white cannot be applied"):
        read(png16(np.stack([TWELVE] * 2, 2)), white=4095)


@pytest.mark.parametrize(("value", "shown"), [(-1, "-1"), (np.nan, "nan"), (np.inf, "inf"), (256, "256")])
def test_values_outside_the_range_are_refused(value: float, shown: str) -> None:
    with pytest.raises(UnreadableImageError, match=f"it has the value {shown}, outside 0 to 255"):
        read(tiff(np.array([[0, value]], dtype=np.float32)), white=255)


def test_white_is_zero_means_inverted() -> None:
    assert levels(tiff(GREY.astype(np.uint16), photometric=0)) == (255 - np.array(scaled(GREY, 65535))).tolist()
    assert levels(tiff((GREY // 257).astype(np.uint8), photometric=0)) == (255 - GREY // 257).tolist()


def test_premultiplied_alpha_is_divided_out() -> None:
    assert levels(tiff(np.array([[[64, 128], [100, 255]]], dtype=np.uint8), extra=1)) == [[127, 100]]
    rgba = np.array([[[64, 64, 64, 128], [100, 0, 0, 255]]], dtype=np.uint8)
    assert levels(tiff(rgba, extra=1)) == [[127, 100]]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_fewer_bits_fill_the_range(bits: int) -> None:
    packed = {1: b"\x58", 2: b"\x1b", 4: b"\x0f"}[bits]  # 0 … highest
    content = chunk(b"IDAT", zlib.compress(b"\0" + packed)) + chunk(b"IEND", b"")
    expected = {1: [0, 255], 2: [0, 85, 170, 255], 4: [0, 255]}[bits]
    assert levels(png_header(len(expected), 1, bits, 0) + content) == [expected]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_16_bits(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer, small = io.BytesIO(), io.BytesIO()
    Image.fromarray(GREY.astype(np.uint16)).save(buffer, "PNG", exif=exif)
    Image.fromarray(np.array(scaled(GREY, 65535), dtype=np.uint8)).save(small, "PNG", exif=exif)
    assert levels(buffer.getvalue()) == levels(small.getvalue())


def folder(root: Path, value: int, count: int = 3) -> Path:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for at in range(count):
            (root / name / f"{at}.png").write_bytes(png16(np.full((4, 4), value + at)))
    return root


def opened(data: Path, kind: str, **options: Any) -> LabelledImages:
    return open_images(ImageRequest(str(data), split="train", **options), side="train", cache=kind)[0]


@pytest.mark.parametrize("kind", ["ram", "none"])
def test_a_set_that_does_not_fill_its_range_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("LAAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "MIN_SECONDS", 0.0)
    dark, bright = folder(tmp_path / "dark", 4093), folder(tmp_path / "bright", 65533)
    note = "6 of 6 images of 16 bits that declare no range reach only level 16 of 255"
    for _ in range(2):  # decoded, and from the cache
        assert opened(dark, kind).provenance.notes[0].startswith(note)
    assert opened(bright, kind).provenance.notes == ()
    given = opened(dark, kind, white=4095)
    assert (given.provenance.notes, given.channel_ranges()[0]) == ((), (255, 255))
    (dark / "cat/0.png").write_bytes(png16(np.full((4, 4), 65535)))
    assert opened(dark, kind).provenance.notes[0].startswith("5 of 6 images")


def test_an_evaluation_takes_the_white_of_the_training(tmp_path: Path) -> None:
    data = folder(tmp_path / "dark", 4093)
    trained = opened(data, "ram", white=4095, resize=4)
    assert " with 4095 as white" in summary_of(trained)
    training = {"data": trained.provenance.to_record(), "resize": trained.provenance.resize}
    same = ImageRequest(str(data), split="train").as_in(training)
    assert load_images(same, side="test").sha256() == trained.sha256()
    assert ImageRequest(str(data), white=8190, resize=2).as_in(training) == ImageRequest(str(data), white=8190, resize=2)
    assert ImageRequest(str(data)).as_in({}) == ImageRequest(str(data))


def test_8_bit_images_are_not_noted_however_dark(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "pets", {"cat": 2})
    for path in (data / "cat").iterdir():
        Image.fromarray(np.full((4, 4), 3, dtype=np.uint8)).save(path)
    assert opened(data, "ram").provenance.notes == ()


def test_colours_whose_lower_bits_are_lost_are_undeclared() -> None:
    assert read(png16(np.stack([TWELVE] * 2, 2), bits=12)).undeclared


def test_refused_values_name_the_image_and_the_option(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.tif").write_bytes(UNKNOWN["32 bits"])
    with pytest.raises(InputError, match=r"'cat/a\.tif' of the data .*32-bit values.*; give it with --white, .*--skip-corrupt"):
        opened(tmp_path, "ram")
    assert opened(tmp_path, "ram", white=255).channel_ranges()[0] == (0, 255)
    for white in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="--white"):
            ImageRequest(str(tmp_path), white=white)


class Sixteen:
    """A map-style data set of Pillow images of 16 bits."""

    classes = ("cat",)
    targets = (0,)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, at: int) -> tuple[Image.Image, int]:
        return Image.fromarray(TWELVE), 0


def test_images_of_a_map_style_data_set_are_scaled_too() -> None:
    found = [open_images(ImageRequest(Sixteen(), white=white), side="train", cache="ram")[0] for white in (None, 4095)]
    assert [images.loaded().images[0, 0].tolist() for images in found] == [scaled(TWELVE, 65535), scaled(TWELVE, 4095)]
    assert [bool(images.provenance.notes) for images in found] == [True, False]
