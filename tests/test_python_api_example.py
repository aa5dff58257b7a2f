"""examples/python_api.py runs from start to end on a checkpoint that the installed command wrote."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.laatcli.shell import environment, run
from tests.where import ROOT


def test_the_python_example_runs(tmp_path: Path) -> None:
    small = ("--recipe", "shapes-demo", "--epochs", 1, "--steps", 1, "--backbone", "conv4-8", "--batch-size", 256)
    for line in (
        ("anchors", "--classes", "shapes", "--model", "demo"),
        ("expand", "anchors.st"),
        ("train", "--data", "shapes", *small),
    ):
        done = run(*line, cwd=tmp_path)
        assert done.code == 0, done.stderr
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, str(ROOT / "examples/python_api.py"), "run/model.st"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(home), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "16 novel classes, trained under Linf 8/255" in done.stdout
    assert "| model | novel |" in done.stdout
    for library in ("foolbox", "torchattacks"):
        said = f"{library}: " if find_spec(library) else f"{library} is not installed"
        assert said in done.stdout
    assert "best epoch 1, 64 classes" in done.stdout
