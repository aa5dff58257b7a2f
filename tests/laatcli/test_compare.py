"""Rows, formats and `laat compare` through the installed command, on reports of a trained model."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.laatcli.conftest import Pipeline
from tests.laatcli.shell import check_refusal, refused, run, run_on_full_disk, tree

EPISODES = ("--protocol", "episodes", "--ways", 2, "--queries", 3, "--shots", 1, "--episodes", 8)
FAST = ("--attack", "fgsm", "--attack", "pgd-2", "--no-checks", "--quiet")


@pytest.fixture(scope="module")
def reports(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images.json of two models; run.json and last.json of one each, and the same over episodes."""
    here = tmp_path_factory.mktemp("reports")
    shutil.copy(pipeline.model, here / "run.st")
    # another model on the same images: trained with other random numbers
    made = run(
        *("train", "--anchors", pipeline.folder / "expanded.st", "--data", pipeline.photos, "--quiet"),
        *("--backbone", "conv4-8", "--epochs", 2, "--steps", 1, "--batch-size", 16, "--seed", 7, "--out", "other"),
        cwd=here,
    )  # fmt: skip
    assert made.code == 0, made.stderr
    shutil.copy(here / "other/model.st", here / "other.st")
    for name, args in {
        "both.json": ("run.st", "other.st"),
        "run.json": ("run.st",),
        "other.json": ("other.st",),
        "run-episodes.json": ("run.st", *EPISODES),
        "other-episodes.json": ("other.st", *EPISODES),
        "seen.json": ("run.st", "--classes-from", "seen"),
    }.items():
        checks = ("--checks",) if name == "run.json" else ()
        done = run("eval", *args, "--data", pipeline.photos, *FAST, *checks, "-o", name, cwd=here)
        assert done.code == 0, done.stderr
    return here


def test_real_reports_fit_the_published_schema(reports: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    published = json.loads(run("report", "--schema", cwd=reports).stdout)
    for path in reports.glob("*.json"):
        jsonschema.Draft202012Validator(published).validate(json.loads(path.read_text()))


def edit(report: dict[str, Any], place: str, value: object) -> None:
    *parents, last = place.split(".")
    for key in parents:
        report = report[int(key)] if isinstance(report, list) else report[key]
    report[last] = value


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"results.0.clean.accuracy": 97.0}, "results[0].clean.accuracy is 97.0: input should be less than or equal to 1"),
        ({"results.0.clean.accuracy": 0.97}, "results[0].clean: accuracy 0.97 is outside its interval, "),
        ({"results.0.worst": {"accuracy": 0.2, "low": 0.3, "high": 0.2}}, "results[0].worst: accuracy 0.2 is outside its"),
        ({"results.0.clean.low": -0.1}, "results[0].clean.low is -0.1: input should be greater than or equal to 0"),
        (
            {"results.0.clean": {"accuracy": 0.97, "low": 0.9, "high": 1.0}},
            "results[0]: clean accuracy 0.97 is no share of 12 points",
        ),
        ({"results.0.model": "mine"}, "results[0] is of 'mine', which is not among the models"),
        ({"attacks": []}, "results[0] has other attacks than the report: fgsm, pgd-2"),
    ],
)
def test_an_edited_report_is_refused(reports: Path, tmp_path: Path, changes: dict[str, object], says: str) -> None:
    report = json.loads((reports / "run.json").read_text())
    for place, value in changes.items():
        edit(report, place, value)
    (tmp_path / "mine.json").write_text(json.dumps(report))
    told = f"'mine.json' is damaged or was edited: {says}", "Evaluate again with `laat eval`"
    refused(tmp_path, "report", "mine.json", code=3, says=told)
    check_refusal(run("compare", "mine.json", reports / "other.json", cwd=tmp_path), 3, *told)


