"""The table of a generalized zero-shot evaluation: S, U, H and the area under the seen-unseen curve. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.report.tables import Cell, FigureTable, Share


def gzsl_tables(reports: Sequence[Mapping[str, Any]]) -> list[FigureTable]:
    """One table over the results of `reports` (alike in suite, attacks and threat) that have such figures; none without."""
    entries = [entry for report in reports for entry in report["results"] if "gzsl" in entry]
    if not entries:
        return []
    rows: list[tuple[Cell, ...]] = []
    for entry in entries:
        found = entry["gzsl"]
        parts = {
            "clean": found["clean"],
            **found["attacks"],
            **({"worst": found["worst"]} if len(found["attacks"]) > 1 else {}),
        }
        for measure, part in parts.items():
            shares = [Share(part[key]["accuracy"], part[key]["low"], part[key]["high"]) for key in ("S", "U", "H")]
            area = part["ausuc"]
            rows.append((entry["model"], measure, *shares, Share(area["area"], area["low"], area["high"])))
    first = entries[0]["gzsl"]
    candidates = f"{first['seen_classes']} seen and {first['novel_classes']} novel classes are candidates together"
    return [
        FigureTable(
            "generalized zero-shot, per-class means %",
            ("model", "images", "S (seen)", "U (novel)", "H", "AUSUC"),
            tuple(rows),
            (f"± {first['interval']}; {candidates}",),
        )
    ]
