"""The comparison with pyautoattack, on a trained model and images of a folder, from beginning to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.laatcli.conftest import Pipeline

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "strength.py"


def test_on_a_trained_model_our_attacks_are_as_strong_as_pyautoattack(pipeline: Pipeline, tmp_path: Path) -> None:
    args = ("--data", pipeline.photos, "--classes-from", "all", "--images", 36, "--steps", 10, "--queries", 50)
    command = [sys.executable, PROGRAM, pipeline.model, *args]
    done = subprocess.run(
        [str(part) for part in command], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NO" not in done.stdout
    assert "36 images of 6 classes" in done.stdout
