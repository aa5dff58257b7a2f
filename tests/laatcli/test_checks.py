"""`laat eval` and its checks, through the installed command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.files import artifacts
from stages.files.artifacts import Artifact
from tests.laatcli.conftest import Pipeline
from tests.laatcli.shell import check_refusal, run


@pytest.fixture(scope="module")
def saturated(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline's model at a temperature so small that the softmax saturates."""
    read = artifacts.read(pipeline.model, "model")
    training = read.params["training"]
    training = {**training, "settings": {**training["settings"], "tau": 1e-7}}
    path = tmp_path_factory.mktemp("saturated") / "model.st"
    artifacts.write(Artifact(read.kind, read.tensors, {**read.params, "training": training}, read.inputs), path)
    return path


def test_a_failed_check_is_told_and_written(pipeline: Pipeline, saturated: Path, tmp_path: Path) -> None:
    line = ("eval", saturated, "--data", pipeline.photos, "--classes-from", "seen", "--attack", "pgd-2")
    done = run(*line, cwd=tmp_path)
    assert done.code == 0, done.stderr
    table, _, told = done.stdout.partition("checks of ")
    assert "accuracy %" in table
    assert "\n  FAIL gradients: zero or non-finite gradients: cross-entropy " in told
    (entry,) = json.loads((tmp_path / "report.json").read_text())["checks"]
    failed = [found for found in entry["findings"] if found["result"] == "fail"]
    assert "gradients" in [found["name"] for found in failed]
    assert all(found["sentence"] in told for found in failed)
    right = entry["sample"]["of"]
    assert entry["sample"] == {"points": right, "of": right, "seed": 0}  # so few pictures: all of them

    strict = run(*line, "--strict-checks", "-o", "strict.json", cwd=tmp_path)
    assert strict.code == 5
    assert "error: checks failed: gradients" in strict.stderr
    assert json.loads((tmp_path / "strict.json").read_text())["checks"] == [entry]


def test_checks_can_be_left_out_and_need_an_attack(pipeline: Pipeline, saturated: Path, tmp_path: Path) -> None:
    line = ("eval", saturated, "--data", pipeline.photos, "--classes-from", "seen")
    for more in (("--no-checks", "--attack", "fgsm"), ("--attack", "none", "--strict-checks")):
        done = run(*line, *more, "--force", cwd=tmp_path)
        assert done.code == 0, done.stderr
        assert "checks of" not in done.stdout
        assert json.loads((tmp_path / "report.json").read_text())["checks"] is None
    check_refusal(
        run(*line, "--no-checks", "--strict-checks", cwd=tmp_path), 2, "--strict-checks cannot be combined with --no-checks"
    )


def test_checks_of_other_formats_go_to_standard_error(pipeline: Pipeline, saturated: Path, tmp_path: Path) -> None:
    line = ("eval", saturated, "--data", pipeline.photos, "--classes-from", "seen", "--attack", "fgsm", "--format", "csv")
    done = run(*line, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert "FAIL gradients" in done.stderr
    assert "FAIL" not in done.stdout
