"""Answers for unlabelled images: the pixels, the order, the probabilities, and what cannot be read."""

from __future__ import annotations

import io
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stages as laat
from stages.data.load import load_images
from stages.data.request import DecodeOptions, ImageRequest
from stages.data.unlabelled import ImagePaths
from stages.errors import InputError, UsageError
from stages.prediction.predict import decoding_for, predict_batches
from tests.stages.prediction.pictures import NAMES, by_colour, pixels, save_colour, save_shapes


def test_the_answer_is_the_most_probable_class_with_its_softmax(tmp_path: Path) -> None:
    classifier, paths = by_colour(), save_shapes(tmp_path)
    found = laat.predict(classifier, paths, top=3)
    expected = classifier(pixels(paths)).softmax(1).detach()
    assert [one.path for one in found] == [str(path) for path in paths]
    for one, shares in zip(found, expected, strict=True):
        order = shares.argsort(descending=True)
        assert [name for name, _ in one.top] == [NAMES[at] for at in order]
        assert [share for _, share in one.top] == pytest.approx(shares[order].tolist(), abs=1e-6)
        assert (one.name, one.confidence) == one.top[0]
        assert one.margin == pytest.approx(float(shares[order[0]] - shares[order[1]]), abs=1e-6)
    assert [one.top for one in laat.predict(classifier, pixels(paths), top=3)] == [one.top for one in found]
    assert [one.top for one in laat.predict(classifier, paths, batch_size=1, top=2)] == [one.top[:2] for one in found]


@pytest.mark.parametrize("size", [(32, 32), (48, 80), (20, 31), (100, 100)])
def test_files_of_any_size_become_the_pixels_that_eval_reads(tmp_path: Path, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(noise).save(tmp_path / f"{name}/1.jpg", quality=90)
    read = load_images(ImageRequest(tmp_path, split="train+test", resize=32), side="test", classes=["a", "b"])
    classifier = by_colour()
    options = decoding_for(classifier, DecodeOptions())
    (batch,) = predict_batches(classifier, ImagePaths([tmp_path]), options)
    assert torch.equal(batch.pixels, read.images)


def test_unreadable_images_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = save_colour(tmp_path / "good.png", (200, 0, 0))
    cut = tmp_path / "cut.png"
    cut.write_bytes(good.read_bytes()[:40])
    listed = f"{good}\n{cut}\n{tmp_path}/missing.png\r\n\n{good}".encode()
    paths = ImagePaths(["-"], io.BytesIO(listed))
    classifier = by_colour()
    (batch,) = predict_batches(classifier, paths, decoding_for(classifier, DecodeOptions()))
    assert [Path(one.path).name for one in batch.predictions] == ["good.png", "cut.png", "missing.png", "good.png"]
    assert [one.name for one in batch.predictions] == ["red", "", "", "red"]
    assert "cannot be decoded" in batch.predictions[1].error
    assert batch.predictions[2].error == "cannot be opened: No such file or directory"
    assert math.isnan(batch.predictions[1].confidence)
    assert (batch.read, len(batch.pixels), paths.found, paths.expected) == ([0, 3], 2, 4, 4)


def test_a_batch_without_any_readable_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    (one,) = laat.predict(by_colour(), tmp_path / "a.png")
    assert one.error == "cannot be decoded: it is not an image"


def test_the_seen_class_bias_decides_as_the_probabilities_do(tmp_path: Path) -> None:
    from stages.files.artifact_params import BiasFit, Calibration

    path = save_colour(tmp_path / "a.png", (180, 0, 150))  # red, and nearly blue; red and green are seen
    classifier = by_colour()
    assert laat.predict(classifier, path)[0].name == "red"
    fit = BiasFit.model_construct()
    classifier.calibration = Calibration.model_construct(temperature=2.0, bias=0.9, bias_fit=fit)
    (one,) = laat.predict(classifier, path, top=3)
    assert one.name == "blue"
    expected = classifier.probabilities(classifier(pixels([path]))).detach()
    assert one.confidence == pytest.approx(float(expected.max()), abs=1e-6)


def test_the_name_of_a_model_is_no_classifier(tmp_path: Path) -> None:
    for given, what in (("run/model.st", "'run/model.st'"), (torch.nn.Identity(), "an object of type Identity")):
        for call in (laat.predict, laat.evaluate, laat.export, partial(laat.attack, labels=torch.zeros(1, dtype=torch.int64))):
            with pytest.raises(UsageError, match=rf"{what} is not a classifier; open a model with laat.load\(…\) first"):
                call(given, torch.zeros(1, 3, 8, 8))


def test_fewer_than_two_classes_and_sizes_that_do_not_fit(tmp_path: Path) -> None:
    path = save_colour(tmp_path / "a.png", (1, 2, 3))
    with pytest.raises(InputError, match="only the class 'red' to choose from"):
        laat.predict(by_colour().over(["red"]), path)
    with pytest.raises(UsageError, match="--resize 16 does not fit the model, which takes 32x32"):
        laat.predict(by_colour(), path, resize=16)
    other = save_colour(tmp_path / "b.png", (1, 2, 3), (40, 32))
    assert len(laat.predict(by_colour(size=None), [path, other], resize=16)) == 2


@pytest.mark.parametrize("number", ["top", "batch_size"])
@pytest.mark.parametrize("given", [torch.zeros(1, 3, 32, 32), "a.png"])
def test_numbers_below_1_are_refused(number: str, given: torch.Tensor | str) -> None:
    for value in (0, -1):
        with pytest.raises(UsageError, match=f"{number} is {value}; choose at least 1"):
            laat.predict(by_colour(), given, **{number: value})  # type: ignore[arg-type]


def test_progress_knows_the_total_once_all_folders_are_listed(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        save_colour(tmp_path / name, (200, 0, 0))
    for given, total in ((tmp_path, 2), (torch.zeros(3, 3, 32, 32), 3)):
        said: list[tuple[int, int | None]] = []
        laat.predict(by_colour(), given, batch_size=5, progress=lambda done, of, _, said=said: said.append((done, of)))  # type: ignore[misc]
        assert said == [(total, total)]


def test_images_of_several_sizes_go_to_a_model_without_a_size_as_they_are(tmp_path: Path) -> None:
    sizes = [(32, 32), (40, 32), (40, 32), (33, 50), (32, 32)]
    colours = [(220, 0, 0), (0, 220, 0), (0, 0, 220), (220, 0, 0), (0, 220, 0)]
    paths = [save_colour(tmp_path / f"{at}.png", *one) for at, one in enumerate(zip(colours, sizes, strict=True))]
    (broken := tmp_path / "broken.png").write_text("no image")
    classifier = by_colour(size=None)
    files = ImagePaths([paths[0], paths[1], broken, *paths[2:]])
    batches = list(predict_batches(classifier, files, decoding_for(classifier, DecodeOptions()), batch_size=2))
    assert [(len(one.predictions), one.read, one.first_row) for one in batches] == [
        (1, [0], 0),
        (2, [0], 1),
        (1, [0], 2),
        (1, [0], 3),
        (1, [0], 4),
    ]
    assert [one.name for batch in batches for one in batch.predictions] == ["red", "green", "", "blue", "red", "green"]
    assert [tuple(one.pixels.shape[:1:-1]) for one in batches] == sizes
