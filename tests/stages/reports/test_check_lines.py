from __future__ import annotations

from typing import Any

from stages.reports.check_lines import check_lines, failed_checks


def entry(model: str, protocol: str, **results: str) -> dict[str, Any]:
    findings = [{"name": name, "result": result, "figures": {}, "sentence": f"of {name}"} for name, result in results.items()]
    sample = {"points": 64, "of": 1234, "seed": 3}
    return {"model": model, "group": "novel", "protocol": protocol, "sample": sample, "findings": findings}


def test_what_did_not_pass_has_a_line_each_the_worst_first() -> None:
    report = {"checks": [entry("run", "all-way", gradients="warn", loss="pass", accuracy="fail", strength="pass")]}
    assert check_lines(report) == [
        "checks of run, novel (64 of 1,234 points that are right when clean, seed 3)",
        "  FAIL accuracy: of accuracy",
        "  WARN gradients: of gradients",
        "  pass loss, strength",
    ]
    assert failed_checks(report) == ["accuracy"]


def test_results_of_one_model_and_group_are_told_apart() -> None:
    report = {
        "checks": [entry("a", "0-shot", loss="fail"), entry("a", "1-shot", loss="fail"), entry("b", "0-shot", loss="pass")]
    }
    heads = [line for line in check_lines(report) if not line.startswith(" ")]
    assert [head.partition(" (")[0] for head in heads] == [
        "checks of a, novel, 0-shot",
        "checks of a, novel, 1-shot",
        "checks of b, novel",
    ]
    assert failed_checks(report) == ["loss"]


def test_a_report_without_checks_has_no_line() -> None:
    assert check_lines({}) == check_lines({"checks": None}) == failed_checks({"checks": None}) == []
