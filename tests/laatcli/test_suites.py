"""`laat suites`, and `laat eval --suite`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.attacks.suites import SUITES
from tests.laatcli.shell import refused, run


def test_the_list_and_one_explained(tmp_path: Path) -> None:
    listed = run("suites", cwd=tmp_path)
    assert listed.code == 0, listed.stderr
    assert all(suite.label in listed.stdout for suite in SUITES.values())
    one = run("suites", "AA-few-class", cwd=tmp_path)
    assert one.code == 0, one.stderr
    for text in ("aa-few-class v1", "apgd-t", "dlr-targeted", "min(9, C - 1)", "5,000", "Croce & Hein", "at least 2"):
        assert text in one.stdout, text


def test_json_holds_every_attack(tmp_path: Path) -> None:
    record = json.loads(run("suites", "--json", cwd=tmp_path).stdout)
    assert [suite["name"] for suite in record["suites"]] == list(SUITES)
    one = json.loads(run("suites", "quick", "--json", cwd=tmp_path).stdout)
    assert one == record["suites"][0]
    assert [(attack["name"], attack["steps"]) for attack in one["attacks"]] == [("pgd-20", 20), ("margin-pgd-20", 20)]


@pytest.mark.parametrize("command", [("suites",)])
def test_an_unknown_suite_shows_the_nearest(tmp_path: Path, command: tuple[str, ...]) -> None:
    refused(tmp_path, *command, "aa-standart", code=2, says=("unknown suite 'aa-standart'", "'aa-standard'"))
