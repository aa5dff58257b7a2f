"""Commands on more classes than a matrix of all pairs has room for; in this process."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from laatcli.app import app
from stages import cosines

COUNT = 3000


def laat(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of class names; the working directory is its folder."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "classes.txt"
    file.write_text("".join(f"class {at}\n" for at in range(COUNT)))
    return file


def test_no_command_makes_a_matrix_of_all_pairs(names: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosines, "BLOCK", 128)
    monkeypatch.setattr(cosines, "RANKED_CLASSES", 100)
    assert laat("anchors", "--classes", names, "--source", "random", "--dim", 8, "--seen", COUNT // 2).exit_code == 0
    tracemalloc.start()
    try:
        for line in (("expand", "anchors.st"), ("inspect", "expanded.st")):
            tracemalloc.reset_peak()
            assert laat(*line).exit_code == 0
            assert tracemalloc.get_traced_memory()[1] < 4 * COUNT**2 / 2, line  # half a matrix in float32
    finally:
        tracemalloc.stop()


def test_nothing_is_written_before_the_last_thing_that_can_fail(names: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr("laatcli.cosines.cosine_figures", fails)
    done = laat("anchors", "--classes", names, "--source", "random", "--dim", 8)
    assert (done.exit_code, "no room" in done.stderr) == (5, True)
    assert [file.name for file in names.parent.iterdir()] == [names.name]


def test_of_very_many_warnings_ten_are_shown(names: Path) -> None:
    names.write_text("".join(f"class {at}\n" for at in range(30)))
    np.save("features.npy", np.ones((30, 8), np.float32))
    arguments = ("anchors", "--classes", names, "--features", "features.npy")
    *shown, last = laat(*arguments).stderr.splitlines()
    assert len(shown) == 10
    assert all("are nearly the same anchor (cosine 1.000)" in line for line in shown)
    assert last == "and 425 more like these; see --json"
    record = json.loads(laat(*arguments, "--json").stdout)
    assert (record["near_duplicate_count"], len(record["near_duplicates"])) == (435, 435)
