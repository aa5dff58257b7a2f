"""`laat benchmark`: the cells, the table, resuming, failures and what is missing."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from stages.benchmark import run
from tests.laatcli.conftest import NAMES, SEEN, Pipeline
from tests.laatcli.inside import inside
from tests.laatcli.shell import Done, tree

TOML = """
title = "small"
eps = ["2/255", "4/255"]
suites = ["quick"]
max-images = 8

[[data]]
name = "photos"
data = "photos"

[[data]]
name = "renamed"
data = "photos"
classes = "names.txt"
"""
CELLS = [f"{name}-linf-{eps}-255-quick" for name in ("photos", "renamed") for eps in (2, 4)]


@pytest.fixture(scope="module")
def start(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, photos of its novel classes, a benchmark of two cells a data set, and what it gave."""
    here = tmp_path_factory.mktemp("benchmark") / "here"
    (here / "run").mkdir(parents=True)
    shutil.copy(pipeline.model, here / "run/model.st")
    for name in NAMES[SEEN:]:
        folder = name.replace(" ", "_")
        shutil.copytree(pipeline.photos / "test" / folder, here / "photos/test" / folder)
    # the other way round: lines belong to labels by name
    (here / "names.txt").write_text("\n".join(reversed(NAMES[SEEN:])) + "\n")
    (here / "small.toml").write_text(TOML)
    done = bench(here, "run/model.st", "--plot", "curves.svg")
    assert done.code == 0, done.stderr
    (here / "said.txt").write_text(done.stdout)
    return here


@pytest.fixture
def here(start: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(start, tmp_path / "here"))


def bench(here: Path, *args: object, name: str = "small.toml") -> Done:
    return inside(here, "benchmark", name, *args, "-o", "out", "--no-checks", width=200)


def record(done: Done) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def states(done: Done) -> dict[str, str]:
    return {Path(cell["report"]).stem: cell["state"] for cell in record(done)["cells"]}


def test_every_cell_is_an_ordinary_report(start: Path) -> None:
    assert [path.name for path in sorted((start / "out").iterdir())] == ["run"]
    files = {path.name for path in (start / "out/run").iterdir()}
    assert files == {f"{cell}{end}" for cell in CELLS for end in (".json", ".rows.parquet")}
    paths = [f"out/run/{cell}.json" for cell in CELLS]
    shown = inside(start, "report", *paths, "--json")
    assert shown.code == 0
    assert len(json.loads(shown.stdout)["tables"]) == 4


def test_the_table_has_clean_and_robust_of_every_data_set_and_averages_of_the_reports(start: Path) -> None:
    done = bench(start, "run/model.st", "--json")
    tables = record(done)["tables"]
    assert [table["title"] for table in tables] == [
        f"small: accuracy %, attacks in Linf {eps}/255, suite quick v1" for eps in (2, 4)
    ]
    row = dict(zip(tables[0]["columns"], tables[0]["rows"][0], strict=True))
    for name in ("photos", "renamed"):
        entry = json.loads((start / f"out/run/{name}-linf-2-255-quick.json").read_text())["results"][0]
        assert row[f"{name} clean"] == entry["clean"]["accuracy"]
        assert row[f"{name} robust"] == entry["worst"]["accuracy"]
    assert row["average of 2 data sets, clean"] == pytest.approx((row["photos clean"] + row["renamed clean"]) / 2)
    assert "photos clean" in (start / "said.txt").read_text()


def test_names_in_another_order_change_no_accuracy(start: Path) -> None:
    """A class-name file is matched by name: the same decisions."""
    reports = [json.loads((start / f"out/run/{name}-linf-4-255-quick.json").read_text()) for name in ("photos", "renamed")]
    assert reports[0]["results"][0]["clean"] == reports[1]["results"][0]["clean"]


