"""`laat predict` as a user types it."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.anchors.encoder import load_encoder
from stages.anchors.sources import text_anchors
from stages.classes import ClassGroups
from stages.data.shapes import shape_classes
from stages.files import artifacts
from stages.models.checkpoint import checkpoint_of
from stages.models.embedding import EmbeddingModel
from tests.laatcli.inside import inside
from tests.laatcli.shell import Done, check_refusal
from tests.stages.prediction.pictures import save_shapes

CLASSES = (*shape_classes()[:6], *shape_classes()[48:52])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights over anchors of the demo text encoder, 6 seen and 4 novel classes."""
    anchors = text_anchors(CLASSES, ClassGroups.from_counts(10, 6), load_encoder("demo"), ["This is a photo of a {}"])
    net = EmbeddingModel("conv4-8", anchors.vectors.shape[1], 32, mean=(0.5,) * 3, std=(0.25,) * 3)
    path = tmp_path_factory.mktemp("model") / "model.st"
    artifacts.write(checkpoint_of(net, anchors, {"settings": {"tau": 0.1}}, {}, image_size=32), path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """photos/{5 shapes}.png and photos/more/{2 of them}.jpg, larger."""
    save_shapes(tmp_path / "photos", 5)
    (tmp_path / "photos/more").mkdir()
    for path in sorted((tmp_path / "photos").glob("*.png"))[:2]:
        Image.open(path).resize((120, 90)).save(tmp_path / f"photos/more/{path.stem}.jpg")
    return tmp_path / "photos"


def predict(model: Path, cwd: Path, *args: object, **how: Any) -> Done:
    done = inside(cwd, "predict", model, *args, **how)
    assert done.code == 0, done.stderr
    return done


def records(done: Done) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    *lines, last = map(json.loads, done.stdout.splitlines())
    return lines, last["summary"]


def test_a_line_for_each_image_in_order(model: Path, photos: Path) -> None:
    done = predict(model, photos.parent, "photos", "--top", 2)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    expected = [f"photos/{path.name}" for path in sorted(photos.glob("*.png"))]
    expected += [f"photos/more/{path.name}" for path in sorted(photos.glob("more/*"))]
    assert [row[0] for row in rows] == expected
    for _, name, confidence, margin, second, less in rows:
        assert {name, second} <= set(CLASSES)
        assert float(confidence) - float(less) == pytest.approx(float(margin), abs=2e-4)
    assert done.stderr.splitlines() == [
        "7 images",
        "the confidences are not calibrated: `laat calibrate` fits a temperature",
    ]
    assert predict(model, photos.parent, "photos/*.png", "photos/more", "--top", 2).stdout == done.stdout
    lines, summary = records(predict(model, photos.parent, "photos", "--top", 2, "--json"))
    assert [[line["path"], line["name"], line["top"][1]["name"]] for line in lines] == [[*row[:2], row[4]] for row in rows]
    assert (summary["images"], summary["unreadable"], sum(summary["classes"].values())) == (7, 0, 7)


def test_a_list_on_standard_input(model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"photos/{path.name}" for path in sorted(photos.glob("*.png"), reverse=True)]
    for end, more in (("\n", ()), ("\0", ("-0",))):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(end.join(names).encode())))
        done = predict(model, photos.parent, "-", *more)
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == names
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\0".join(names).encode())))
    check_refusal(inside(photos.parent, "predict", model, "-"), 2, "the list of paths has null bytes. Add -0")


def test_the_candidates(model: Path, photos: Path) -> None:
    def asked(*args: object) -> set[str]:
        lines, _ = records(predict(model, photos.parent, "photos/more", "--top", 20, "--json", *args))
        return {entry["name"] for line in lines for entry in line["top"]}

    (photos.parent / "names.txt").write_text("okapi\npagoda\n")
    assert asked() == set(CLASSES)
    assert asked("--classes-from", "novel") == set(CLASSES[6:])
    assert asked("--classes-from", "seen") == set(CLASSES[:6])
    assert asked("--names", "okapi, pagoda,red circle") == {"okapi", "pagoda", "red circle"}
    assert asked("--classes", "names.txt") == {"okapi", "pagoda"}
    check_refusal(inside(photos.parent, "predict", model, "photos", "--names", "okapi"), 3, "only the class 'okapi' to choose")
    check_refusal(inside(photos.parent, "predict", model, "photos", "--classes-from", "val"), 3, "no val classes")
    foreign = inside(photos.parent, "predict", "clip:demo", "photos", "--names", "okapi,pagoda", "--classes-from", "novel")
    check_refusal(foreign, 3, "clip:demo has no novel classes: what it was trained on is unknown")


