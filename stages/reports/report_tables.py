"""The tables of reports, and the lines that say what their checks found. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stages.reports.notes import merged_notes
from stages.reports.parts import alike
from stages.reports.records import Report, Result
from stages.reports.tables import MISSING, Cell, Figure, FigureTable, percent, share
from stages.statistics.chance import LEGEND, verdict
from stages.statistics.gzsl import Area
from stages.statistics.intervals import Estimate

# name -> report
Reports = Mapping[str, Report]


def report_tables(reports: Reports, *, label: str | None = None) -> list[FigureTable]:
    """The results of reports, by their names: one row per model and group, one column per measure.

    Reports share a table only if they were measured alike (see `measured_alike`): no column mixes figures that were measured
    differently. With several reports, or a `label`, the heading of that column, every row names its report.
    """
    label = label or ("report" if len(reports) > 1 else None)
    return [table for group in alike(reports) for table in tables_of_alike(group, label)]


def tables_of_alike(reports: Reports, label: str | None) -> list[FigureTable]:
    """The tables of reports that were measured alike; `label` is the heading of the column of their names, None for none."""
    return [_results_table(reports, label), *_gzsl_tables(reports, label)]


def _results_table(reports: Reports, label: str | None) -> FigureTable:
    entries = [(name, entry) for name, report in reports.items() for entry in report.results]
    attacks = attacks_in_order(reports)
    measures = ["clean", *attacks, *(["worst"] if len(attacks) > 1 else [])]
    at_bias = any(entry.gzsl is not None and entry.gzsl.bias is not None for _, entry in entries)
    by_protocol = at_bias or len({entry.protocol for _, entry in entries}) > 1
    rows: list[tuple[Cell, ...]] = []
    for name, entry in entries:
        shares = {"clean": entry.clean, "worst": entry.worst, **entry.attacks}
        labels = (*([name] if label else []), entry.model, entry.group, *[entry.protocol] * by_protocol)
        cells = [_share(shares[measure]) if measure in shares else MISSING for measure in measures]
        rows.append((*labels, percent(entry.chance), *cells))
    report, first = next(iter(reports.values())), entries[0][1]
    suite = f", suite {report.suite}" if report.suite else ""
    under = f", attacks in {report.under}" if report.under else ""
    size = f"{first.episodes:,} episodes of {first.ways} ways" if first.episodes else "every image of a group once"
    named = [", ".join(label for label in row if isinstance(label, str) and label != MISSING) for row in rows]
    verdicts = _verdicts([(name, entry) for name, (_, entry) in zip(named, entries, strict=True)])
    notes = merged_notes({f"{label} {name}": report.notes for name, report in reports.items()})
    return FigureTable(
        f"accuracy %{under}{suite}",
        (*([label] if label else []), "model", "classes", *["protocol"] * by_protocol, "chance", *measures),
        tuple(rows),
        (f"± {first.interval}; {size}", *verdicts, *(f"note: {note}" for note in notes)),
    )


def _verdicts(entries: Sequence[tuple[str, Result]]) -> list[str]:
    """Lines that say which of the results, by their names, are above chance, and what the words mean if some are not."""
    said: dict[str, list[str]] = {}
    for name, entry in entries:
        verdicts = entry.verdicts_or_intervals()
        parts = [f"clean {verdicts.clean}", *([f"worst case {verdicts.worst}"] if entry.attacks else [])]
        if entry.gzsl is not None:
            sides = {"S": entry.gzsl.clean.S, "U": entry.gzsl.clean.U}
            parts += [f"clean {side} {verdict(found, entry.chance)}" for side, found in sides.items()]
        said.setdefault(", ".join(parts), []).append(name)
    lines = [f"verdict on {'; '.join(names) if len(said) > 1 else 'every row'}: {what}" for what, names in said.items()]
    used = [f"{word}: {meaning}" for word, meaning in LEGEND.items() if any(word in what for what in said)]
    return [*lines, *(["; ".join(used)] if used else [])]


def attacks_in_order(reports: Reports) -> list[str]:
    """The attacks of the results of `reports`, in the order in which they were run; saved images last."""
    run = [attack.name for report in reports.values() for attack in report.attacks]
    found = [name for report in reports.values() for entry in report.results for name in entry.attacks]
    return [name for name in dict.fromkeys((*run, *found)) if name in found]


def _gzsl_tables(reports: Reports, label: str | None) -> list[FigureTable]:
    """One table of S, U, H and the area under the seen-unseen curve; none without such figures."""
    entries = [(name, entry.model, entry.gzsl) for name, report in reports.items() for entry in report.results if entry.gzsl]
    if not entries:
        return []
    by_bias = any(found.bias is not None for _, _, found in entries)
    rows: list[tuple[Cell, ...]] = []
    for name, model, found in entries:
        parts = {
            "clean": found.clean,
            **{attack: found.attacks[attack] for attack in attacks_in_order(reports) if attack in found.attacks},
            **({"worst": found.worst} if len(found.attacks) > 1 else {}),
        }
        for measure, part in parts.items():
            shares = (_share(part.S), _share(part.U), _share(part.H), MISSING if part.ausuc is None else _share(part.ausuc))
            bias = "0" if found.bias is None else f"{found.bias:.4f}"
            rows.append((*([name] if label else []), model, *[bias] * by_bias, measure, *shares))
    first = entries[0][2]
    candidates = f"{first.seen_classes} seen and {first.novel_classes} novel classes are candidates together"
    columns = (*([label] if label else []), "model", *["bias"] * by_bias, "images", "S (seen)", "U (novel)", "H", "AUSUC")
    notes = (f"± {first.interval}; {candidates}",)
    return [FigureTable("generalized zero-shot, per-class means %", columns, tuple(rows), notes)]


def _share(found: Estimate | Area) -> Figure:
    return share(found.area if isinstance(found, Area) else found.accuracy, found.low, found.high)


def check_lines(report: Report) -> list[str]:
    """What the checks of a report found: per result a heading, a line for each check that did not pass, one for the others.

    Empty for a report without checks.
    """
    lines = []
    for entry in report.checks or ():
        sample = entry.sample
        where = f"{entry.model}, {entry.group}"
        if sum((one.model, one.group) == (entry.model, entry.group) for one in report.checks or ()) > 1:
            where = f"{where}, {entry.protocol}"
        drawn = f"{sample.points:,} of {sample.of:,} points that are right when clean, seed {sample.seed}"
        lines.append(f"checks of {where} ({drawn})")
        for result in ("fail", "warn"):
            failed = (found for found in entry.findings if found.result == result)
            lines += [f"  {result.upper()} {found.name}: {found.sentence}" for found in failed]
        few: dict[str, list[str]] = {}
        for found in entry.findings:
            if found.result == "few":
                few.setdefault(found.sentence, []).append(found.name)
        lines += [f"  TOO FEW POINTS {', '.join(names)}: {sentence}" for sentence, names in few.items()]
        passed = [found.name for found in entry.findings if found.result == "pass"]
        if passed:
            lines.append(f"  pass: {', '.join(passed)}")
    return lines


def failed_checks(report: Report) -> list[str]:
    """The names of the checks that failed, each once."""
    found = [one.name for entry in report.checks or () for one in entry.findings if one.result == "fail"]
    return list(dict.fromkeys(found))


def unchecked(report: Report) -> list[str]:
    """The results, as 'model, group', that had too few points for any check to pass."""
    return [
        f"{entry.model}, {entry.group}"
        for entry in report.checks or ()
        if {"few"} <= {found.result for found in entry.findings} <= {"few", "warn", "fail"}
    ]
