"""`laat benchmark`: its arguments, and what is said before a cell is finished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.laatcli.inside import inside


def test_the_list_of_bundled_benchmarks_says_what_is_here(tmp_path: Path) -> None:
    found = {one["name"]: one for one in json.loads(inside(tmp_path, "benchmark", "--list", "--json").stdout)["benchmarks"]}
    assert [one["here"] for one in found["shapes"]["data"]] == [True] * 3
    assert not any(one["here"] for one in found["miniimagenet"]["data"])
    assert "tecoa-15" in inside(tmp_path, "benchmark", "--list").stdout


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("nothing",), "there is no benchmark 'nothing'"),
        (("shapes",), "no model is given"),
        (("shapes", "demo", "demo"), "a model is given twice"),
        (("shapes", "demo", "demo=clip:demo"), "models have the same name 'demo'"),
        (("shapes", "a/b=demo", "a-b=clip:demo"), "would share the folder 'a-b'"),
        (("shapes", "=demo"), "empty name"),
        (("shapes", "demo", "--plot", "x.txt"), "not the name of a picture"),
        (("shapes", "demo", "--plot-size", "column"), "--plot-size has no effect"),
        ((), "no benchmark is named"),
    ],
)
def test_wrong_usage(args: tuple[str, ...], says: str, tmp_path: Path) -> None:
    done = inside(tmp_path, "benchmark", *args)
    assert done.code == 2, done.stderr
    assert says in done.stderr
    assert not any(tmp_path.iterdir())


def test_a_sample_without_some_classes_is_no_other_evaluation(tmp_path: Path) -> None:
    done = inside(tmp_path, "benchmark", "shapes", "demo", "--max-images", 8, "-o", "out")
    assert done.code == 5
    assert "leaves some of the 16 classes without an image" in done.stderr
    assert "computing again" not in done.stderr


@pytest.mark.parametrize("spec", ["run/gone.st", "typo=gone.safetensors", "local-dir:gone", "x=clip:local-dir:gone", "."])
def test_a_model_that_is_not_there_is_said_before_any_cell(spec: str, tmp_path: Path) -> None:
    done = inside(tmp_path, "benchmark", "shapes", "demo", spec, "--dry-run")
    assert done.code == 3
    assert ("'.' does not exist or is no file" if spec == "." else "gone") in done.stderr
    assert not any(tmp_path.iterdir())
