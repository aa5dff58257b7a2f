from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOM = 400 << 20


def trained(folder: Path, accumulate: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.stages.train.short_of_memory", str(folder), str(accumulate), str(ROOM)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on private memory is Linux's")
def test_out_of_memory_says_what_would_fit_and_it_does(tmp_path: Path) -> None:
    said = trained(tmp_path / "run", 1)
    assert said["code"] == 5
    assert "not enough memory on cpu for this batch" in said["what"]
    advice = re.search(r"(\d+) images at a time fit: add --accumulate (\d+), or take --batch-size (\d+)", said["fix"])
    assert advice, said
    assert int(advice[1]) * int(advice[2]) == 1024
    assert trained(tmp_path / "run", int(advice[2])) == {"best": 1}