def test_finished_cells_are_skipped(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(here)
    monkeypatch.setattr(run, "evaluate_classifiers", None)  # would fail
    done = bench(here, "run/model.st", "--json")
    assert states(done) == dict.fromkeys(CELLS, "up to date")
    assert done.code == 0
    assert tree(here) == before


def test_a_changed_parameter_computes_only_its_cells(here: Path) -> None:
    (here / "small.toml").write_text(
        TOML.replace('"2/255", ', "").replace('[[data]]\nname = "renamed"', '[[data]]\nname = "new"')
    )
    done = bench(here, "run/model.st", "--json")
    assert states(done) == {CELLS[1]: "up to date", "new-linf-4-255-quick": "done"}
    again = bench(here, "run/model.st", "--json", "--seed", 3)
    assert set(states(again).values()) == {"computed again"}
    assert "--seed was 0 and is 3" in again.stderr


def test_another_model_computes_only_its_cells(here: Path) -> None:
    done = bench(here, "run/model.st", "other=run/model.st", "--json")
    assert done.code == 2
    assert "a model is given twice" in done.stderr
    shutil.copy(here / "run/model.st", here / "copy.st")
    done = bench(here, "run/model.st", "other=copy.st", "--json")
    assert [cell["state"] for cell in record(done)["cells"] if cell["model"] == "run"] == ["up to date"] * 4
    assert [cell["state"] for cell in record(done)["cells"] if cell["model"] == "other"] == ["done"] * 4
    assert (here / "out/other" / f"{CELLS[0]}.json").is_file()
    rows = record(done)["tables"][0]["rows"]
    assert rows[0][1:] == rows[1][1:]


def test_failures_are_listed_and_the_rest_is_done(here: Path) -> None:
    (here / "names.txt").write_text("red star\nno such thing\n")
    done = bench(here, "run/model.st", "--json", "--max-images", 6)
    assert done.code == 5
    failed = record(done)["failed"]
    assert [one["cells"] for one in failed] == ["run on renamed (2 cells)"]
    assert "'no such thing' of 'names.txt' is no class of the data 'photos'" in failed[0]["what"]
    assert states(done) == dict(zip(CELLS, ["computed again"] * 2 + ["failed"] * 2, strict=True))
    table = record(done)["tables"][0]
    assert not any("average" in name or "renamed" in name for name in table["columns"])
    assert "left out, as all cells failed: renamed" in table["notes"]
    assert "2 of 4 cells failed" in done.stderr.splitlines()[-1]


def test_a_bug_is_shown_with_debug_and_no_cell_keeps_the_images_of_another(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images: list[weakref.ref[Any]] = []
    others: list[int] = []

    def broken(task: Any, **more: Any) -> Any:
        gc.collect()
        others.append(sum(one() is not None and one() is not task.whole for one in images))
        images.append(weakref.ref(task.whole))
        try:
            raise ValueError("inner")
        except ValueError:
            raise KeyError("outer")  # noqa: B904

    monkeypatch.setattr(run, "evaluate_classifiers", broken)
    done = bench(here, "run/model.st", "--force", "--debug")
    assert done.code == 1
    assert others == [0] * 4
    assert done.stderr.count('raise ValueError("inner")') == done.stderr.count('raise KeyError("outer")') == 4
    assert "unexpected error: KeyError: 'outer'" in done.stderr
    assert "Traceback" not in bench(here, "run/model.st", "--force").stderr


def test_averages_are_over_the_data_sets_of_all_models(here: Path) -> None:
    """One model fails on one of three data sets: no average has it, and the table says so."""
    third = '[[data]]\nname = "third"\ndata = "photos"\nsplit = "test"\n'
    (here / "small.toml").write_text(TOML.replace('"2/255", ', "") + third)
    shutil.copy(here / "run/model.st", here / "copy.st")
    (here / "out/other").mkdir()
    (here / "out/other/renamed-linf-4-255-quick.json").write_text("not a report")
    done = bench(here, "run/model.st", "other=copy.st", "--json")
    assert done.code == 5
    (table,) = record(done)["tables"]
    assert "average of 2 data sets, clean" in table["columns"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert rows[1]["renamed clean"] == "–"
    assert all(row["average of 2 data sets, robust"] == rows[0]["photos robust"] for row in rows)
    assert "renamed is in no average: no figures of other" in table["notes"]
    assert "the averages are not over the whole benchmark" in table["notes"]


def test_a_copy_of_the_user_may_be_class_folders(here: Path) -> None:
    """The benchmark names a table on the hub, its columns and its split; the copy has none of these."""
    table = '[[data]]\nname = "photos"\ndata = "org/table"\nimage-column = "img"\nlabel-column = "y"\nsplit = "validation"\n'
    (here / "hub.toml").write_text(f"eps = ['4/255']\nmax-images = 8\n{table}")
    done = bench(here, "run/model.st", "--root", ".", "--json", name="hub.toml")
    assert done.code == 0, done.stderr
    assert states(done) == {CELLS[1]: "up to date"}


def test_a_file_that_is_no_report_is_not_replaced(here: Path) -> None:
    mine = here / "out/run" / f"{CELLS[0]}.json"
    mine.write_text("mine")
    done = bench(here, "run/model.st", "--json")
    assert done.code == 5
    assert states(done)[CELLS[0]] == "failed"
    assert mine.read_text() == "mine"
    assert bench(here, "run/model.st", "--force").code == 0


def test_an_interruption_leaves_the_finished_cells(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(here / "out")
    real, calls = run.evaluate_classifiers, []

    def stops(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(run, "evaluate_classifiers", stops)
    assert bench(here, "run/model.st").code == 130
    assert states(bench(here, "run/model.st", "--json")) == dict(zip(CELLS, ["up to date"] * 2 + ["done"] * 2, strict=True))


def test_all_missing_data_sets_are_named_before_anything_starts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    more = '[[data]]\nname = "gone"\ndata = "no/folder/here"\n[[data]]\nname = "none"\n'
    (here / "small.toml").write_text(TOML + more)
    before = tree(here)
    done = bench(here, "run/model.st")
    assert done.code == 4
    assert "2 of 4 data sets missing" in done.stderr
    assert all(text in done.stderr for text in ("'gone' (", "'none' (no source is known", "--skip-missing"))
    assert tree(here) == before
    done = bench(here, "run/model.st", "--skip-missing", "--json")
    assert done.code == 0
    assert record(done)["missing"] == ["gone", "none"]
    assert any("left out, as the data are missing: gone, none" in note for note in record(done)["tables"][0]["notes"])
    shutil.copytree(here / "photos", here / "mine/none")
    assert "1 of 4 data sets missing" in bench(here, "run/model.st", "--root", "mine").stderr


def test_a_dry_run_lists_the_cells_and_writes_nothing(here: Path) -> None:
    shutil.rmtree(here / "out/run")
    before = tree(here)
    found = record(bench(here, "run/model.st", "--dry-run", "--json"))
    assert [cell["report"] for cell in found["cells"]] == [f"out/run/{cell}.json" for cell in CELLS]
    assert not any(cell["exists"] for cell in found["cells"])
    assert tree(here) == before


@pytest.mark.parametrize("form", ["markdown", "csv", "latex"])
def test_other_formats(start: Path, form: str) -> None:
    done = bench(start, "run/model.st", "--format", form)
    assert done.code == 0
    assert {"markdown": "| model |", "csv": "model,photos clean,photos clean low", "latex": r"\toprule"}[form] in done.stdout


def test_the_security_curve(start: Path) -> None:
    """Drawn by the benchmark and, from its reports, by `laat plot`: the same bytes."""
    reports = [f"out/run/{cell}.json" for cell in CELLS]
    done = inside(start, "plot", "--figure", "security", *reports, "-o", "again.svg")
    assert done.code == 0, done.stderr
    assert (start / "again.svg").read_bytes() == (start / "curves.svg").read_bytes()
    done = inside(start, "plot", "--figure", "security", reports[0], "-o", "one.svg")
    assert done.code == 3
    assert "differ in eps alone" in done.stderr


def test_bare_weights_take_an_architecture(here: Path) -> None:
    """The weights of the bundled CLIP model give the figures of the model itself."""
    one = TOML[: TOML.rindex("[[data]]")].replace(', "4/255"', "")
    (here / "one.toml").write_text(one + "resize = 32\n")
    weights = Path(str(resources.files("stages.anchors").joinpath("demo_clip/open_clip_model.safetensors")))
    models = (f"bare={weights}", "whole=clip:demo")
    done = bench(here, *models, "--architecture", "clip:demo", "--json", name="one.toml")
    assert done.code == 0, done.stderr
    bare, whole = record(done)["tables"][0]["rows"]
    assert bare[1:] == whole[1:]
    refused = bench(here, models[0], "--json", "--force", name="one.toml")
    assert "add --architecture" in refused.stderr
