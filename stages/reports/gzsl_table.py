"""The table of a generalized zero-shot evaluation: S, U, H and the area under the seen-unseen curve. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.reports.tables import Cell, FigureTable, Share

# name -> record
Reports = Mapping[str, Mapping[str, Any]]


def in_order(reports: Reports) -> list[str]:
    """The attacks of the results of `reports`, in the order in which they were run; saved images last."""
    run = [attack["name"] for report in reports.values() for attack in report["attacks"]]
    met = [name for report in reports.values() for entry in report["results"] for name in entry["attacks"]]
    return [name for name in dict.fromkeys((*run, *met)) if name in met]


def gzsl_tables(reports: Reports, *, by_report: bool = False) -> list[FigureTable]:
    """One table over the results of `reports` (alike in suite, attacks and threat) that have such figures; none without."""
    entries = [(name, entry) for name, report in reports.items() for entry in report["results"] if "gzsl" in entry]
    if not entries:
        return []
    rows: list[tuple[Cell, ...]] = []
    for name, entry in entries:
        found = entry["gzsl"]
        parts = {
            "clean": found["clean"],
            **{attack: found["attacks"][attack] for attack in in_order(reports) if attack in found["attacks"]},
            **({"worst": found["worst"]} if len(found["attacks"]) > 1 else {}),
        }
        for measure, part in parts.items():
            shares = [Share(part[key]["accuracy"], part[key]["low"], part[key]["high"]) for key in ("S", "U", "H")]
            area = part["ausuc"]
            said = (*[name] * by_report, entry["model"], measure)
            rows.append((*said, *shares, Share(area["area"], area["low"], area["high"])))
    first = entries[0][1]["gzsl"]
    candidates = f"{first['seen_classes']} seen and {first['novel_classes']} novel classes are candidates together"
    return [
        FigureTable(
            "generalized zero-shot, per-class means %",
            (*["report"] * by_report, "model", "images", "S (seen)", "U (novel)", "H", "AUSUC"),
            tuple(rows),
            (f"± {first['interval']}; {candidates}",),
        )
    ]
