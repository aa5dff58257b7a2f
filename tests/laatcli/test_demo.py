"""`laat demo` runs the five stages as command lines that a user could type."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import typer.testing

from laatcli.app import app
from laatcli.commands import demo


def test_the_lines_are_the_pipeline(tmp_path: Path) -> None:
    lines = demo.commands(tmp_path / "out", 3, 1, "cpu")
    assert [number for number, *_ in lines] == [1, 2, 3, 3, 3, 4, 5]
    commands = [shlex.split(line)[1] for *_, line in lines]
    assert commands == ["anchors", "expand", "train", "train", "train", "attack", "eval"]
    assert len([line for *_, line in lines if "--objective clean" in line]) == 1


def test_every_line_parses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line after the first needs a file that an earlier line writes: without it, it exits with 3, not with 2."""
    monkeypatch.chdir(tmp_path)
    runner = typer.testing.CliRunner()
    for *_, line in demo.commands(Path("demo"), 1, 0, "auto")[1:]:
        done = runner.invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 3, f"{line}\n{done.output}"
        assert "does not exist" in done.output


def test_the_demo_prints_each_line_and_ends_with_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def pretend(_: object, line: str, *__: object) -> None:
        ran.append(line)
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out/report.json").write_text(json.dumps({"results": []}))

    monkeypatch.setattr(demo, "_run", pretend)
    done = typer.testing.CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert len(ran) == 7
    for line in ran:
        assert f"$ {line}" in done.output
    for number in range(1, 6):
        assert f"[{number}/5]" in done.output
