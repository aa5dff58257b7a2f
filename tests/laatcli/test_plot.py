"""`laat plot` on the folder of a real run, and on a report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from stages.reports.report import report_bytes
from tests.laatcli.conftest import Pipeline
from tests.laatcli.inside import inside
from tests.laatcli.shell import check_refusal, run, run_on_full_disk, tree
from tests.stages.reports.test_report import report as small_report
from tests.stages.reports.test_shots import episodes


@pytest.fixture
def runs(pipeline: Pipeline, tmp_path: Path) -> Path:
    """A folder with the runs one/ and two/."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(pipeline.folder / "run/metrics.jsonl", tmp_path / name)
    return tmp_path


def test_the_curves_of_a_run_land_beside_its_metrics(runs: Path) -> None:
    done = run("plot", "one/", cwd=runs)
    assert done.code == 0, done.stderr
    assert sorted(path.name for path in (runs / "one").iterdir()) == ["curves.png", "metrics.jsonl"]
    with Image.open(runs / "one/curves.png") as picture:
        assert (picture.format, picture.width > 1200) == ("PNG", True)
    assert "best epoch" in done.stdout
    assert "one/curves.png" in done.stdout


def test_several_runs_in_one_picture(runs: Path) -> None:
    (metrics,) = [json.loads(line) for line in (runs / "one/metrics.jsonl").read_text().splitlines()]
    record = json.loads(run("plot", "one", "two", "-o", "both.png", "--json", cwd=runs).stdout)
    assert record["output"] == "both.png"
    best = {"epochs": 1, "best_epoch": 1, **{name: metrics[name] for name in ("selection_clean", "selection_robust")}}
    assert record["runs"] == [{"run": "one", **best}, {"run": "two", **best}]
    assert (runs / "both.png").is_file()
    assert run("plot", "one", "two", "--quiet", cwd=runs) == (0, "", "")
    assert (runs / "curves.png").read_bytes() == (runs / "both.png").read_bytes()
    assert not (runs / "one/curves.png").exists()


def test_a_report_is_drawn_beside_it_or_as_asked(pipeline: Pipeline, runs: Path) -> None:
    shutil.copy(pipeline.folder / "report.json", runs)
    assert run("plot", "report.json", "--quiet", cwd=runs) == (0, "", "")
    record = json.loads(run("plot", "report.json", "-o", "r.pdf", "--plot-size", "column", "--json", cwd=runs).stdout)
    assert record == {"output": "r.pdf", "report": "report.json"}
    assert (runs / "report.png").read_bytes().startswith(b"\x89PNG")
    assert (runs / "r.pdf").read_bytes().startswith(b"%PDF")


def test_the_runs_of_a_setting_are_averaged(pipeline: Pipeline, runs: Path) -> None:
    shutil.copy(pipeline.model, runs / "one")
    done = inside(runs, "plot", "--figure", "curves", "one", "two", "--json")
    assert done.code == 0, done.stderr
    settings = json.loads(done.stdout)["settings"]
    assert [(one["name"], [run["run"] for run in one["runs"]]) for one in settings] == [
        ("laat, expanded random anchors", ["one"]),
        ("two", ["two"]),
    ]
    assert done.stderr == "'two' has no model.st that says how it was trained: it is drawn alone\n"
    assert (runs / "curves.png").is_file()
    shutil.copy(pipeline.model, runs / "two")
    check_refusal(inside(runs, "plot", "--figure", "curves", "one", "two"), 2, "'one' and 'two' are the same run")
    done = inside(runs, "plot", "--figure", "curves", "one")
    assert "laat, expanded random anchors     1       1" in done.stdout


def test_shots_of_several_reports_are_one_figure(tmp_path: Path) -> None:
    for name, found in {"images": episodes(0), "blend": episodes(0, blend=2, counts=(1, 5))}.items():
        (tmp_path / f"{name}.json").write_bytes(report_bytes(found))
    plot = ("plot", "--figure", "shots")
    done = inside(tmp_path, *plot, "images.json", "blend.json", "--json")
    assert done.code == 0, done.stderr
    lines = json.loads(done.stdout)["lines"]
    assert [(one["anchors"], one["shots"]) for one in lines] == [
        ("images", [1, 5]),
        ("names and images, blend 2", [1, 5]),
        ("0-shot, names alone", [0]),
    ]
    assert lines[0]["robust"]["accuracy"] == pytest.approx([0.41, 0.45])
    assert (tmp_path / "shots.png").is_file()
    done = inside(tmp_path, *plot, "images.json")
    assert "0-shot, names alone      0     1     80.0      40.0" in done.stdout
    (tmp_path / "eps4.json").write_bytes(report_bytes(episodes(1, eps=4)))
    check_refusal(inside(tmp_path, *plot, "images.json", "eps4.json"), 3, "different threat models")


