from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.data.decoding.decode import Decoded, decode_images
from stages.data.decoding.encoded import Encoded
from stages.data.decoding.parallel import CHUNK
from stages.data.decoding.rgb import resized, to_rgb
from stages.data.request import DecodeOptions
from stages.errors import InputError
from tests.stages.data.pictures import noise, png, solid


def decode(contents: list[bytes | Path | None], *, skip_corrupt: bool = False, **options: Any) -> Decoded:
    images = [Encoded(f"'{at}.png'", content) for at, content in enumerate(contents)]
    return decode_images(iter(images), len(images), source="zoo", options=DecodeOptions(**options), skip_corrupt=skip_corrupt)


def one(image: Image.Image, kind: str = "PNG", **options: object) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return decode([buffer.getvalue()]).pixels[0].transpose(1, 2, 0)


def test_pixels_come_back_in_order_over_many_chunks() -> None:
    count = 2 * CHUNK + 7
    colours = [(at % 256, at // 256, 7) for at in range(count)]
    decoded = decode([png(solid(colour, 2, 3)) for colour in colours])
    assert decoded.pixels.shape == (count, 3, 3, 2)
    assert decoded.pixels[:, :, 1, 1].tolist() == [list(colour) for colour in colours]
    assert decoded.kept.tolist() == list(range(count))


def test_rows_columns_and_channels_are_not_mixed_up() -> None:
    image = noise(0, 5, 4)
    assert decode([png(image)]).pixels.shape == (1, 3, 4, 5)
    np.testing.assert_array_equal(one(image), np.asarray(image))


def test_greyscale_is_repeated_over_the_channels() -> None:
    grey = noise(1).convert("L")
    np.testing.assert_array_equal(one(grey), np.stack([np.asarray(grey)] * 3, axis=2))


def test_black_and_white_becomes_0_and_255() -> None:
    assert set(np.unique(one(noise(1).convert("L").convert("1")))) == {0, 255}


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped(mode: str) -> None:
    image = noise(2).convert(mode)
    image.putalpha(noise(3).convert("L"))
    np.testing.assert_array_equal(one(image), np.asarray(image.convert("RGB")))


def test_palettes_are_looked_up_with_and_without_transparency() -> None:
    image = noise(4).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(one(image), expected)
    np.testing.assert_array_equal(one(image, transparency=bytes(range(16))), expected)


def test_exif_orientation_is_applied() -> None:
    image = noise(5, 6, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    np.testing.assert_array_equal(one(image, exif=exif), np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "CMYK"), ("JPEG", "L"), ("WEBP", "RGB")])
def test_lossy_formats_are_near(kind: str, mode: str) -> None:
    pixels = one(solid((200, 60, 30)).convert(mode), kind, quality=95)
    expected = np.asarray(solid((200, 60, 30)).convert(mode).convert("RGB"))
    assert np.abs(pixels.astype(int) - expected).max() <= 4


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [solid((255, 0, 0)), solid((0, 0, 255))]
    assert one(frames[0], "GIF", save_all=True, append_images=frames[1:])[0, 0].tolist() == [255, 0, 0]


BROKEN = {
    "truncated": png(noise(6, 64, 64))[:-3000],
    "text": b"not a picture at all",
    "empty": b"",
    "absent": None,
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
    "flipped bit": png(noise(6))[:60] + b"\0" + png(noise(6))[61:],
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_corrupt_image_is_named(content: bytes | None) -> None:
    with pytest.raises(InputError, match=r"'1\.png' of the data 'zoo' cannot be decoded.*--skip-corrupt"):
        decode([png(noise(0)), content, png(noise(1))])


def tiff(tag: int, value: bytes) -> bytes:
    """An RGB TIFF file whose entry `tag` has another value, two bytes."""
    buffer = io.BytesIO()
    noise(0).save(buffer, "TIFF")
    content = buffer.getvalue()
    at = content.index(struct.pack("<H", tag), struct.unpack("<I", content[4:8])[0])
    return content[: at + 8] + value + content[at + 10 :]


UNSUPPORTED = {
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "a Git LFS pointer.*get the images with `git lfs pull`",
    ),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported format HEIC.*convert it"),
    "HEIC, brand of HEIF": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "unsupported format HEIC.*convert it"),
    "JPEG XL": (b"\xff\x0a" + bytes(40), "unsupported format JPEG XL.*convert it"),
    "PSD": (b"8BPS\0\1" + bytes(40), "unsupported format PSD.*convert it"),
    "TIFF": (tiff(262, b"\x63\0"), "begins as TIFF, but is damaged or of an unsupported kind.; repair it or convert it to PNG"),
    "no image": (b"\n", "it is not an image"),
}


@pytest.mark.parametrize(("content", "says"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_an_unsupported_file_is_told_from_no_image(content: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        decode([content])


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_corrupt_images_are_left_out_on_request(content: bytes | None) -> None:
    decoded = decode([content, png(noise(0)), content, png(noise(1))], skip_corrupt=True)
    assert decoded.kept.tolist() == [1, 3]
    np.testing.assert_array_equal(decoded.pixels[1].transpose(1, 2, 0), np.asarray(noise(1)))


def test_nothing_but_corrupt_images_leaves_none() -> None:
    decoded = decode([b"x"], skip_corrupt=True)
    assert len(decoded.pixels) == len(decoded.kept) == 0


def test_a_file_that_cannot_be_opened_is_named_or_left_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'0\.png' of the data 'zoo' cannot be opened \(No such file.*--skip-corrupt"):
        decode([tmp_path / "gone.png"])
    assert decode([tmp_path / "gone.png", png(noise(0)), tmp_path], skip_corrupt=True).kept.tolist() == [1]


def test_different_sizes_are_named_with_the_way_out() -> None:
    with pytest.raises(InputError, match=r"'0\.png' is 9x8, '2\.png' is 8x7; .*--resize 8"):
        decode([png(noise(0, 9, 8)), png(noise(1, 9, 8)), png(noise(2, 8, 7))])


def test_resizing_brings_all_to_one_size() -> None:
    decoded = decode([png(noise(0, 9, 8)), png(noise(1, 30, 50)), png(noise(2, 5, 5))], resize=6)
    assert decoded.pixels.shape == (3, 3, 6, 6)


@pytest.mark.parametrize(("width", "height"), [(12, 6), (6, 13), (6, 6)])
def test_without_scaling_the_centre_is_cut_out(width: int, height: int) -> None:
    pixels = np.asarray(noise(0, width, height))
    top, left = round((height - 6) / 2), round((width - 6) / 2)
    np.testing.assert_array_equal(np.asarray(resized(noise(0, width, height), 6)), pixels[top : top + 6, left : left + 6])


def test_scaling_down_averages() -> None:
    checks = Image.fromarray((np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)).convert("RGB")
    small = np.asarray(resized(checks, 8)).astype(int)
    assert np.abs(small[1:-1, 1:-1] - 127).max() <= 12


def test_pixels_need_no_decoding() -> None:
    pixels = np.asarray(noise(0))
    decoded = decode([pixels])  # type: ignore[list-item]
    np.testing.assert_array_equal(decoded.pixels[0].transpose(1, 2, 0), pixels)


def test_rgb_stays_as_it_is() -> None:
    image = noise(0)
    assert to_rgb(image) == (image, False)
