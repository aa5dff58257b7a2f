"""The tables of reports: accuracies, and the generalized figures where there are such. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stages.reports.gzsl_table import Reports, gzsl_tables, in_order
from stages.reports.tables import Cell, FigureTable, Percent, Share


def report_tables(reports: Reports) -> list[FigureTable]:
    """The results of reports, by their names: one row a model and group, one column a measure.

    Reports share a table only when suite, attacks, threat model, protocol, images and saved images are the same: no column
    mixes figures that were measured differently. Of several reports every row says from which it is.
    """
    alike: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, report in reports.items():
        key = [report[part] for part in ("suite", "attacks", "threat", "protocol", "seed")]
        data, saved = report["data"].get("sha256"), report["adversarial"] and report["adversarial"]["sha256"]
        alike.setdefault(json.dumps([*key, data, saved], sort_keys=True), {})[name] = report
    several = len(reports) > 1
    return [
        table
        for group in alike.values()
        for table in (_results_table(group, by_report=several), *gzsl_tables(group, by_report=several))
    ]


def _results_table(reports: Reports, *, by_report: bool) -> FigureTable:
    entries = [(name, entry) for name, report in reports.items() for entry in report["results"]]
    attacks = in_order(reports)
    measures = ["clean", *attacks, *(["worst"] if len(attacks) > 1 else [])]
    by_protocol = len({entry["protocol"] for _, entry in entries}) > 1
    rows: list[tuple[Cell, ...]] = []
    for name, entry in entries:
        shares = {"clean": entry["clean"], "worst": entry["worst"], **entry["attacks"]}
        said = (*[name] * by_report, entry["model"], entry["group"], *[entry["protocol"]] * by_protocol)
        cells = [_share(shares[measure]) if measure in shares else "–" for measure in measures]
        rows.append((*said, Percent(entry["chance"]), *cells))
    report, first = next(iter(reports.values())), entries[0][1]
    suite = f", suite {report['suite']}" if report["suite"] else ""
    threat = report["threat"]
    under = f", attacks in {threat['norm']} {threat['eps']}" if threat else ""
    size = f"{first['episodes']:,} episodes of {first['ways']} ways" if first["episodes"] else "every image of a group once"
    notes = dict.fromkeys(f"note: {note}" for report in reports.values() for note in report["notes"])
    return FigureTable(
        f"accuracy %{under}{suite}",
        (*["report"] * by_report, "model", "classes", *["protocol"] * by_protocol, "chance", *measures),
        tuple(rows),
        (f"± {first['interval']}; {size}", *notes),
    )


def _share(value: Mapping[str, float]) -> Share:
    return Share(value["accuracy"], value["low"], value["high"])