def test_every_figure_of_a_report_follows_from_its_rows(reports: Path) -> None:
    for name in ("both.json", "run-episodes.json"):
        report = json.loads((reports / name).read_text())
        rows = pq.read_table(reports / report["rows"]["file"])
        column = {key: np.array(rows[key].to_pylist()) for key in rows.column_names}
        for entry in report["results"]:
            mine = (column["model"] == entry["model"]) & (column["group"] == entry["group"])
            clean = column["true_class"] == column["clean_prediction"]
            right = clean & (column["true_class"] == column["attacked_prediction"])
            standing = []
            for attack, value in entry["attacks"].items():
                of_attack = mine & (column["attack"] == attack)
                assert of_attack.sum() == entry["points"]
                assert value["accuracy"] == right[of_attack].mean()
                assert entry["clean"]["accuracy"] == clean[of_attack].mean()
                assert column["norm"][of_attack].max() <= 8 / 255 + 1e-6
                standing.append(right[of_attack])
            assert entry["worst"]["accuracy"] == np.logical_and.reduce(standing).mean()
            assert len(set(column["image"][mine])) == entry["images"]
            assert column["episode"][mine].max() == entry["episodes"] - 1


def flat(lists: list[list[int]]) -> list[int]:
    return [item for one in lists for item in one]


def test_episodes_are_saved_for_anyone_to_replay(reports: Path) -> None:
    assert json.loads((reports / "run.json").read_text())["episodes"] is None
    report = json.loads((reports / "run-episodes.json").read_text())
    episodes = pq.read_table(reports / report["episodes"]["file"]).to_pylist()
    assert len(episodes) == 8
    rows = pq.read_table(reports / report["rows"]["file"]).to_pylist()
    fgsm = [row for row in rows if row["attack"] == "fgsm"]
    for episode in episodes:
        mine = [row for row in fgsm if row["episode"] == episode["episode"]]
        assert [row["image"] for row in mine] == flat(episode["query"])
        assert [row["true_class"] for row in mine] == [name for name in episode["classes"] for _ in range(3)]
        assert not set(flat(episode["query"])) & set(flat(episode["support"]))
    other = json.loads((reports / "other-episodes.json").read_text())
    assert pq.read_table(reports / other["episodes"]["file"]).to_pylist() == episodes


