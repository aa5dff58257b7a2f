from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stages.errors import MissingError, UsageError
from stages.imports import import_by_path, is_import_path
from stages.training.objectives import Adversarial, find_objective


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("mine:Own", True), ("pkg.mod:factory", True), ("laat", False), ("pkg:", False), (":x", False), ("a-b:c", False)],
)
def test_what_an_import_path_looks_like(name: str, is_one: bool) -> None:
    assert is_import_path(name) is is_one


def test_a_module_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_objective_in_cwd.py").write_text(
        "from stages.training.objectives import Adversarial\nclass Own(Adversarial):\n    help = 'mine'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = find_objective("own_objective_in_cwd:Own")
    assert issubclass(found, Adversarial)
    assert found.help == "mine"
    with pytest.raises(
        UsageError, match="--objective own_objective_in_cwd:Owm: 'own_objective_in_cwd' has no 'Owm'; nearest: 'Own'"
    ):
        find_objective("own_objective_in_cwd:Owm")


def test_a_module_that_is_not_installed() -> None:
    with pytest.raises(MissingError, match="--backbone no_such_module:net: No module named 'no_such_module'; install"):
        import_by_path("no_such_module:net", "--backbone")