def test_what_cannot_be_read(model: Path, photos: Path) -> None:
    (photos / "a_cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = predict(model, photos.parent, "photos", "-o", "p.csv")
    assert done.stdout == ""
    assert "warning: 'photos/a_cut.png' cannot be decoded: it begins as PNG, but is damaged" in done.stderr
    assert "p.csv: 7 of 8 images; 1 could not be read" in done.stderr.splitlines()
    rows = list(csv.DictReader(io.StringIO((photos.parent / "p.csv").read_text())))
    assert (rows[0]["path"], rows[0]["name"]) == ("photos/a_cut.png", "")
    assert "damaged" in rows[0]["error"]
    assert all(row["name"] and not row["error"] for row in rows[1:])
    done = inside(photos.parent, "predict", model, "photos/a_cut.png", "--json")
    assert done.code == 3
    what = json.loads(done.stderr.splitlines()[-1])["what"]
    assert what.startswith("'photos/a_cut.png' cannot be decoded")
    (photos / "b_cut.png").touch()
    both = inside(photos.parent, "predict", model, "photos/a_cut.png", "photos/b_cut.png")
    check_refusal(both, 3, "none of the 2 images could be read, for example 'photos/a_cut.png' cannot be decoded")
    (line,), summary = records(done)
    assert (line["name"], summary["unreadable"]) == (None, 1)


def test_what_is_refused_before_anything_is_read(model: Path, photos: Path) -> None:
    here = photos.parent
    for args, code, says in (
        (("nowhere",), 3, "'nowhere' does not exist"),
        (("photos/*.gif",), 3, "no file matches 'photos/*.gif'"),
        (("photos", "-o", "p.txt"), 2, "not the name of a file of predictions"),
        (("photos", "--sort-into", "photos/sorted"), 2, "overlap"),
        (("photos", "--save-attacked", "photos"), 2, "'photos' is not empty"),
        (("photos", "--save-attacked", photos / "more/x.png", "-o", photos / "more/x.png"), 2, "not the name of a file"),
        (("photos", "--norm", "l2"), 2, "--norm has no effect without an attack"),
        (("photos", "--robust-to", "8"), 2, "Did you mean 8/255"),
        (("photos", "--robust-to", "0"), 2, "--robust-to is 0"),
        (("photos", "--robust-to", "8/255", "--suite", "quik"), 2, "unknown suite 'quik'"),
        (("photos", "-0"), 2, "-0 is about a list of paths on standard input"),
        (("photos", "-q"), 2, "--quiet prints no answers"),
        (("photos", "-o", "-", "--json"), 2, "-o - is CSV on standard output"),
        (("photos", "--save-attacked", "x.jpg"), 2, "'x.jpg' is the name of a file"),
        (("photos", "--top", "0"), 2, "--top is 0"),
        (("photos", "--resize", "16"), 2, "--resize 16 does not fit the model, which takes 32x32 images"),
    ):
        check_refusal(inside(here, "predict", model, *args), code, says)
    (here / "empty").mkdir()
    (here / "p.csv").write_text("before")
    check_refusal(inside(here, "predict", model, "empty", "-o", "p.csv"), 3, "there are no images in 'empty'")
    assert (here / "p.csv").read_text() == "before"


def test_attacks_copies_and_a_sheet(model: Path, photos: Path) -> None:
    args = ("photos", "--robust-to", "8/255", "--save-attacked", "sheet.png", "--sort-into", "sorted", "-o", "p.jsonl")
    done = predict(model, photos.parent, *args)
    lines = [json.loads(line) for line in (photos.parent / "p.jsonl").read_text().splitlines()]
    assert {line["falls_at"] for line in lines} <= {None, "1/255", "2/255", "4/255", "8/255"}
    assert all(line["stands"] == (line["falls_at"] is None) for line in lines)
    stand = sum(line["stands"] for line in lines)
    assert f"{stand} of 7 answers stand in Linf 8/255: an upper bound on robustness" in done.stderr
    for line in lines:
        assert (photos.parent / "sorted" / line["name"].replace(" ", "_") / Path(line["path"]).name).is_file()
    assert "sorted: 7 copies" in done.stderr
    assert "sheet.png: 6 attacked images" in done.stderr
    with Image.open(photos.parent / "sheet.png") as sheet:
        assert np.asarray(sheet.convert("L")).min() < 50
    done = predict(model, photos.parent, "photos/more", "--save-attacked", "attacked", "--suite", "quick", "--eot", 2)
    assert "stand" not in done.stderr
    assert [path.name for path in sorted((photos.parent / "attacked").iterdir())] == [
        f"0000{at}_{path.stem}.png" for at, path in enumerate(sorted(photos.glob("more/*")), 1)
    ]


def test_csv_on_standard_output(model: Path, photos: Path) -> None:
    done = predict(model, photos.parent, "photos/more", "-o", "-")
    assert done.stderr.splitlines()[0] == "2 images"
    assert [row["path"] for row in csv.DictReader(io.StringIO(done.stdout))] == [
        f"photos/more/{path.name}" for path in sorted(photos.glob("more/*"))
    ]


def test_columns_of_a_terminal_fit_into_80_characters(model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = photos / ("long name " * 8 + ".png")
    next(photos.glob("*.png")).rename(long)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    done = predict(model, photos.parent, "photos", "--top", 2, "--robust-to", "8/255", width=80)
    head, *lines = done.stdout.splitlines()
    assert head.split("  ")[0] == "path"
    assert f"photos/{long.name}" in lines
    figures = [line for line in lines if not line.endswith((".png", ".jpg"))]
    assert len(figures) == 14
    assert all(len(line) <= 80 for line in figures)
    assert len({line.rindex(".", 0, 60) for line in figures}) == 1
