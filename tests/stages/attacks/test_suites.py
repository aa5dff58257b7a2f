from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction

import pytest

from stages.attacks.spec import parse_attacks
from stages.attacks.suites import SUITES, find_suite, variant_notes
from stages.errors import UsageError
from stages.threat import ThreatModel

LINF, L2 = ThreatModel(Fraction(8, 255)), ThreatModel(Fraction(1, 2), "L2")


def test_what_each_suite_runs() -> None:
    assert {suite.label: suite.attacks for suite in SUITES.values()} == {
        "quick v1": ("pgd-20", "margin-pgd-20"),
        "laat-2024 v1": ("fgsm", "pgd-20", "cw-linf"),
        "aa-standard v1": ("apgd-ce", "apgd-t", "fab-t", "square"),
        "aa-few-class v1": ("apgd-ce", "apgd-t", "fab-t", "square"),
        "tecoa-2023 v1": ("apgd-ce", "apgd-dlr"),
        "robustvlm-2024 v1": ("apgd-ce", "apgd-t"),
    }


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_says_what_it_is(name: str) -> None:
    suite = find_suite(name.upper())
    assert suite.why
    assert suite.source
    record = json.loads(json.dumps(suite.to_record()))
    assert [attack["name"] for attack in record["attacks"]] == list(suite.attacks)
    assert all(attack["steps"] >= 1 and attack["loss"] for attack in record["attacks"])
    suite.check_fits(LINF, 100)


def test_an_unknown_suite_shows_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown suite 'aa-standart' \\(nearest: 'aa-standard'"):
        find_suite("aa-standart")


@pytest.mark.parametrize(
    ("name", "threat", "ways", "text"),
    [
        ("aa-standard", LINF, 3, "at least 4 candidate classes, and there are 3"),
        ("tecoa-2023", LINF, 2, "at least 4 candidate classes, and there are 2"),
        ("robustvlm-2024", L2, 3, "at least 4 candidate classes"),
        ("aa-few-class", LINF, 1, "at least 2 candidate classes, and there are 1"),
        ("laat-2024", L2, 5, "cw-linf is an L-inf attack"),
    ],
)
def test_a_suite_that_cannot_run_is_refused(name: str, threat: ThreatModel, ways: int, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        find_suite(name).check_fits(threat, ways)


def test_few_classes_and_l2_are_fine_where_they_can_be() -> None:
    for ways in (2, 3, 5, 12):
        for threat in (LINF, L2):
            find_suite("aa-few-class").check_fits(threat, ways)
    find_suite("aa-standard").check_fits(L2, 4)
    find_suite("aa-standard").check_fits(LINF)


def test_notes_say_which_variant_runs() -> None:
    assert variant_notes(find_suite("aa-few-class").specs(), 3) == [
        "apgd-t: 100 steps, 2 targets, margin in place of DLR (3 classes)",
        "fab-t: 100 steps, 2 targets",
    ]
    assert variant_notes(find_suite("tecoa-2023").specs(), 5) == ["apgd-dlr: 100 steps"]
    assert variant_notes(parse_attacks(["pgd-20", "square"]), 5) == []


def test_suites_are_known_without_torch() -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from stages.attacks.suites import SUITES\n"
        "[suite.to_record() for suite in SUITES.values()]"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
