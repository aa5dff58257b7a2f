"""What reaches the terminal: any encoding, and names that look like markup, emoji or commands to the terminal."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from laatcli.streams import degraded
from stages.files import artifacts
from stages.reports.report import report_bytes
from tests.laatcli.conftest import NAMES
from tests.laatcli.inside import inside
from tests.laatcli.shell import LAAT, environment, run
from tests.stages.reports.test_report import report

ENCODINGS = ("ascii", "latin-1", "cp1252", "cp437", "koi8-r", "shift-jis", "utf-16")
# markup, emoji, a title and a colour for the terminal (OSC, CSI, and CSI in 8 bits), right to left, and a line break
HOSTILE = "[red]a[/red] no\\[/] :apple: \x1b]0;title\x07\x1b[31m\x9b31m\u202eb\u2028c"
SHOWN = "[red]a[/red] no\\[/] :apple: \\x1b]0;title\\x07\\x1b[31m\\x9b31m\\u202eb\\u2028c"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Anchors, a report and the report of a hostile model."""
    (tmp_path / "classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
    inside(tmp_path, "anchors", "--classes", "classes.txt", "--source", "random", "--dim", 16, "--seen", 4, "-q")
    made = report()
    (tmp_path / "report.json").write_bytes(report_bytes(made))
    (tmp_path / "hostile.json").write_bytes(report_bytes(named(HOSTILE)))
    return tmp_path


def named(model: str) -> object:
    """The report, of a model of another name."""
    record = report()
    models = [one.model_copy(update={"name": model}) for one in record.models]
    results = [one.model_copy(update={"model": model}) for one in record.results]
    return record.model_copy(update={"models": models, "results": results})


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_degrades_the_characters_and_never_the_command(folder: Path, encoding: str) -> None:
    for args in (
        ("suites",),
        ("suites", "aa-standard"),
        *(("report", "report.json", "hostile.json", "--format", form) for form in ("table", "markdown", "csv", "latex")),
        ("inspect", "anchors.st"),
        ("expand", "anchors.st"),
        ("train", "--dry-run"),
        *((name, "--help") for name in ("anchors", "train", "attack", "eval", "plot")),
        ("--help",),
    ):
        done = inside(folder, *args, encoding=encoding)
        assert done.code == 0, (args, done.stderr)
        assert done.stdout, args
    for args in (("report", "ä→.json"), ("näme→",), ("train", "--dätä")):
        done = inside(folder, *args, encoding=encoding)
        assert done.code in (2, 3), done
        assert done.stderr.startswith("error: "), done


def test_signs_become_what_looks_alike_and_tables_stay_aligned(folder: Path) -> None:
    lines = inside(folder, "report", "report.json", encoding="ascii").stdout.splitlines()
    assert "50.0 +- " in lines[2]
    assert len({len(line.rstrip()) for line in lines[1:3]}) == 1
    assert degraded("± → − – … ≥ ×│─╭ é 猫 \udce9") == "+- -> - - ... >= x|-+ \\xe9 \\u732b \\xe9"
    box = inside(folder, "eval", "--help", encoding="ascii").stdout
    assert "+- Options ---" in box


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "utf-16"])
def test_json_is_exact_in_every_encoding(folder: Path, encoding: str) -> None:
    done = inside(folder, "report", "hostile.json", "--json", encoding=encoding)
    (table,) = json.loads(done.stdout)["tables"]
    assert table["rows"][0][0] == HOSTILE
    assert "±" in table["notes"][0]
    assert not any(sign in done.stdout for sign in "\x1b\x9b\u202e\u2028")


def test_installed_on_streams_of_other_encodings(tmp_path: Path) -> None:
    assert "≥ 2" in run("suites", cwd=tmp_path, PYTHONIOENCODING="idna").stdout
    assert "≥ 2" in run("suites", cwd=tmp_path, PYTHONIOENCODING="utf-8").stdout
    done = run("suites", cwd=tmp_path, LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (done.code, done.stderr) == (0, "")
    assert ">= 2" in done.stdout


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "latex", "json"])
def test_no_name_commands_the_terminal(folder: Path, form: str) -> None:
    args = ("--json",) if form == "json" else ("--format", form)
    done = inside(folder, "report", "hostile.json", *args, width=300)
    assert done.code == 0, done.stderr
    written = done.stdout + done.stderr
    assert not {sign for sign in written if sign != "\n" and not sign.isprintable()}
    assert ":apple:" in written
    if form == "table":
        assert SHOWN in done.stdout


@pytest.mark.parametrize("name", ["no\\[/]x.st", "[bold]x[/bold]", ":apple: pie", "a\x1b[2Jb", "a\u202eb", "x[/red]"])
def test_errors_show_the_name_as_it_is(tmp_path: Path, name: str) -> None:
    shown = name.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    for args in (("inspect", name), ("anchors", "--classes", name), ("expand", name)):
        done = inside(tmp_path, *args)
        assert done.code == 3
        assert done.stderr.startswith(f"error: '{shown}' does not exist. "), done.stderr


def test_warnings_lines_and_tables_show_class_names_as_they_are(tmp_path: Path) -> None:
    names = ["[red]a[/red]", ":apple: pie", "\\[b]", "e"]
    (tmp_path / "classes.txt").write_text("\n".join(names), encoding="utf-8")
    inside(tmp_path, "anchors", "--classes", "classes.txt", "--source", "random", "--dim", 3, "--seen", 3)
    artifact = artifacts.read(tmp_path / "anchors.st")
    params = {**artifact.params, "origin": {"source": HOSTILE}}
    artifacts.write(replace(artifact, params=params), tmp_path / "odd.st")
    shown = inside(tmp_path, "inspect", "odd.st", width=300).stdout
    assert ", ".join(names[:3]) in shown
    assert SHOWN in shown


def test_csv_begins_no_formula_and_gives_the_names_back(folder: Path) -> None:
    for name in ("=1+1", "+1", "-1", "@x", "'x", " =1", "＝1", "a;=1", 'a",=1', "plain"):
        (folder / "one.json").write_bytes(report_bytes(named(name)))
        text = inside(folder, "report", "one.json", "--format", "csv").stdout
        (row,) = csv.DictReader(io.StringIO(text))
        assert row["model"].removeprefix("'") == name
        assert not row["model"].lstrip().startswith(tuple("=+-@＝"))
        assert all(len(line.split(";")) == 1 or '"' in line for line in text.splitlines())
        assert float(row["clean"]) == 0.75


def test_a_dumb_terminal_and_no_colour(folder: Path) -> None:
    """On a terminal: plain lines where it can do no more, and no colour where none is wanted."""
    for more in ({"TERM": "dumb"}, {"NO_COLOR": "1"}):
        leader, follower = pty.openpty()
        env = environment(folder.parent, **{"TERM": "xterm", **more})
        done = subprocess.run(
            [str(LAAT), "inspect", "nowhere.st"], cwd=folder, env=env, stderr=follower, stdin=follower, check=False
        )
        os.close(follower)
        said = os.read(leader, 4096).decode()
        os.close(leader)
        assert done.returncode == 3
        assert said.startswith("error: 'nowhere.st' does not exist"), said
