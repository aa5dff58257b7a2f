"""With --json, an error is one JSON object on the last line of standard error, and standard output is empty or JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from laatcli.commands import suites
from tests.laatcli.inside import inside
from tests.laatcli.shell import Done, run

COMMANDS = ("anchors", "expand", "train", "attack", "eval", "compare", "report", "inspect", "plot", "suites", "demo", "doctor")


def error_of(done: Done) -> dict[str, Any]:
    assert done.stdout == ""
    record = json.loads(done.stderr.splitlines()[-1])
    assert list(record) == ["code", "what", "fix"]
    assert record["code"] == done.code
    assert record["what"]
    return record  # type: ignore[no-any-return]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_option_of_every_command(tmp_path: Path, command: str) -> None:
    record = error_of(inside(tmp_path, command, "--json", "--nonsense"))
    assert record["code"] == 2
    assert "No such option: --nonsense" in record["what"]
    assert f"laat {command} --help" in record["fix"]


@pytest.mark.parametrize(
    ("args", "code", "what", "fix"),
    [
        (("inspect", "--json"), 2, "Missing argument 'file'", "laat inspect --help"),
        (("nonsense", "--json"), 2, "No such command 'nonsense'", "laat --help"),
        (("anchors", "--dim", "x", "--json"), 2, "Invalid value for '--dim'", "laat anchors --help"),
        (("suites", "quik", "--json"), 2, "unknown suite 'quik' (nearest: 'quick'", "`laat suites` lists"),
        (("inspect", "a\nb.st", "--json"), 3, "'a\nb.st' does not exist", "check the path"),
        (("--json", "suites"), 2, "No such option: --json", "laat --help"),
        (("train", "--recipe", "x", "--json"), 2, "unknown recipe 'x'", "nearest"),
        (("plot", "nowhere", "--json"), 3, "'nowhere' does not exist", ""),
    ],
)
def test_errors_in_parts(tmp_path: Path, args: tuple[str, ...], code: int, what: str, fix: str) -> None:
    record = error_of(inside(tmp_path, *args))
    assert record["code"] == code
    assert what in record["what"]
    assert fix in record["fix"]


def test_faults_of_laat_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(suites, "find_suite", broken)
    record = error_of(inside(tmp_path, "suites", "quick", "--json"))
    assert (record["code"], record["what"]) == (1, "unexpected error: KeyError: 'quick'")
    assert "--debug" in record["fix"]
    assert inside(tmp_path, "suites", "quick").stderr.startswith("error: unexpected error: KeyError: 'quick'. This is a bug")
    debug = inside(tmp_path, "suites", "quick", "--json", "--debug").stderr.splitlines()
    assert debug[0].startswith("Traceback")
    assert json.loads(debug[-1])["code"] == 1


def test_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(suites, "find_suite", stopped)
    assert error_of(inside(tmp_path, "suites", "quick", "--json")) == {"code": 130, "what": "interrupted", "fix": ""}


def test_json_after_two_dashes_is_a_name(tmp_path: Path) -> None:
    assert inside(tmp_path, "inspect", "--", "--json").stderr.startswith("error: '--json' does not exist")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
def test_installed(tmp_path: Path) -> None:
    assert error_of(run("inspect", "no\u202e.st", "--json", cwd=tmp_path))["what"] == "'no\u202e.st' does not exist"
