"""`laat suites`, and `laat eval --suite`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.attacks.suites import SUITES
from tests.laatcli.conftest import Pipeline
from tests.laatcli.shell import refused, run


def test_the_list_and_one_explained(tmp_path: Path) -> None:
    listed = run("suites", cwd=tmp_path)
    assert listed.code == 0, listed.stderr
    assert all(suite.label in listed.stdout for suite in SUITES.values())
    one = run("suites", "AA-few-class", cwd=tmp_path)
    assert one.code == 0, one.stderr
    for text in ("aa-few-class v1", "apgd-t", "dlr-targeted", "min(9, C - 1)", "5,000", "Croce & Hein", "at least 2"):
        assert text in one.stdout, text


def test_json_holds_every_attack(tmp_path: Path) -> None:
    record = json.loads(run("suites", "--json", cwd=tmp_path).stdout)
    assert [suite["name"] for suite in record["suites"]] == list(SUITES)
    one = json.loads(run("suites", "quick", "--json", cwd=tmp_path).stdout)
    assert one == record["suites"][0]
    assert [(attack["name"], attack["steps"]) for attack in one["attacks"]] == [("pgd-20", 20), ("margin-pgd-20", 20)]


@pytest.mark.parametrize("command", [("suites",), ("eval", "run/model.st", "--suite")])
def test_an_unknown_suite_shows_the_nearest(tmp_path: Path, command: tuple[str, ...]) -> None:
    refused(tmp_path, *command, "aa-standart", code=2, says=("unknown suite 'aa-standart'", "'aa-standard'"))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--suite", "quick", "--attack", "fgsm"), "--suite cannot be combined with --attack"),
        (("--suite", "aa-standard", "--protocol", "episodes", "--ways", 3), "aa-standard needs at least 4 candidate classes"),
        (("--suite", "laat-2024", "--norm", "l2"), "cw-linf is an L-inf attack"),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_work(tmp_path: Path, args: tuple[object, ...], says: str) -> None:
    refused(tmp_path, "eval", "run/model.st", *args, code=2, says=(says,))


def test_a_suite_that_needs_more_classes_than_the_group_has(pipeline: Pipeline, tmp_path: Path) -> None:
    # two novel classes; the model is read, nothing is attacked and nothing written
    args = ("--data", pipeline.photos, "--suite", "tecoa-2023")
    refused(tmp_path, "eval", pipeline.model, *args, code=2, says=("at least 4 candidate classes, and there are 2",))


def test_a_report_carries_its_suite(pipeline: Pipeline, tmp_path: Path) -> None:
    common = ("--data", pipeline.photos, "--json", "--output")
    done = run("eval", pipeline.model, *common, "suite.json", "--suite", "quick", cwd=tmp_path)
    assert done.code == 0, done.stderr
    suite = json.loads((tmp_path / "suite.json").read_text())
    assert suite["suite"] == "quick v1"
    done = run("eval", pipeline.model, *common, "picked.json", "--attack", "pgd-20", "--attack", "margin-pgd-20", cwd=tmp_path)
    picked = json.loads(done.stdout)
    assert picked["suite"] is None
    assert picked["attacks"] == suite["attacks"]
    assert picked["results"] == suite["results"]


def test_autoattack_runs_on_two_and_on_four_classes(pipeline: Pipeline, tmp_path: Path) -> None:
    args = ("--data", pipeline.photos, "--attack", "apgd-t-5", "--attack", "fab-t-3", "--attack", "square-20", "--eps", "2/255")
    for group, targets in (("novel", 1), ("seen", 3)):
        done = run("eval", pipeline.model, *args, "--classes-from", group, "--json", "-o", f"{group}.json", cwd=tmp_path)
        assert done.code == 0, done.stderr
        report = json.loads(done.stdout)
        (result,) = report["results"]
        accuracies = {name: value["accuracy"] for name, value in result["attacks"].items()}
        assert set(accuracies) == {"apgd-t-5", "fab-t-3", "square-20"}
        assert result["worst"]["accuracy"] <= min(accuracies.values()) <= result["clean"]["accuracy"]
        swapped = ", margin in place of DLR (2 classes)" if group == "novel" else ""
        assert f"apgd-t-5: 5 steps, {targets} target{'s' * (targets > 1)}{swapped}" in report["notes"]
        assert [attack["library"].split()[0] for attack in report["attacks"]] == ["pyautoattack"] * 3
