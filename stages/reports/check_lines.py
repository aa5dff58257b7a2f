"""The checks of a report as lines of text. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def check_lines(report: Mapping[str, Any]) -> list[str]:
    """What the checks of a report found: for each result a heading, a line a check that did not pass, one for those that did.

    Empty for a report without checks.
    """
    lines = []
    for entry in report.get("checks") or ():
        sample = entry["sample"]
        where = f"{entry['model']}, {entry['group']}"
        if sum((one["model"], one["group"]) == (entry["model"], entry["group"]) for one in report["checks"]) > 1:
            where = f"{where}, {entry['protocol']}"
        drawn = f"{sample['points']:,} of {sample['of']:,} points that are right when clean, seed {sample['seed']}"
        lines.append(f"checks of {where} ({drawn})")
        for result in ("fail", "warn"):
            told = (found for found in entry["findings"] if found["result"] == result)
            lines += [f"  {result.upper()} {found['name']}: {found['sentence']}" for found in told]
        passed = [found["name"] for found in entry["findings"] if found["result"] == "pass"]
        if passed:
            lines.append(f"  pass {', '.join(passed)}")
    return lines


def failed_checks(report: Mapping[str, Any]) -> list[str]:
    """The names of the checks that failed, each once."""
    found = [one for entry in report.get("checks") or () for one in entry["findings"] if one["result"] == "fail"]
    return list(dict.fromkeys(one["name"] for one in found))
