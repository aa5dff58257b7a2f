"""The pipeline as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.laatcli.conftest import NAMES, QUICK, Pipeline, class_folders, run_pipeline
from tests.laatcli.shell import NOTES, run, tree

COMMANDS = ("anchors", "expand", "train", "attack", "eval")


def test_the_three_lines_run_as_they_stand(tmp_path: Path) -> None:
    class_folders(tmp_path / "photos", 5)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    (tmp_path / "laat.toml").write_text(
        '[anchors]\nmodel = "demo"\nseen = 4\n'
        '[train]\ndata = "photos"\nepochs = 1\nsteps = 1\nbackbone = "conv4-8"\naugment = false\n'
    )
    for line in ("anchors --classes classes.txt", "expand anchors.st", "train"):
        done = run(*line.split(), cwd=tmp_path)
        assert done.code == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert "4 seen, 0 val, 2 novel" in run("anchors", "--classes", "classes.txt", cwd=tmp_path).stdout
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["last.st", "metrics.jsonl", "model.st"]
    record = json.loads(run("inspect", "run/model.st", "--json", cwd=tmp_path).stdout)
    assert record["params"]["origin"]["model"] == "demo"
    assert record["params"]["architecture"]["backbone"] == "conv4-8"
    assert record["params"]["training"]["settings"]["augment"] is False
    assert record["params"]["training"]["data"]["divided"] == "train"


def test_the_same_inputs_give_the_same_bytes_and_quiet_says_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    said = run_pipeline(tmp_path, pipeline.photos, "--quiet")
    assert {name: (done.stdout, done.stderr) for name, done in said.items()} == dict.fromkeys(COMMANDS, ("", ""))
    first = {name: data for name, data in tree(pipeline.folder).items() if not name.startswith("photos/")}
    assert tree(tmp_path) == first
    assert set(first) == {
        *("classes.txt", "anchors.st", "expanded.st", "run/model.st", "run/last.st", "run/metrics.jsonl"),
        *("adversarial.st", "report.json", "report.rows.parquet"),
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_one_object_and_nothing_else(pipeline: Pipeline, command: str) -> None:
    record = pipeline.record(command)
    assert isinstance(record, dict)
    assert "error" not in pipeline.said[command].stderr
    assert all(NOTES.match(line) for line in pipeline.said[command].stderr.splitlines())


def test_what_the_commands_report_is_what_the_files_hold(pipeline: Pipeline) -> None:
    anchors = pipeline.record("anchors")
    assert anchors["groups"] == {"seen": 4, "val": 0, "novel": 2}
    assert anchors["width"] == 16
    assert pipeline.record("expand")["theta_max_degrees"] < 90
    train = pipeline.record("train")
    rows = [json.loads(line) for line in (pipeline.folder / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1]
    assert rows[0]["loss"] == train["loss"]
    attack = pipeline.record("attack")
    assert 0 < attack["largest_perturbation"] <= 8 / 255 + 1e-6
    held = load_file(pipeline.folder / "adversarial.st")
    right = (held["clean_predictions"] == held["labels"]) & (held["attacked_predictions"] == held["labels"])
    assert attack["robust"]["accuracy"] == pytest.approx(right.mean())
    assert np.abs(held["images"] - held["clean_images"] / np.float32(255)).max() == np.float32(attack["largest_perturbation"])
    assert pipeline.record("eval") == json.loads((pipeline.folder / "report.json").read_text())


def test_training_again_is_up_to_date_refused_or_forced(pipeline: Pipeline, tmp_path: Path) -> None:
    shutil.copytree(pipeline.folder / "run", tmp_path / "run")
    shutil.copy(pipeline.folder / "expanded.st", tmp_path)
    before = tree(tmp_path)
    train = ("train", "--data", pipeline.photos, *QUICK)
    same = run(*train, cwd=tmp_path)
    assert same.code == 0
    assert "up to date" in same.stdout
    other = run(*train, "--seed", 1, cwd=tmp_path)
    assert other.code == 2
    assert "'run' already has a run" in other.stderr
    assert "--force" in other.stderr
    assert tree(tmp_path) == before
    forced = run(*train, "--seed", 1, "--force", cwd=tmp_path)
    assert forced.code == 0
    assert tree(tmp_path)["run/model.st"] != before["run/model.st"]
    assert tree(tmp_path).keys() == before.keys()


def test_progress_is_plain_lines_where_there_is_no_terminal(pipeline: Pipeline) -> None:
    lines = pipeline.said["train"].stderr.splitlines()
    (epoch,) = (line for line in lines if line.startswith("epoch "))
    for word in ("loss", "training", "selection"):
        assert word in epoch
    assert "\x1b" not in pipeline.said["train"].stderr


def test_the_command_line_wins_over_the_settings_file(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "laat.toml").write_text('[anchors]\nsource = "random"\ndim = 4\noutput = "there.st"\n')
    done = run("anchors", "--classes", pipeline.folder / "classes.txt", "--dim", 6, cwd=tmp_path)
    assert done.code == 0
    assert load_file(tmp_path / "there.st")["vectors"].shape == (6, 6)
