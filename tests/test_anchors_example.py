"""The table of examples/anchors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from stages.anchors.bundled import bundled_classes


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples" / "anchors"))
    import compare

    yield compare
    del sys.modules["compare"]


def write(path: Path, seed: int, classes: list[str], order: list[int] | None = None) -> None:
    drawn = np.random.default_rng(seed).normal(1, 1, (100, 120)).astype(np.float32)
    rows = range(100) if order is None else order
    save_file({"features": drawn[list(rows)]}, path, {"classes": json.dumps([classes[row] for row in rows])})


def test_a_row_for_each_source_and_map(compare: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names, _ = bundled_classes("cifar-fs")
    for seed, tower in enumerate(compare.TOWERS):
        write(tmp_path / compare.FILES[tower], seed, names)
    compare.main(tmp_path)
    header, _, *lines = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines())
    rows = {(line[0], line[1]): dict(zip(header, line, strict=True)) for line in lines}
    sources = (*compare.TOWERS, "both CLIP, merged", "random", "simplex")
    assert list(rows) == [(source, method) for source in sources for method in ("raw", "paper", "centre", "whiten")]
    means = [float(rows[source, "raw"]["mean"]) for source in sources[:3]]
    assert means[2] == pytest.approx(sum(means[:2]) / 2, abs=1e-3)
    assert abs(float(rows["CLIP ViT-B/16", "centre"]["mean"])) < 0.05 < means[0]
    assert rows["CLIP ViT-B/16", "raw"]["ρ B/16"] == "1.00" == rows["CLIP ViT-B/32", "raw"]["ρ raw"]
    # all cosines of a simplex are the same, and a class that was not fitted on has no place in the span of the others
    assert rows["simplex", "raw"]["ρ raw"] == "–"
    assert rows["simplex", "whiten"]["mean"] == "undefined"


def test_features_are_taken_by_name(compare: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names, _ = bundled_classes("cifar-fs")
    tables = []
    for order in (list(range(100)), list(range(99, -1, -1))):
        write(tmp_path / compare.FILES["GloVe"], 0, names, order)
        compare.main(tmp_path)
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]


def test_a_folder_without_features_is_refused(compare: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has none of"):
        compare.main(tmp_path)
