"""Folders, files and arguments whose names are not UTF-8: commands work, or refuse before they compute anything."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from stages.reports.report import read_report
from tests.laatcli.conftest import QUICK, Pipeline
from tests.laatcli.inside import inside

ODD = os.fsdecode(b"caf\xe9")
SPELLED = "caf\\xe9"
ATTACK = ("--attack", "fgsm", "--no-checks")


@pytest.fixture
def odd(pipeline: Pipeline, tmp_path: Path) -> Path:
    """A folder whose name is not UTF-8, with photos and a run that have such names, too."""
    folder = tmp_path / ODD
    shutil.copytree(pipeline.photos, folder / ODD)
    shutil.copytree(pipeline.folder / "run", folder / f"run-{ODD}")
    shutil.copy(pipeline.folder / "expanded.st", folder / f"{ODD}.st")
    shutil.copy(pipeline.folder / "report.json", folder / f"{ODD}.json")
    shutil.copy(pipeline.folder / "report.rows.parquet", folder)
    return folder


def test_train_eval_and_attack_spell_the_names_in_what_they_write(odd: Path) -> None:
    run = f"run-{ODD}/model.st"
    done = inside(odd, "eval", run, "--data", ODD, *ATTACK, "-o", "made.json", "--plot", f"{ODD}.png")
    assert done.code == 0, done.stderr
    report = read_report(odd / "made.json")
    assert report.data.source == SPELLED
    assert [model.name for model in report.models] == [f"run-{SPELLED}"]
    assert f"run-{SPELLED}" in done.stdout
    done = inside(
        odd, "attack", run, "--data", ODD, "--attack", "fgsm", "-o", f"{ODD}-saved.st", "--png", f"{ODD}-png", "--json"
    )
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["output"] == f"{SPELLED}-saved.st"
    done = inside(odd, "eval", run, "--adversarial", f"{ODD}-saved.st", "-o", "saved.json")
    assert done.code == 0, done.stderr
    done = inside(odd, "train", "--anchors", f"{ODD}.st", "--data", ODD, *QUICK, "--out", f"new-{ODD}", "--json")
    assert done.code == 0, done.stderr
    done = inside(odd, "inspect", f"new-{ODD}/model.st", "--json")
    assert json.loads(done.stdout)["params"]["training"]["data"]["source"] == SPELLED


@pytest.mark.parametrize(
    "args",
    [
        ("report", f"{ODD}.json"),
        ("report", f"{ODD}.json", "--format", "latex"),
        ("compare", f"{ODD}.json", f"{ODD}.json"),
        ("inspect", f"{ODD}.st"),
        ("inspect", f"{ODD}.st", "--json"),
        ("plot", f"run-{ODD}", "-o", f"{ODD}.png"),
        ("plot", f"run-{ODD}", "--json"),
        ("anchors", "--data", ODD, "--source", "random", "-o", f"{ODD}.st"),
    ],
)
def test_the_other_commands_read_and_show_them(odd: Path, args: tuple[str, ...]) -> None:
    done = inside(odd, *args)
    assert done.code == 0, done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("eval", "MODEL", "--data", ODD, *ATTACK, "-o", f"{ODD}-2.json"), "the report names it"),
        (("eval", "MODEL", "--data", ODD, *ATTACK, "--rows", f"{ODD}.parquet"), "--rows none"),
        (("anchors", "--data", ODD, "--template", f"{ODD} {{}}"), f"--template '{SPELLED} {{}}' is not UTF-8"),
        (("anchors", "--data", ODD, "--model", f"local-dir:{ODD}"), f"--model 'local-dir:{SPELLED}' is not UTF-8"),
        (("train", "--data", f"no-{ODD}", "--anchors", f"{ODD}.st"), f"the data 'no-{SPELLED}' does not exist"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(odd: Path, args: tuple[str, ...], says: str) -> None:
    before = sorted(odd.iterdir())
    done = inside(odd, *(f"run-{ODD}/model.st" if one == "MODEL" else one for one in args))
    assert done.code in (2, 3)
    assert says in done.stderr
    assert sorted(odd.iterdir()) == before


def test_rows_none_needs_no_name(odd: Path) -> None:
    done = inside(odd, "eval", f"run-{ODD}/model.st", "--data", ODD, *ATTACK, "-o", f"{ODD}-2.json", "--rows", "none")
    assert done.code == 0, done.stderr
    assert inside(odd, "report", f"{ODD}-2.json").code == 0


def test_groups_of_classes_from_a_file(odd: Path) -> None:
    (odd / f"{ODD}.txt").write_text("red star\ncyan cross\n", encoding="utf-8")
    choice = ("--classes-from", f"{ODD}.txt", "-o", "chosen.json")
    done = inside(odd, "eval", f"run-{ODD}/model.st", "--data", ODD, *ATTACK, *choice)
    assert done.code == 0, done.stderr
    assert {result.group for result in read_report(odd / "chosen.json").results} == {SPELLED}
