from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stages.errors import MissingError, UsageError
from stages.imports import code_of, import_by_path, is_import_path
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


@pytest.mark.parametrize(
    ("code", "says"), [("def f(:", "SyntaxError: invalid syntax"), ("raise ValueError('no\\nway')", "ValueError: no;")]
)
def test_a_module_with_an_error(code: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty_module.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=f"MODEL faulty_module:f: importing 'faulty_module' fails with {says}"):
        import_by_path("faulty_module:f", "MODEL")


def test_the_code_behind_an_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "code_net.py").write_text(
        "import torch\nfrom code_layers import layer\nfrom stages import text\ndef make(): pass\n"
    )
    (tmp_path / "code_layers.py").write_text("import code_numbers\ndef layer(): pass\n")
    (tmp_path / "code_numbers.py").write_text("ONE = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert code_of("conv4-8", "laat", "code_net:make") == {}
    import_by_path("code_net:make", "--backbone")
    before = code_of("code_net:make")
    assert list(before) == ["code_layers", "code_net", "code_numbers"]
    (tmp_path / "code_numbers.py").write_text("ONE = 2\n")
    after = code_of("code_net:make", "laat")
    assert [name for name in after if after[name] != before[name]] == ["code_numbers"]
