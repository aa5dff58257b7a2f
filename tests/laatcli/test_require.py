"""`laat eval --require`: a gate with exit code 6, after the report is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.laatcli.conftest import Pipeline
from tests.laatcli.inside import inside
from tests.laatcli.shell import check_refusal, tree


@pytest.fixture
def line(pipeline: Pipeline) -> tuple[object, ...]:
    return ("eval", pipeline.model, "--data", pipeline.photos, "--attack", "fgsm", "--no-checks")


def test_a_missed_figure_ends_with_6_after_the_report_is_written(line: tuple[object, ...], tmp_path: Path) -> None:
    missed = ("--require", "clean>=0", "--require", "lower bound of worst>=100")
    done = inside(tmp_path, *line, *missed)
    assert done.code == 6
    (result,) = json.loads((tmp_path / "report.json").read_text())["results"]
    worst = result["worst"]
    figures = f"worst {100 * worst['accuracy']:.2f} [{100 * worst['low']:.2f}, {100 * worst['high']:.2f}]"
    (error,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert f"1 of 2 required figures missed: lower bound of worst>=100 (run, novel: {figures})" in error
    assert "accuracy %" in done.stdout

    written = tree(tmp_path)
    done = inside(tmp_path, *line, *missed)
    assert (done.code, tree(tmp_path)) == (6, written)
    assert "report.json is up to date" in done.stdout
    done = inside(tmp_path, *line, "--require", "worst<=100", "--json")
    assert done.code == 0
    assert "every model and group meets worst<=100" in done.stderr


@pytest.mark.parametrize("wrong", ["worst=>30", "pgd-20>=30", "worst>=0.3"])
def test_a_wrong_requirement_is_refused_before_the_work(line: tuple[object, ...], tmp_path: Path, wrong: str) -> None:
    check_refusal(inside(tmp_path, *line, "--require", wrong), 2, f"--require '{wrong}'")
    assert not tree(tmp_path)


def test_saved_images_are_required_by_their_name(pipeline: Pipeline, tmp_path: Path) -> None:
    line = ("eval", pipeline.model, "--adversarial", pipeline.folder / "adversarial.st", "--require")
    check_refusal(inside(tmp_path, *line, "pgd-2>=1"), 2, "It measures 'clean', 'saved pgd-2', 'worst'")
    assert not (tmp_path / "report.json").exists()
    assert inside(tmp_path, *line, "saved pgd-2>=0").code == 0
