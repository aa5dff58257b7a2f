"""`laat report --leaderboard`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.laatcli.conftest import Pipeline
from tests.laatcli.inside import inside
from tests.laatcli.shell import check_refusal, tree


def test_reports_are_collected_and_shown(pipeline: Pipeline, tmp_path: Path) -> None:
    report = pipeline.folder / "report.json"
    done = inside(tmp_path, "report", report, "--leaderboard", "board.jsonl")
    assert done.code == 0, done.stderr
    assert "board.jsonl: 1 added, 0 replaced, 1 in all" in done.stderr
    assert "rank" in done.stdout
    before = tree(tmp_path)
    done = inside(tmp_path, "report", report, "--leaderboard", "board.jsonl", "--json")
    assert "board.jsonl: 0 added, 0 replaced, 1 in all" in done.stderr
    assert tree(tmp_path) == before
    (table,) = json.loads(done.stdout)["tables"]
    assert table["columns"][:3] == ["rank", "model", "classes"]
    shown = inside(tmp_path, "report", "board.jsonl", "--format", "markdown")
    assert shown.code == 0, shown.stderr
    assert "| 1 | run | novel |" in shown.stdout


def test_what_is_no_leaderboard(pipeline: Pipeline, tmp_path: Path) -> None:
    report = pipeline.folder / "report.json"
    assert inside(tmp_path, "report", report, "--leaderboard", "board.jsonl").code == 0
    before = tree(tmp_path)
    for line, code, *says in (
        ((report, "--leaderboard", "board.csv"), 2, "Name it leaderboard.jsonl"),
        (("board.jsonl", report), 2, "a leaderboard is shown alone"),
        (("board.jsonl", "--leaderboard", "other.jsonl"), 2, "a leaderboard was given"),
        (("--leaderboard", "board.jsonl"), 2, "no report was given", "`laat report board.jsonl` shows the leaderboard"),
        ((report, "--leaderboard", report), 2, "would replace"),
        (("none.jsonl",), 3, "'none.jsonl' does not exist"),
    ):
        check_refusal(inside(tmp_path, "report", *line), code, *says)
    assert tree(tmp_path) == before
