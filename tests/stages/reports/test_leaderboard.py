"""Leaderboards: lines that are reports, rankings that mix nothing, and the same file whatever came first."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from threading import Thread
from typing import Any

import jsonschema
import pytest

from stages.errors import InputError
from stages.reports import leaderboard
from stages.reports.leaderboard import Leaderboard, add_to_file, read_leaderboard, write_leaderboard
from stages.reports.page.content import groups_in, groups_of, page_content
from stages.reports.page.request import PageRequest
from stages.reports.records import Checks, Report, report_schema
from stages.reports.verify import with_digest
from stages.statistics.intervals import Estimate
from tests.stages.reports.test_plots import gzsl_report
from tests.stages.reports.test_report import report


def of(name: str, worst: int, *, clean: int = 3, group: str = "novel", **change: Any) -> Report:
    """A report of one model, so many of whose 4 points are right."""
    found = report()
    robust = Estimate(worst / 4, 0.0, 1.0)
    update = {"worst": robust, "attacks": {"pgd-20": robust}, "clean": Estimate(clean / 4, 0.0, 1.0), "verdicts": None}
    result = found.results[0].model_copy(update={**update, "model": name, "group": group})
    model = found.models[0].model_copy(update={"name": name, "sha256": f"{name}-sha"})
    return with_digest(found.model_copy(update={"models": [model], "results": [result], **change}))


def ranking(board: Leaderboard) -> list[list[tuple[str, str]]]:
    """Rank and model of every row, by table."""
    return [[(str(row[0]), str(row[1])) for row in table.rows] for table in board.tables()]


def added(*reports: Report) -> Leaderboard:
    return Leaderboard().add(reports)[0]


def test_models_are_ranked_by_their_worst_case() -> None:
    reports = [of("a", 1), of("b", 2), of("c", 2, clean=4)]
    board = added(*reports)
    assert ranking(board) == [[("1", "c"), ("2", "b"), ("3", "a")]]
    assert {added(*order).to_bytes() for order in permutations(reports)} == {board.to_bytes()}


def test_a_model_that_is_measured_again_is_replaced() -> None:
    board, new, replaced = added(of("a", 1), of("b", 2)).add([of("a", 3), of("b", 2)])
    assert (new, replaced) == (0, 1)
    assert ranking(board) == [[("1", "a"), ("2", "b")]]


@pytest.mark.parametrize(
    "change",
    [
        {"threat": report().threat.model_copy(update={"eps": "4/255"})},  # type: ignore[union-attr]
        {"threat": report().threat.model_copy(update={"norm": "L2"})},  # type: ignore[union-attr]
        {"threat": report().threat.model_copy(update={"knowledge": "oblivious"})},  # type: ignore[union-attr]
        {"suite": "quick v1"},
        {"data": report().data.model_copy(update={"sha256": "1" * 64})},
        {"data": report().data.model_copy(update={"source": "photos"})},
        {"seed": 1},
        {"attacks": [report().attacks[0].model_copy(update={"steps": 10})]},
        {"group": "seen"},
    ],
)
def test_what_was_measured_otherwise_is_another_ranking(change: dict[str, Any]) -> None:
    board = added(of("a", 1), of("b", 2, **change))
    assert sorted(map(len, ranking(board))) == [1, 1]
    assert board.add([of("a", 1, **change)])[1:] == (1, 0)


def answered(name: str, worst: int, anchors: str | None, eot: int = 1) -> Report:
    """A report that records the digest of the anchors that answered, and the number of random draws."""
    inputs = {} if anchors is None else {"inputs": {"anchors": anchors, "data": "ef"}}
    return of(name, worst, identity={**inputs, "settings": {"eot": eot}, "versions": {}})


def test_a_model_that_answered_with_other_anchors_has_a_line_of_its_own() -> None:
    board, new, replaced = added(answered("a", 1, "1" * 64)).add([answered("a", 2, "2" * 64), answered("a", 3, "1" * 64)])
    assert (new, replaced) == (1, 1)
    assert ranking(board) == [[("1", "a, anchors 111111111111"), ("2", "a, anchors 222222222222")]]
    # a line that does not record them is replaced, and replaces
    assert added(of("a", 1)).add([answered("a", 2, "1" * 64)])[1:] == (0, 1)
    assert added(answered("a", 2, "1" * 64)).add([of("a", 1)])[1:] == (0, 1)


def test_other_numbers_of_draws_are_other_rankings() -> None:
    board = added(answered("a", 1, None), answered("b", 1, None, eot=8))
    assert sorted(map(len, ranking(board))) == [1, 1]
    assert len(groups_of({"a": answered("a", 1, None), "b": answered("b", 1, None, eot=8)})) == 2


def test_every_line_is_a_report_of_the_published_schema(tmp_path: Path) -> None:
    board = added(of("a", 1), of("b", 2), gzsl_report())
    write_leaderboard(board, tmp_path / "board.jsonl")
    lines = (tmp_path / "board.jsonl").read_bytes().splitlines()
    assert len(lines) == 2 + len(gzsl_report().results)
    for line in lines:
        jsonschema.Draft202012Validator(report_schema()).validate(json.loads(line))
    assert read_leaderboard(tmp_path / "board.jsonl") == board
    tables = board.tables()
    assert [table.columns[0] for table in tables] == ["rank"] * len(tables)
    assert any("AUSUC" in table.columns for table in tables)


def test_checkpoints_of_one_name_are_told_apart_and_failed_checks_named() -> None:
    finding = {"name": "gradients", "result": "fail", "sentence": "the gradients are zero", "figures": {}}
    entry = {"findings": [finding], "group": "novel", "model": "a", "protocol": "all-way"}
    checks = [Checks.model_validate({**entry, "sample": {"of": 40, "points": 40, "seed": 0}})]
    first = of("a", 3, checks=checks)
    model = first.models[0].model_copy(update={"sha256": "f" * 64})
    (table,) = added(first, with_digest(of("a", 1).model_copy(update={"models": [model]}))).tables()
    assert [row[1] for row in table.rows] == ["a a-sha", "a ffffffffffff"]
    assert "checks failed for rank 1: gradients" in table.notes
    assert "data shapes" in table.title


def test_two_processes_add_to_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "board.jsonl"
    other = Thread(target=add_to_file, args=(path, [of("b", 2)]))

    def write(board: Leaderboard, path: Path) -> None:
        if other.ident is None:
            other.start()
            other.join(0.2)  # has the time to finish, if nothing holds it
        write_leaderboard(board, path)

    monkeypatch.setattr(leaderboard, "write_leaderboard", write)
    add_to_file(path, [of("a", 1)])
    other.join()
    assert ranking(read_leaderboard(path)) == [[("1", "b"), ("2", "a")]]
    assert [one.name for one in tmp_path.iterdir()] == ["board.jsonl"]


def test_an_edited_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "board.jsonl"
    write_leaderboard(added(of("a", 1), of("b", 2)), path)
    text = path.read_text()
    for change, says in (
        (text.replace('"seed":0', '"seed":1', 1), "line 1 of '.*' was damaged or edited"),
        (text + "{}\n", "line 3 of '.*' is JSON, but not a report"),
        (text[:-9], "line 2 of '.*' is cut short"),
    ):
        path.write_text(change)
        with pytest.raises(InputError, match=f"{says}.*; delete the line"):
            read_leaderboard(path)


def test_the_page_has_every_line_of_every_ranking() -> None:
    board = added(*(of(name, 1, seed=seed) for seed, names in enumerate(("abc", "d", "ef", "g")) for name in names))
    content = page_content(groups_in(board), {}, PageRequest())
    assert sorted(one.name for one in content.about) == sorted(
        f"ranking {number}, {rank}" for number, lines in enumerate(board.rankings(), 1) for rank in lines
    )
    assert len(content.about) == 7
