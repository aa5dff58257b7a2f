"""`laat anchors --descriptions`, and new names for anchors that were made so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.laatcli.conftest import QUICK, class_folders
from tests.laatcli.inside import all_inside, inside
from tests.laatcli.shell import check_refusal

SENTENCES = {
    "Red_Circle": ["A red circle is round.", "Something round and red."],
    "blue star": ["A blue star.", "A star that is blue.", "A star that is blue."],
    "green ring": ["A green ring."],
    "okapi": ["An okapi."],
}
MAKE = ("anchors", "--classes", "c.txt", "--descriptions", "d.json", "--model", "demo")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw and expanded anchors, and a checkpoint that was trained with them."""
    folder = tmp_path_factory.mktemp("descriptions")
    class_folders(folder / "photos", 4, names=("red circle", "blue star", "green ring"))
    (folder / "c.txt").write_text("red circle\nblue star\ngreen ring\n")
    (folder / "d.json").write_text(json.dumps(SENTENCES))
    all_inside(folder, (*MAKE, "--seen", 2), ("expand", "anchors.st"), ("train", "--data", "photos", *QUICK))
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_counts_and_what_is_odd_are_said(here: Path) -> None:
    done = inside(here, *MAKE, "--per-class", 2, "--seed", 5, "-o", "sampled.st")
    assert done.code == 0, done.stderr
    assert "warning: 'd.json' has 1 entry for no class here, not used: 'okapi'" in done.stderr
    assert "warning: 1 class has fewer than 2 sentences, all are used: 'green ring'" in done.stderr
    assert "descriptions: 3 of 5 sentences without the name of the class" in done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["1", "1", "'green", "ring'"] in rows
    assert ["2", "3", "'blue", "star'"] in rows
    said = json.loads(inside(here, *MAKE, "--json", "-o", "all.st").stdout)
    assert said["descriptions"] == {
        "classes": {
            "red circle": {"sentences": 2, "given": 2},
            "blue star": {"sentences": 3, "given": 3},
            "green ring": {"sentences": 1, "given": 1},
        },
        "unused": ["okapi"],
        "repeated": 1,
    }
    record = json.loads(inside(here, "inspect", "sampled.st", "--json").stdout)
    assert (record["params"]["origin"]["per_class"], record["params"]["origin"]["seed"]) == (2, 5)
    assert record["inputs"]["descriptions"]["kind"] == "descriptions"
    again = inside(here, *MAKE, "--per-class", 2, "--seed", 5, "-o", "again.st")
    assert again.code == 0
    assert (here / "again.st").read_bytes() == (here / "sampled.st").read_bytes()


def test_new_names_take_descriptions_of_their_own(here: Path) -> None:
    (here / "new.json").write_text(json.dumps({"okapi": ["An okapi."], "blue star": SENTENCES["blue star"]}))
    make = ("anchors", "--names", "okapi,blue star", "--descriptions", "new.json", "--like", "run/model.st", "-o", "new.st")
    done = inside(here, *make)
    assert done.code == 0, done.stderr
    new, trained = (load_file(here / name)["vectors"] for name in ("new.st", "expanded.st"))
    np.testing.assert_allclose(new[1], trained[1], atol=1e-5)  # the encoder and the map of training
    done = inside(here, "predict", "run/model.st", "photos", "--anchors", "new.st")
    assert done.code == 0, done.stderr
    assert "okapi" in done.stdout + done.stderr
    # a CLIP model classifies by them, too
    done = inside(here, "predict", "clip:demo", "photos", "--anchors", "anchors.st")
    assert done.code == 0, done.stderr


def test_new_names_tell_of_another_number_of_sentences(here: Path) -> None:
    make = ("anchors", "--names", "blue star", "--descriptions", "d.json", "-o", "new.st")
    all_inside(here, (*MAKE, "--per-class", 2, "-o", "two.st"))
    for like, more, says in (
        ("two.st", (), "'two.st' was made with --per-class 2, and these anchors without --per-class"),
        ("anchors.st", ("--per-class", 1), "'anchors.st' was made without --per-class, and these anchors with --per-class 1"),
        ("two.st", ("--per-class", 2), ""),
    ):
        done = inside(here, *make, "--like", like, *more)
        assert (done.code, "was made" in done.stderr) == (0, bool(says)), done.stderr
        assert says in done.stderr


def test_new_names_of_two_merged_files_are_refused(here: Path) -> None:
    all_inside(
        here, (*MAKE, "--seen", 2, "--per-class", 1, "-o", "two.st"), ("merge", "anchors.st", "two.st", "-o", "merged.st")
    )
    done = inside(here, "anchors", "--names", "blue star", "--like", "merged.st", "--descriptions", "d.json", "-o", "new.st")
    check_refusal(done, 3, "merged from 2 files of descriptions, and new names need as many")


def test_names_without_descriptions_are_refused_with_what_to_type(here: Path) -> None:
    said = "the checkpoint's anchors are means of sentences about each class, and new names need sentences of their own"
    fix = "Make them with `laat anchors --classes NEW.txt --descriptions FILE.json --like CHECKPOINT -o new.st`"
    check_refusal(inside(here, "predict", "run/model.st", "photos", "--names", "okapi,blue star"), 3, said, fix, "--anchors")
    like = ("anchors", "--names", "okapi", "--like", "anchors.st", "-o", "new.st")
    check_refusal(inside(here, *like), 3, "means of sentences", "Add --descriptions FILE.json")
    # classes that were trained on need none
    assert inside(here, "predict", "run/model.st", "photos", "--names", "red circle,blue star").code == 0


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (("--template", "a {}"), 2, "--template cannot be combined with --descriptions. Leave it out: the sentences"),
        (("--templates", "openai"), 2, "--templates cannot be combined with --descriptions"),
        (("--source", "random"), 2, "--source cannot be combined with --descriptions"),
        (("--features", "f.npy"), 2, "--features cannot be combined with --descriptions"),
        (("--dim", "8"), 2, "--dim cannot be combined with"),
        (("--seed", "3"), 2, "--seed has no effect without --per-class"),
        (("--per-class", "0"), 2, "--per-class"),
        (("-o", "d.json"), 2, "--output would replace 'd.json', which --descriptions reads"),
        (("--like", "text.st"), 2, "its anchors come from no descriptions"),
    ],
)
def test_what_is_refused(more: tuple[str, ...], code: int, says: str, here: Path) -> None:
    inside(here, "anchors", "--names", "red circle,blue star", "--model", "demo", "-o", "text.st")
    make = MAKE[:-2] if "--like" in more else MAKE
    check_refusal(inside(here, *make, *more), code, says)


def test_per_class_alone_is_refused(here: Path) -> None:
    done = inside(here, "anchors", "--classes", "c.txt", "--model", "demo", "--per-class", 2)
    check_refusal(done, 2, "--per-class has no effect without --descriptions")
