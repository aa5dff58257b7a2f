"""The workflow in examples/ci: it is valid, and its commands do what its page says."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.laatcli.conftest import NAMES, SEEN, Pipeline, class_folders, pipeline
from tests.laatcli.shell import environment

__all__ = ["pipeline"]
WORKFLOW = Path(__file__).parents[1] / "examples/ci/robustness.yml"


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    return found


def steps(workflow: dict[str, Any]) -> dict[str, str]:
    (job,) = workflow["jobs"].values()
    return {step["name"]: step["run"] for step in job["steps"] if "run" in step}


def run(script: str, cwd: Path, **values: str) -> subprocess.CompletedProcess[str]:
    settings = {**environment(cwd.parent), **values, "GITHUB_STEP_SUMMARY": str(cwd / "summary.md")}
    # as GitHub runs a step
    line = ["bash", "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(line, cwd=cwd, env=settings, capture_output=True, text=True, timeout=300, check=False)


def test_the_workflow_gates_and_keeps_the_report(workflow: dict[str, Any], pipeline: Pipeline, tmp_path: Path) -> None:
    assert True in workflow  # 'on', which YAML 1.1 reads as a truth value
    assert list(steps(workflow)) == ["Install", "Evaluate", "Summary"]
    class_folders(tmp_path / "images", 40, names=NAMES[SEEN:])
    (tmp_path / "here").mkdir()
    values = {**workflow["env"], "MODEL": str(pipeline.model), "DATA": str(tmp_path / "images"), "WORST": "99"}
    done = run(steps(workflow)["Evaluate"], tmp_path / "here", **values)
    assert done.returncode == 6, done.stderr
    assert "lower bound of worst>=99 (run, novel: worst " in done.stderr
    again = run(steps(workflow)["Evaluate"], tmp_path / "here", **{**values, "CLEAN": "0", "WORST": "0"})
    assert again.returncode == 0, again.stderr
    assert run(steps(workflow)["Summary"], tmp_path / "here").returncode == 0
    assert "| run | novel |" in (tmp_path / "here/summary.md").read_text()
