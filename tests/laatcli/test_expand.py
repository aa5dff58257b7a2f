"""`laat expand` and what it warns about."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.laatcli.inside import inside


def test_classes_that_the_map_makes_the_same_are_named(tmp_path: Path) -> None:
    # the last two differ outside the span of the three seen classes, which whitening drops
    features = np.eye(5, dtype=np.float32) + np.array([0.5, 0.25, 0, 0, 0], np.float32)
    np.save(tmp_path / "f.npy", features)
    (tmp_path / "c.txt").write_text("okapi\npagoda\nkoala\nviola\nzebra\n")
    done = inside(tmp_path, "anchors", "--classes", "c.txt", "--features", "f.npy", "--seen", 3)
    assert done.code == 0, done.stderr
    assert "nearly the same" not in done.stderr
    done = inside(tmp_path, "expand", "anchors.st", "--method", "whiten")
    assert done.code == 0, done.stderr
    assert "warning: 'viola' and 'zebra' are nearly the same anchor (cosine 1.000)" in done.stderr
    said = json.loads(inside(tmp_path, "expand", "anchors.st", "--method", "whiten", "--json").stdout)
    assert [pair["classes"] for pair in said["near_duplicates"]] == [["viola", "zebra"]]
    done = inside(tmp_path, "expand", "anchors.st")
    assert "nearly the same" not in done.stderr
