"""laat.toml: where it is found, what its paths mean, and how its errors name it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.laatcli.conftest import NAMES
from tests.laatcli.inside import inside

TABLE = '[anchors]\nclasses = "classes.txt"\nsource = "random"\ndim = 16\noutput = "made/a.st"\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with laat.toml at its root."""
    root = tmp_path / "project"
    (root / "sub/deep").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
    (root / "laat.toml").write_text(TABLE, encoding="utf-8")
    return root


@pytest.mark.parametrize(("where", "file"), [("", "laat.toml"), ("sub", "../laat.toml"), ("sub/deep", "../../laat.toml")])
def test_it_is_found_above_and_its_paths_begin_at_its_folder(project: Path, where: str, file: str) -> None:
    done = inside(project / where, "anchors")
    assert done.code == 0, done.stderr
    assert done.stderr.startswith(f"settings from {file}\n")
    assert (project / "made/a.st").is_file()


def test_the_nearest_file_counts_alone(project: Path) -> None:
    (project / "sub/laat.toml").write_text("[train]\nepochs = 3\n", encoding="utf-8")
    done = inside(project / "sub/deep", "anchors")
    assert (done.code, "--classes" in done.stderr) == (2, True)
    assert "settings from" not in done.stderr  # it has no table for this command


def test_the_search_ends_at_the_root_of_a_repository(project: Path) -> None:
    (project.parent / "laat.toml").write_text("[anchors]\nnonsense = 1\n", encoding="utf-8")
    assert inside(project, "anchors").code == 0
    inner = project / "sub/inner"
    inner.mkdir()
    (inner / ".git").write_text("gitdir: elsewhere", encoding="utf-8")  # as in a worktree
    assert "give the class names" in inside(inner, "anchors").stderr


def test_config_names_the_file(project: Path, tmp_path: Path) -> None:
    (project / "laat.toml").rename(project / "other.toml")
    done = inside(tmp_path, "--config", "project/other.toml", "anchors", "--dim", 8, "--json")
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["width"] == 8
    assert (project / "made/a.st").is_file()
    assert "settings from project/other.toml" in done.stderr
    assert "'nope.toml' does not exist" in inside(tmp_path, "--config", "nope.toml", "suites").stderr
    assert "it goes before the command" in inside(tmp_path, "suites", "--config", "x").stderr.lower()


def test_the_commands_of_the_demo_read_the_same_file(project: Path) -> None:
    (project / "laat.toml").write_text("[anchors]\nnonsense = 1\n", encoding="utf-8")
    (project / "other.toml").write_text("[anchors]\nseen-file = 'missing.txt'\n", encoding="utf-8")
    done = inside(project, "--config", "other.toml", "demo", "--out", "demo")
    assert (done.code, "'missing.txt'" in done.stderr, "nonsense" in done.stderr) == (3, True, False), done.stderr


def test_names_stay_names_and_files_become_paths(project: Path) -> None:
    (project / "photos").mkdir()
    (project / "shapes").mkdir()
    for value, meant in (("photos", "../photos"), ("shapes", "shapes"), ("org/name", "org/name"), ("/x", "/x")):
        (project / "laat.toml").write_text(f'[train]\ndata = "{value}"\nout = "run"\n', encoding="utf-8")
        settings = json.loads(inside(project / "sub", "train", "--dry-run", "--json").stdout)
        assert settings["settings"]["data"] == meant
        assert settings["settings"]["out"] == "../run"
        assert settings["from"]["data"] == "../laat.toml"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[anchors]\ndimm = 1\n", ["table [anchors] of '../laat.toml' has the unknown option 'dimm'", "Nearest: 'dim'"]),
        ("[anchor]\n", ["'../laat.toml' has a table for the unknown command 'anchor'", "Nearest: 'anchors'"]),
        ("[anchors]\ndim = 'x'\n", ["table [anchors] of '../laat.toml' sets 'dim' to 'x', expected a whole number"]),
        ("[anchors]\nsource = 'rondom'\n", ["'rondom'", "(--source is set in ../laat.toml)"]),
        (TABLE.replace("16", "0"), ["--dim is 0 (--dim is set in ../laat.toml)"]),
        ("lr = 3\n[train]\n", ["'../laat.toml' sets 'lr' outside of a command's table", "Write it below [train]"]),
        (
            "[eval]\nmodels = ['x']\nmodle = 'x'\n",
            ["table [eval] of '../laat.toml' has the unknown option 'modle'", "Nearest: 'model'"],
        ),
        ("anchors = 3\n", ["sets 'anchors' outside of a command's table", "[anchors]"]),
        ("[anchors]\noutput = ''\n", ["table [anchors] of '../laat.toml' sets 'output' to an empty text"]),
        ("[expand]\nanchors = 'a'\nANCHORS = 'b'\n", ["table [expand] of '../laat.toml' sets 'ANCHORS' twice"]),
        ("[anchors\n", ["'../laat.toml' is not a TOML file", "line 1"]),
    ],
)
def test_errors_name_the_file_the_key_and_the_nearest(project: Path, text: str, says: list[str]) -> None:
    (project / "laat.toml").write_text(text, encoding="utf-8")
    done = inside(project / "sub", "anchors")
    assert (done.code, done.stdout) == (2, "")
    for part in says:
        assert part in done.stderr


def test_a_file_that_is_not_utf8_is_shown_with_its_line(project: Path) -> None:
    (project / "laat.toml").write_bytes(b"[anchors]\nclasses = 'b\xe9l.txt'\n")
    done = inside(project, "anchors")
    assert done.code == 2
    assert "settings file 'laat.toml' is not UTF-8 text: line 2 is 'classes = 'b\\xe9l.txt''" in done.stderr


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("[compare]\nA = 'x.json'\nb = 'y.json'\n", "compare"),
        ("[compare]\nfirst = 'x.json'\nsecond = 'y.json'\n", "compare"),
        ("[eval]\nMODEL = ['x.json']\ndata = 'shapes'\n", "eval"),
        ("[suites]\nname = 'x.json'\n", "suites"),
        ("[plot]\nsource = ['x.json']\n", "plot"),
    ],
)
def test_arguments_have_the_names_that_the_help_shows(project: Path, text: str, command: str) -> None:
    (project / "laat.toml").write_text(text, encoding="utf-8")
    said = inside(project, command).stderr
    assert "x.json'" in said.splitlines()[-1], said
    assert "unknown option" not in said


def test_the_home_folder_is_found_where_no_shell_has(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project / "home"))
    (project / "laat.toml").write_text(TABLE.replace("made/a.st", "~/a.st"), encoding="utf-8")
    for args in ((), ("-o", "~/b.st"), ("--output=~/c.st",)):
        assert inside(project / "sub", "anchors", *args).code == 0
    assert sorted(path.name for path in (project / "home").iterdir()) == ["a.st", "b.st", "c.st"]
    assert not (project / "sub/~").exists()
    assert inside(project, "anchors", "-o", "~backup.st").code == 0
    assert (project / "~backup.st").is_file()


def test_what_is_typed_is_not_blamed_on_the_file(project: Path) -> None:
    assert "is set in" not in inside(project, "anchors", "--dim", 0).stderr


def test_a_byte_order_mark_is_no_error(project: Path) -> None:
    (project / "laat.toml").write_text(TABLE, encoding="utf-8-sig")
    assert inside(project, "anchors").code == 0
