"""`laat merge`, and what follows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.laatcli.conftest import QUICK, class_folders
from tests.laatcli.inside import all_inside, inside
from tests.laatcli.shell import check_refusal

NAMES = ("red circle", "blue star", "green ring", "yellow heart")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with anchors of several sources, merged ones, and a checkpoint that was trained with these."""
    folder = tmp_path_factory.mktemp("merge")
    class_folders(folder / "photos", 4, names=NAMES)
    (folder / "c.txt").write_text("\n".join(NAMES))
    classes = ("anchors", "--classes", "c.txt", "--seen", 3)
    all_inside(
        folder,
        (*classes, "--model", "demo", "-o", "photo.st"),
        (*classes, "--model", "demo", "--template", "a drawing of a {}", "-o", "drawing.st"),
        (*classes, "--source", "random", "--dim", 5, "-o", "random.st"),
        ("expand", "drawing.st", "--method", "centre", "-o", "centred.st"),
        ("merge", "photo.st", "centred.st", "--weights", "3,1"),
        ("expand", "merged.st"),
        ("train", "--data", "photos", *QUICK),
    )
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_what_is_merged_is_shown_and_recorded(here: Path) -> None:
    done = inside(here, "merge", "photo.st", "centred.st", "random.st", "--weights", "2,1,1", "-o", "three.st")
    assert done.code == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "three.st: 4 anchors of width 133" in lines
    assert "photo.st text, demo raw 64 0.5" in lines
    assert "centred.st text, demo centred 64 0.25" in lines
    assert "random.st random raw 5 0.25" in lines
    record = json.loads(inside(here, "inspect", "three.st", "--json").stdout)
    parts = record["params"]["origin"]["parts"]
    assert [part["origin"]["source"] for part in parts] == ["text", "text", "random"]
    assert [part["map"] and part["map"]["method"] for part in parts] == [None, "centre", None]
    hashes = {name: json.loads(inside(here, "inspect", name, "--json").stdout)["sha256"] for name in ("photo.st", "random.st")}
    assert record["inputs"]["anchors 1"]["sha256"] == hashes["photo.st"]
    assert record["inputs"]["anchors 3"]["sha256"] == hashes["random.st"]
    assert record["inputs"]["anchors 2"]["inputs"]["anchors"]["kind"] == "anchors"
    assert "origin.parts.2.map.method" in inside(here, "inspect", "three.st").stdout
    again = inside(here, "merge", "photo.st", "centred.st", "random.st", "--weights", "4,2,2", "-o", "again.st", "--json")
    assert again.code == 0
    assert (here / "again.st").read_bytes() == (here / "three.st").read_bytes()
    assert json.loads(again.stdout)["origin"] == record["params"]["origin"]


def test_new_names_are_encoded_by_every_part(here: Path) -> None:
    done = inside(here, "predict", "run/model.st", "photos", "--names", "cyan cross,blue star")
    assert done.code == 0, done.stderr
    assert "loading demo" in done.stderr
    done = inside(here, "anchors", "--names", "blue star", "--like", "run/model.st", "-o", "new.st")
    assert done.code == 0, done.stderr
    new, trained = (load_file(here / name)["vectors"] for name in ("new.st", "expanded.st"))
    assert abs(new[0] - trained[1]).max() < 1e-5
    (here / "n.txt").write_text("blue star\nyellow heart\n")
    args = ("--classes", "n.txt", "--classes-from", "all", "--attack", "fgsm", "--no-checks")
    done = inside(here, "eval", "run/model.st", "--data", "photos", *args)
    assert done.code == 0, done.stderr


def test_a_part_without_an_encoder_takes_anchors_made_alike(here: Path) -> None:
    assert inside(here, "merge", "photo.st", "random.st").code == 0
    assert inside(here, "train", "--anchors", "merged.st", "--data", "photos", *QUICK, "--out", "other").code == 0
    train = ("train", "--anchors", "merged.st", "--data", "photos", "--objective", "tecoa", *QUICK, "--out", "tecoa")
    done = inside(here, *train)
    check_refusal(done, 2, "they are merged. Add --tau 0.01")
    assert "laat anchors" not in done.stderr  # made again, they would have none either
    like = ("anchors", "--names", "cyan cross", "--like", "merged.st", "-o", "like.st")
    check_refusal(inside(here, *like), 3, "come from random", "Make anchors of the names from each source, and merge them")
    names = ("predict", "other/model.st", "photos", "--names", "cyan cross,blue star")
    says = "the checkpoint's anchors are merged, and part 2's anchors come from random, which cannot encode names"
    check_refusal(inside(here, *names), 3, says, "merge them with `laat merge`", "--anchors FILE.st")
    for line in (
        ("anchors", "--names", "cyan cross,blue star", "--model", "demo", "-o", "one.st"),
        ("anchors", "--names", "Blue_Star,cyan cross", "--source", "random", "--dim", 5, "-o", "two.st"),
        ("merge", "one.st", "two.st", "-o", "new.st"),
        ("predict", "other/model.st", "photos", "--anchors", "new.st"),
    ):
        done = inside(here, *line)
        assert done.code == 0, done.stderr
    assert "cyan cross" in done.stdout
    assert inside(here, "merge", "two.st", "one.st", "-o", "new.st").code == 0
    check_refusal(inside(here, "predict", "other/model.st", "photos", "--anchors", "new.st"), 3, "of part 1 is")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("photo.st",), 2, "one file of anchors is given, 'photo.st'. Name two or more"),
        (("photo.st", "photo.st"), 2, "'photo.st' is given twice"),
        (("photo.st", "photos/../photo.st"), 2, "photo.st' is given twice"),
        (("photo.st", "random.st", "--weights", "1"), 2, "--weights has 1 number for 2 files"),
        (("photo.st", "random.st", "--weights", "1,half"), 2, "--weights '1,half' is not numbers"),
        (("photo.st", "random.st", "--weights", "1,0"), 2, "--weights has 0, which is not a finite number above 0"),
        (("photo.st", "random.st", "--weights", "1,nan"), 2, "--weights has nan"),
        (("photo.st", "random.st", "-o", "random.st"), 2, "--output would replace 'random.st', which ANCHORS reads"),
        (("photo.st", "run/model.st"), 3, "model"),
        (("photo.st", "nowhere.st"), 3, "'nowhere.st' does not exist"),
        ((), 2, "laat merge --help"),
    ],
)
def test_what_is_refused(args: tuple[str, ...], code: int, says: str, here: Path) -> None:
    before = sorted(here.rglob("*"))
    check_refusal(inside(here, "merge", *args), code, says)
    assert sorted(here.rglob("*")) == before