def test_rows_name_their_images(reports: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    args = ("--max-per-class", "2", "--data", pipeline.photos, "--attack", "none", "--quiet")
    assert run("eval", reports / "run.st", *args, cwd=tmp_path).code == 0
    rows = pq.read_table(tmp_path / "report.rows.parquet").to_pylist()
    assert {row["attack"] for row in rows} == {"none"}
    photos = sorted(path.relative_to(pipeline.photos).as_posix() for path in (pipeline.photos / "test").rglob("*.png"))
    assert len(rows) < len(photos)
    assert max(row["row"] for row in rows) >= len(rows)
    for row in rows:
        assert (row["split"], row["image"], row["key"]) == ("test", row["row"], photos[row["row"]])
        assert Path(row["key"]).parent.name.replace("_", " ") == row["true_class"]


def test_rows_go_where_they_are_told_and_are_found_again(reports: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    common = ("eval", reports / "run.st", "--data", pipeline.photos, *FAST)
    assert run(*common, "-o", "there/a.json", "--rows", "rows/mine.parquet", cwd=tmp_path).code == 0
    assert json.loads((tmp_path / "there/a.json").read_text())["rows"]["file"] == "../rows/mine.parquet"
    assert run("compare", "there/a.json", reports / "run.json", cwd=tmp_path).code == 0
    assert run(*common, "-o", "there/b.json", "--rows", "none", cwd=tmp_path).code == 0
    assert sorted(tree(tmp_path)) == ["rows/mine.parquet", "there/a.json", "there/b.json"]
    check_refusal(run("compare", "there/a.json", "there/b.json", cwd=tmp_path), 3, "there/b.json' was written without its rows")
    check_refusal(run(*common, "--rows", "-", cwd=tmp_path), 2, "--rows cannot be standard output")
    check_refusal(run(*common, "--rows", "report.json", cwd=tmp_path), 2, "name the same file")


def test_a_full_disk_leaves_report_and_rows_as_they_were(reports: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    for name in ("run.json", "run.rows.parquet"):
        shutil.copy(reports / name, tmp_path)
    before = tree(tmp_path)
    args = ("eval", reports / "other.st", "--data", pipeline.photos, *FAST, "--force", "-o", "run.json")
    check_refusal(run_on_full_disk(*args, cwd=tmp_path, room=2000), 4, "cannot write 'run.")
    # a slow machine may also leave finished chunks, for the next try
    assert {name: data for name, data in tree(tmp_path).items() if not name.startswith(".run.json.parts")} == before


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("markdown", "| model | classes | chance | clean | fgsm | pgd-2 | worst |"),
        ("csv", "model,classes,chance,clean,clean low,clean high,fgsm,"),
        ("latex", r"model & classes & chance & clean & fgsm & pgd-2 & worst \\"),
    ],
)
def test_eval_prints_its_table_in_other_formats(pipeline: Pipeline, tmp_path: Path, form: str, says: str) -> None:
    args = ("--data", pipeline.photos, "--attack", "fgsm", "--attack", "pgd-2", "--format", form)
    done = run("eval", pipeline.model, *args, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert says in done.stdout
    assert "report:" not in done.stdout
    if form == "csv":
        (row,) = csv.DictReader(io.StringIO(done.stdout))
        entry = json.loads((tmp_path / "report.json").read_text())["results"][0]
        assert float(row["worst"]) == entry["worst"]["accuracy"]
        assert "Wilson 95 % over images" in done.stderr


def test_reports_are_shown_again_in_every_format(reports: Path) -> None:
    first = run("report", "run.json", "run-episodes.json", cwd=reports)
    assert first.code == 0, first.stderr
    # other protocols: two tables, and their rows say which is which
    assert first.stdout.count("accuracy %") == 2
    assert all(f"\n{name}.json " in first.stdout for name in ("run", "run-episodes"))
    assert "\nrun.json:\n" in first.stdout  # of the checks
    together = run("report", "run.json", "other.json", "--format", "csv", cwd=reports)
    rows = list(csv.DictReader(io.StringIO(together.stdout)))
    assert [(row["report"], row["model"]) for row in rows] == [("run.json", "run"), ("other.json", "other")]
    entry = json.loads((reports / "other.json").read_text())["results"][0]
    assert float(rows[1]["pgd-2 low"]) == entry["attacks"]["pgd-2"]["low"]
    (table,) = json.loads(run("report", "run.json", "other.json", "--json", cwd=reports).stdout)["tables"]
    assert table["columns"][:3] == ["report", "model", "classes"]
    assert table["rows"][1][table["columns"].index("pgd-2 low")] == entry["attacks"]["pgd-2"]["low"]
    assert r"\begin{tabular}" in run("report", "run.json", "--format", "latex", cwd=reports).stdout
    twice = run("report", "run.json", "run.json", cwd=reports)
    check_refusal(twice, 2, "a report is given twice. Name each report once")
    check_refusal(run("report", "run.rows.parquet", cwd=reports), 3, "is cut short or damaged: it is not JSON")


def test_episodes_are_replayed_to_the_same_bytes(reports: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    common = ("eval", reports / "run.st", "--data", pipeline.photos, *FAST)
    saved = reports / "run-episodes.episodes.parquet"
    assert run(*common, "--replay", saved, "-o", "run-episodes.json", cwd=tmp_path).code == 0
    for name in ("run-episodes.json", "run-episodes.rows.parquet", "run-episodes.episodes.parquet"):
        assert (tmp_path / name).read_bytes() == (reports / name).read_bytes()
    shutil.copy(saved, tmp_path / "report.episodes.parquet")
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(saved.read_bytes()[:900])
    other_images = ["are of other images", "Give --data, --split, --resize, --max-images and --max-per-class"]
    for file, args, code, says in (
        (saved, ("--ways", 2), 2, ["--ways cannot be combined with --replay, whose file says how its episodes are made"]),
        (saved, ("--episode-seed", 0), 2, ["--episode-seed cannot be combined with --replay"]),
        (saved, ("--adversarial", "x.st"), 2, ["--replay cannot be combined with --adversarial"]),
        (saved, ("--max-per-class", 4), 3, other_images),
        (saved, ("--classes-from", "seen"), 3, ["has no episodes of seen classes", "It has: novel"]),
        (reports / "run.rows.parquet", (), 3, ["is a laat-rows file, expected laat-episodes"]),
        (
            "report.episodes.parquet",
            (),
            2,
            ["the file of episodes would replace 'report.episodes.parquet', which --replay reads"],
        ),
        (cut, (), 3, ["is cut short, damaged or no parquet file"]),
    ):
        refused(tmp_path, *common, "--replay", file, *args, code=code, says=says)


def test_compare_shows_a_table_json_or_text(reports: Path) -> None:
    record = json.loads(run("compare", "run.json", "other.json", "--json", cwd=reports).stdout)
    entries = {name: json.loads((reports / f"{name}.json").read_text())["results"][0] for name in ("run", "other")}
    assert [result["measure"] for result in record["results"]] == ["clean", "fgsm", "pgd-2", "worst"]
    for result in record["results"]:
        name = result["measure"]
        held = [(entry[name] if name in entry else entry["attacks"][name])["accuracy"] for entry in entries.values()]
        assert result["accuracies"] == held
        assert result["difference"] == pytest.approx(held[1] - held[0])
        assert result["low"] <= result["difference"] <= result["high"]
    table = run("compare", "run.json", "other.json", cwd=reports).stdout
    assert "A is run, B is other" in table
    assert "Newcombe 95 % over paired images; p: exact McNemar" in table
    markdown = run("compare", "run.json", "other.json", "--format", "markdown", cwd=reports).stdout
    assert "| classes | measure | A | B | B − A | p | only A | only B |" in markdown
    same = run("compare", "both.json:run", "both.json:other", "--json", cwd=reports).stdout
    assert json.loads(same)["results"] == record["results"]
    episodes = json.loads(run("compare", "run-episodes.json", "other-episodes.json", "--json", cwd=reports).stdout)
    assert {result["interval"] for result in episodes["results"]} == {"Student t 95 % over paired episodes; p: paired t"}


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("run.json", "seen.json"), 3, ["different data: 'run.json' has sha256", "and 'seen.json' has sha256"]),
        (("run.json", "run-episodes.json"), 3, ["different protocols", "'run.json' has name all-way"]),
        (("run.json", "none.json"), 3, ["'none.json' does not exist"]),
        (("run.json", "run.st"), 3, ["'run.st' is cut short or damaged: it is not JSON"]),
        (("run.json", "run.rows.parquet"), 3, ["'run.rows.parquet' is cut short or damaged: it is not JSON"]),
        (("run.json", "both.json"), 2, ["'both.json' has several models: run, other", "Say which: both.json:run"]),
        (("run.json", "both.json:rnu"), 2, ["has no model 'rnu'", "'run'"]),
        (("run.json", "other.json", "--format", "html"), 2, ["unknown format 'html'", "markdown"]),
        (("run.json", "other.json", "--format", "csv", "--json"), 2, ["--json and --format csv"]),
    ],
)
def test_what_cannot_be_compared_is_refused(reports: Path, args: tuple[str, ...], code: int, says: list[str]) -> None:
    refused(reports, "compare", *args, code=code, says=says)


def test_reports_and_rows_that_are_damaged_are_refused(reports: Path, tmp_path: Path) -> None:
    for name in ("run", "other"):
        shutil.copy(reports / f"{name}.json", tmp_path)
        shutil.copy(reports / f"{name}.rows.parquet", tmp_path)
    rows = tmp_path / "other.rows.parquet"
    whole = rows.read_bytes()
    rows.write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, "compare", "run.json", "other.json", code=3, says=["differs (the rows of 'other.json')"])
    rows.unlink()
    refused(tmp_path, "compare", "run.json", "other.json", code=3, says=["other.rows.parquet', the rows of", "does not exist"])
    rows.write_bytes(whole)
    report = json.loads((tmp_path / "other.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps({**report, "schema_version": 1}))
    says = ["'other.json' has schema version 1, this laat", "reads 2 to 4"]
    refused(tmp_path, "compare", "run.json", "other.json", code=3, says=says)


def test_compare_needs_no_torch(reports: Path) -> None:
    script = (
        "import sys\nsys.modules['torch'] = None\nfrom laatcli.app import app\n"
        "app(['compare', 'run.json', 'other.json'], standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=reports, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