def test_reports_in_no_security_curve_are_refused(tmp_path: Path) -> None:
    for name, eps in (("four", "4/255"), ("eight", "8/255"), ("again", "8/255")):
        threat = small_report().threat.model_copy(update={"eps": eps})  # type: ignore[union-attr]
        (tmp_path / f"{name}.json").write_bytes(report_bytes(small_report().model_copy(update={"threat": threat})))
    plot = ("plot", "--figure", "security", "four.json", "eight.json")
    done = inside(tmp_path, *plot)
    assert (done.code, done.stdout) == (0, "security.png: accuracy over eps of 2 reports\n")
    check_refusal(inside(tmp_path, *plot, "again.json"), 3, "not in any curve: 'again.json'", "Leave it out")


def test_the_expansion_is_drawn_from_raw_or_expanded_anchors(pipeline: Pipeline, tmp_path: Path) -> None:
    for name in ("anchors.st", "expanded.st"):
        shutil.copy(pipeline.folder / name, tmp_path)
    plot = ("plot", "--figure", "expansion")
    for args in (("anchors.st", "-o", "a.png"), ("expanded.st", "-o", "b.png"), ("expanded.st", "anchors.st", "--quiet")):
        done = inside(tmp_path, *plot, *args)
        assert done.code == 0, done.stderr
    drawn = {(tmp_path / name).read_bytes() for name in ("a.png", "b.png", "expansion.png")}
    assert len(drawn) == 1
    inside(tmp_path, "anchors", "--names", "a,b,c", "--source", "simplex", "--dim", 4, "-o", "simplex.st")
    refused = inside(tmp_path, *plot, "expanded.st", "simplex.st")
    check_refusal(refused, 3, "'simplex.st' is not the file that 'expanded.st' was expanded from")
    check_refusal(inside(tmp_path, *plot, "anchors.st", "simplex.st"), 2, "are both raw anchors")
    check_refusal(inside(tmp_path, *plot, "expanded.st", "-o", "anchors.st"), 2, "'anchors.st' is not the name of a picture")
    (tmp_path / "anchors.st").unlink()
    check_refusal(inside(tmp_path, *plot, "expanded.st"), 3, "no file beside 'expanded.st'", "Name its raw anchors too")
    check_refusal(inside(tmp_path, *plot, "a.st", "b.st", "c.st"), 2, "more than two files of anchors")


def test_it_needs_no_torch(runs: Path) -> None:
    script = (
        "import sys\nsys.modules['torch'] = None\nfrom laatcli.app import app\napp(['plot', 'one'], standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=runs, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (runs / "one/curves.png").is_file()


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("three",), 3, ["'three' does not exist", "laat train"]),
        (("one", "damaged"), 3, ["'damaged/metrics.jsonl' line 2 is cut off"]),
        (("one", "./one/"), 2, ["'one' is given twice"]),
        (("one", "-o", "-"), 2, ["--output cannot be standard output"]),
        (("one", "-o", "c.jpg"), 2, ["'c.jpg' is not the name of a picture", ".svg"]),
        (("one", "--plot-size", "a4"), 2, ["unknown --plot-size 'a4'", "column, page, slide"]),
        (("none.json",), 3, ["'none.json' does not exist"]),
        (("one", "one/metrics.jsonl"), 2, ["'one/metrics.jsonl' is a file, given with other sources"]),
        (("one", "-o", "two"), 4, ["cannot write 'two': a folder is in the way"]),
        (("one", "-o", "one/metrics.jsonl/c.png"), 4, ["cannot write 'one/metrics.jsonl/c.png'"]),
        ((), 2, ["laat plot --help"]),
    ],
    ids=["none", "damaged", "twice", "pipe", "format", "size", "no-report", "both", "folder", "file", "nothing"],
)
def test_refusals_write_nothing(runs: Path, args: tuple[str, ...], code: int, says: list[str]) -> None:
    (runs / "damaged").mkdir()
    (runs / "damaged/metrics.jsonl").write_text((runs / "one/metrics.jsonl").read_text() + '{"epoch": 2,')
    before = tree(runs)
    check_refusal(run("plot", *args, cwd=runs), code, *says)
    assert tree(runs) == before


def test_a_full_disk_keeps_the_picture_that_was_there(runs: Path) -> None:
    assert run("plot", "two", cwd=runs).code == 0  # leaves the list of fonts that a full disk has no room for
    (runs / "one/curves.png").write_text("the old one")
    before = tree(runs)
    check_refusal(run_on_full_disk("plot", "one", cwd=runs, room=2000), 4, "cannot write 'one/curves.png'")
    assert tree(runs) == before
