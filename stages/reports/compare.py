"""Comparing two reports: two models on the same images or episodes, the difference with its interval and p-value. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.classes import fold
from stages.errors import InputError, UsageError, nearest
from stages.files.records import Record
from stages.reports.measures import OF_CLASS_MEANS, OF_DRAWS, OVER_CLASSES, Measure, compare_rows
from stages.reports.parquet import AGAIN
from stages.reports.records import Report
from stages.reports.report import read_report
from stages.reports.row_file import RowPart
from stages.reports.tables import Cell, FigureTable, difference, difference_of, p_value, percent
from stages.reports.verify import rows_of_report

_SAME_WAY = "evaluate both models in the same way"


@dataclass(frozen=True)
class Source:
    """A report to compare, and which of its models; None takes the only one, or pairs those of the same name."""

    path: Path
    model: str | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        """From 'report.json' or 'report.json:MODEL'; both may have colons ('report.json:clip:demo')."""
        parts = text.split(":")
        cuts = [(":".join(parts[:at]), ":".join(parts[at:]) or None) for at in range(len(parts), 0, -1)]
        path, model = next((cut for cut in cuts if Path(cut[0]).exists()), (parts[0], ":".join(parts[1:]) or None))
        return cls(Path(path), model)


@dataclass(frozen=True)
class Comparison:
    """The lines, and what a reader must know."""

    measures: list[Measure]
    notes: list[str]
    reports: list[str]

    def to_record(self) -> dict[str, Any]:
        """The comparison as a JSON-able record."""
        results = [measure.to_record() for measure in self.measures]
        return {"kind": "laat-comparison", "notes": self.notes, "reports": self.reports, "results": results}


def compare_reports(first: Source, second: Source) -> Comparison:
    """Compare two reports, or two models of one report, by their rows.

    Clean accuracy, each attack that both have, and the worst case over those; where seen and novel classes are candidates
    together also S, U, H and the area under the seen-unseen curve of each.

    Raises:
        UsageError: a model that is not in the report, or several to choose from.
        InputError: a report or rows file that cannot be read, or reports that were not measured alike, naming both sides.
    """
    sources = first, second
    reports = read_report(first.path), read_report(second.path)
    names = f"'{first.path}'", f"'{second.path}'"
    _check_alike(reports, names)
    pairs = _pair_models(sources, reports)
    parts = [
        {part.key: part for part in rows_of_report(report, source.path)}
        for report, source in zip(reports, sources, strict=True)
    ]
    measures: list[Measure] = []
    notes: dict[str, None] = {}
    for models in pairs:
        results = [
            {entry.key[1:]: entry for entry in report.results if entry.model == model}
            for report, model in zip(reports, models, strict=True)
        ]
        for key in sorted(results[0].keys() ^ results[1].keys()):
            found = results[0].get(key) or results[1][key]
            if found.gzsl is not None and found.gzsl.bias is not None:  # not every checkpoint has one
                notes[f"only in one of the reports, so not compared: {' '.join(key)}"] = None
                results = [{one: of for one, of in side.items() if one != key} for side in results]
        _refuse_unlike("groups of classes", names, [sorted(found) for found in results], lambda key: " ".join(key))
        for key in results[0]:
            one, other = (_part(parts[at], (models[at], *key), names[at]) for at in (0, 1))
            check_same_points(one, other, names)
            counts = [0 if (gzsl := found[key].gzsl) is None else gzsl.seen_classes for found in results]
            seen = [sorted(map(fold, part.classes[:count])) for part, count in zip((one, other), counts, strict=True)]
            _refuse_unlike("seen classes", names, seen, str)
            measures += compare_rows(one, other, counts[0])
            left_out = set(one.rows.attacks) ^ set(other.rows.attacks)
            if left_out:
                text = ", ".join(sorted(left_out))
                notes[f"only in one of the reports, so neither compared nor part of the worst case: {text}"] = None
    return Comparison(measures, list(notes), [str(source.path) for source in sources])


def _check_alike(reports: Sequence[Report], names: tuple[str, str]) -> None:
    """Refuse reports whose figures cannot be compared."""
    _refuse_unlike("suites", names, [report.suite or "none" for report in reports], str)
    for name, report in zip(names, reports, strict=True):
        if report.data.sha256 is None:
            raise InputError(f"{name} does not name its images: its data has no sha256", AGAIN)
    _refuse_unlike("data", names, [report.data.sha256 for report in reports], lambda sha256: f"sha256 {sha256}")
    _refuse_unlike("protocols", names, [report.protocol for report in reports], _shown)
    saved = [report.adversarial.sha256 if report.adversarial else "none" for report in reports]
    _refuse_unlike("saved adversarial images", names, saved, str)
    threats = [report.threat for report in reports if report.threat]
    if len(threats) == len(reports):
        radii = [(threat.norm, threat.eps, threat.clip) for threat in threats]
        _refuse_unlike("threat models", names, radii, lambda radius: f"{radius[0]} {radius[1]} in {radius[2]}")
        _refuse_unlike("attacker knowledge", names, [report.knowledge for report in reports], str)
        _refuse_unlike("resizing inside the attack", names, [threat.inside for threat in threats], str)
    attacks = [{attack.name: attack for attack in report.attacks} for report in reports]
    for name in attacks[0].keys() & attacks[1].keys():
        _refuse_unlike(f"settings of {name}", names, [found[name] for found in attacks], _shown)


def _refuse_unlike(what: str, names: Sequence[str], values: Sequence[Any], show: Callable[[Any], str]) -> None:
    if values[0] != values[1]:
        sides = " and ".join(f"{name} has {_listed(value, show)}" for name, value in zip(names, values, strict=True))
        raise InputError(f"the reports have different {what}: {sides}", _SAME_WAY)


def _listed(value: Any, show: Callable[[Any], str]) -> str:
    return (", ".join(map(show, value)) or "none") if isinstance(value, list) else show(value)


def _shown(record: Record) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(record.to_record().items()))


def _pair_models(sources: tuple[Source, Source], reports: tuple[Report, Report]) -> list[tuple[str, str]]:
    known = [[model.name for model in report.models] for report in reports]
    for source, names in zip(sources, known, strict=True):
        if source.model is not None and source.model not in names:
            raise UsageError(f"'{source.path}' has no model '{source.model}'", f"its models: {nearest(source.model, names)}")
    chosen = [names if source.model is None else [source.model] for source, names in zip(sources, known, strict=True)]
    if len(chosen[0]) == len(chosen[1]) == 1:
        return [(chosen[0][0], chosen[1][0])]
    if sorted(chosen[0]) == sorted(chosen[1]) and sources[0].path != sources[1].path:
        return [(name, name) for name in chosen[0]]
    at = 0 if len(chosen[0]) > 1 else 1
    path, names = sources[at].path, chosen[at]
    raise UsageError(f"'{path}' has several models: {', '.join(names)}", f"say which: {path}:{names[0]}")


def _part(parts: Mapping[tuple[str, str, str], RowPart], key: tuple[str, str, str], where: str) -> RowPart:
    if key not in parts:
        raise InputError(f"the rows of {where} lack {', '.join(key)}", AGAIN)
    return parts[key]


def check_same_points(one: RowPart, other: RowPart, names: tuple[str, str]) -> None:
    """Raise InputError unless two parts, of reports with these names, are of the same images, episodes and labels in order."""
    keys = [[] if part.images is None else part.images.names() for part in (one, other)]
    named = not set(keys[0]).isdisjoint(keys[1])  # otherwise the same images (see their sha256) have other keys or none
    sides = [
        (
            part.rows.episode,
            _images_of(part, own if named else None),
            np.array([fold(name) for name in part.classes], dtype=object)[part.rows.label],
        )
        for part, own in zip((one, other), keys, strict=True)
    ]
    if not all(np.array_equal(mine, theirs) for mine, theirs in zip(*sides, strict=True)):
        where = f"{one.group}, {one.protocol}"
        raise InputError(f"the rows of {names[0]} and {names[1]} are of different points in {where}", _SAME_WAY)


def _images_of(part: RowPart, keys: Sequence[str] | None) -> np.ndarray:
    """The image of each point, (P,): its key, or without keys its number in the order of first use."""
    if keys is not None:
        return np.array(keys, dtype=object)[part.rows.image]
    _, first, image = np.unique(part.rows.image, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[image]


def comparison_tables(found: Comparison) -> list[FigureTable]:
    """For each pair of models a table of all decisions, and one of S, U, H and AUSUC if there are such figures: A, B, B
    minus A in percentage points, p, and which is better."""
    tables = []
    for pair in dict.fromkeys(measure.models for measure in found.measures):
        mine = [measure for measure in found.measures if measure.models == pair]
        for of_gzsl in (False, True):
            part = [measure for measure in mine if (measure.interval in (OF_CLASS_MEANS, OF_DRAWS)) == of_gzsl]
            if part:
                tables.append(_table(part, _sides(found, pair), () if of_gzsl else found.notes, of_gzsl=of_gzsl))
    return tables


def _sides(found: Comparison, pair: tuple[str, str]) -> tuple[str, str]:
    """What A and B are: the models, or the reports where the models have one name."""
    if pair[0] != pair[1]:
        return pair
    first, second = (f"{model} in {report}" for model, report in zip(pair, found.reports, strict=True))
    return first, second


def _verdicts(measures: Sequence[Measure], *, several: bool) -> list[str]:
    """Lines that say which of A and B is better, where and by how many points, and where neither is."""
    said: dict[str | None, list[str]] = {}
    for measure in measures:
        where = " ".join((measure.group, *([measure.protocol] if several else []), measure.measure))
        how_much = f" by {100 * abs(measure.paired.difference):.1f}" if measure.better else ""
        said.setdefault(measure.better, []).append(f"{where}{how_much}")
    return [
        *(f"{side} is better, the 95 % interval excludes 0: {', '.join(said[side])} points" for side in "AB" if side in said),
        *([f"the 95 % interval contains 0: {', '.join(said[None])}"] if None in said else []),
    ]


def _of_other_classes(measures: Sequence[Measure], *, several: bool) -> list[str]:
    """A line for each group with the differences for other classes than its own."""
    found: dict[str, list[str]] = {}
    for one in measures:
        if one.over_classes is not None:
            where = f"{one.group} {one.protocol}" if several else one.group
            found.setdefault(where, []).append(f"{one.measure} {difference_of(one.over_classes).text}")
    return [f"for other classes than these ({where}): {', '.join(cells)}; {OVER_CLASSES}" for where, cells in found.items()]


def _table(measures: Sequence[Measure], pair: tuple[str, str], notes: Sequence[str], *, of_gzsl: bool) -> FigureTable:
    several = len({measure.protocol for measure in measures}) > 1
    rows: list[tuple[Cell, ...]] = [
        (
            *(measure.group, *([measure.protocol] if several else []), measure.measure),
            *map(percent, measure.accuracies),
            difference(measure.paired.difference, measure.paired.low, measure.paired.high),
            p_value(measure.paired.p),
            *(measure.only or ("–", "–")),
        )
        for measure in measures
    ]
    first = measures[0]
    size = f"{first.episodes:,} episodes" if first.episodes else "every image of a group once"
    intervals = tuple(f"[ ] {text}; {size}" for text in dict.fromkeys(measure.interval for measure in measures))
    if of_gzsl:
        intervals = (f"S, U [ ] {OF_CLASS_MEANS}", f"H, AUSUC [ ] {OF_DRAWS}")
    return FigureTable(
        f"{'generalized zero-shot' if of_gzsl else 'accuracy'} %: A is {pair[0]}, B is {pair[1]}",
        ("classes", *(["protocol"] if several else []), "measure", "A", "B", "B − A", "p", "only A", "only B"),
        tuple(rows),
        (
            *_verdicts(measures, several=several),
            *intervals,
            *_of_other_classes(measures, several=several),
            "only A, only B: decisions that one alone got right",
            *(f"note: {note}" for note in notes),
        ),
    )
