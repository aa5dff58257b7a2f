"""Comparing two reports: the same images or episodes, two models, the difference with its interval and p-value. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.errors import InputError, UsageError, nearest
from stages.reports.compare_gzsl import side_measures
from stages.reports.files import rows_of_report
from stages.reports.measure import Measure
from stages.reports.parquet import AGAIN
from stages.reports.report import read_report
from stages.reports.row_file import RowPart
from stages.reports.rows import WORST, PointRows
from stages.statistics.intervals import alike
from stages.statistics.paired import paired_episodes, paired_images

OVER_IMAGES = "Newcombe 95 % over paired images; p: exact McNemar"
OVER_ALIKE = "where all episodes differ alike, Newcombe 95 % over their paired decisions; p: exact McNemar"
OVER_EPISODES = "Student t 95 % over paired episodes; p: paired t"


@dataclass(frozen=True)
class Source:
    """A report to compare, and which of its models; None takes the only one, or pairs those of the same name."""

    path: Path
    model: str | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        """Of 'report.json' or 'report.json:MODEL'."""
        path, colon, model = text.rpartition(":")
        return cls(Path(text)) if not colon or Path(text).exists() else cls(Path(path), model)


@dataclass(frozen=True)
class Comparison:
    """The lines, and what a reader must know."""

    measures: list[Measure]
    notes: list[str]


def compare_reports(first: Source, second: Source) -> Comparison:
    """Compare two reports, or two models of one report, by their rows.

    Clean, each attack that both have, and the pointwise worst case over those; of seen and novel classes together also S, U, H
    and the area under the seen-unseen curve of each.

    Raises:
        UsageError: a model that is not in the report, or several to choose from.
        InputError: a report or rows file that cannot be read, or reports that were not measured alike, naming both sides.
    """
    reports = read_report(first.path), read_report(second.path)
    names = f"'{first.path}'", f"'{second.path}'"
    _check_alike(reports, names)
    pairs = _pair_models((first, second), reports)
    parts = [
        {part.key: part for part in rows_of_report(report, source.path)}
        for report, source in zip(reports, (first, second), strict=True)
    ]
    measures: list[Measure] = []
    notes: dict[str, None] = {}
    for models in pairs:
        keys = [
            [(entry["group"], entry["protocol"]) for entry in report["results"] if entry["model"] == model]
            for report, model in zip(reports, models, strict=True)
        ]
        _refuse_unlike("groups of classes", names, [sorted(key) for key in keys], lambda key: " ".join(key))
        for group, protocol in keys[0]:
            one, other = (_part(parts[at], (models[at], group, protocol), names[at]) for at in (0, 1))
            _check_same_points(one, other, names)
            measures += _measures(one, other)
            seen = [_seen_classes(report, part) for report, part in zip(reports, (one, other), strict=True)]
            _refuse_unlike("seen classes", names, [sorted(part) for part in seen], str)
            measures += side_measures(one, other, len(seen[0]))
            left_out = set(one.rows.attacks) ^ set(other.rows.attacks)
            if left_out:
                text = ", ".join(sorted(left_out))
                notes[f"only in one of the reports, so neither compared nor part of the worst case: {text}"] = None
    return Comparison(measures, list(notes))


def _check_alike(reports: tuple[Mapping[str, Any], ...], names: tuple[str, str]) -> None:
    """Refuse reports whose figures say nothing about each other."""
    _refuse_unlike("suites", names, [report["suite"] or "none" for report in reports], str)
    images = [report["data"].get("sha256") for report in reports]
    for name, sha256 in zip(names, images, strict=True):
        if sha256 is None:
            raise InputError(f"{name} does not say which images it is about: its data has no sha256", AGAIN)
    _refuse_unlike("data", names, images, lambda sha256: f"sha256 {sha256}")
    _refuse_unlike("protocols", names, [report["protocol"] for report in reports], _shown)
    saved = [(report["adversarial"] or {}).get("sha256", "none") for report in reports]
    _refuse_unlike("saved adversarial images", names, saved, str)
    threats = [report["threat"] for report in reports]
    if all(threats):
        _refuse_unlike("threat models", names, threats, lambda threat: f"{threat['norm']} {threat['eps']} in {threat['clip']}")
    attacks = [{attack["name"]: attack for attack in report["attacks"]} for report in reports]
    for name in attacks[0].keys() & attacks[1].keys():
        _refuse_unlike(f"settings of {name}", names, [found[name] for found in attacks], _shown)


def _refuse_unlike(what: str, names: Sequence[str], values: Sequence[Any], show: Any) -> None:
    if values[0] != values[1]:
        sides = " and ".join(f"{name} has {_listed(value, show)}" for name, value in zip(names, values, strict=True))
        raise InputError(f"the reports have different {what}: {sides}", "evaluate both models in the same way")


def _listed(value: Any, show: Any) -> str:
    if isinstance(value, list):
        return ", ".join(show(item) for item in value) or "none"
    return str(show(value))


def _shown(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(record.items()))


def _pair_models(sources: tuple[Source, Source], reports: tuple[Mapping[str, Any], ...]) -> list[tuple[str, str]]:
    held = [[model["name"] for model in report["models"]] for report in reports]
    for source, names in zip(sources, held, strict=True):
        if source.model is not None and source.model not in names:
            raise UsageError(f"'{source.path}' has no model '{source.model}'", f"its models: {nearest(source.model, names)}")
    chosen = [names if source.model is None else [source.model] for source, names in zip(sources, held, strict=True)]
    if len(chosen[0]) == len(chosen[1]) == 1:
        return [(chosen[0][0], chosen[1][0])]
    if sorted(chosen[0]) == sorted(chosen[1]) and sources[0].path != sources[1].path:
        return [(name, name) for name in chosen[0]]
    at = 0 if len(chosen[0]) > 1 else 1
    raise UsageError(
        f"'{sources[at].path}' has several models: {', '.join(chosen[at])}",
        f"say which: {sources[at].path}:{chosen[at][0]}",
    )


def _part(parts: Mapping[tuple[str, str, str], RowPart], key: tuple[str, str, str], where: str) -> RowPart:
    if key not in parts:
        raise InputError(f"the rows of {where} lack {', '.join(key)}", AGAIN)
    return parts[key]


def _check_same_points(one: RowPart, other: RowPart, names: tuple[str, str]) -> None:
    sides = [
        (part.rows.episode, part.rows.image, np.array(part.classes, dtype=object)[part.rows.label]) for part in (one, other)
    ]
    if not all(np.array_equal(mine, theirs) for mine, theirs in zip(*sides, strict=True)):
        raise InputError(
            f"the rows of {names[0]} and {names[1]} are of different points in {one.group}, {one.protocol}",
            "evaluate both models in the same way",
        )


def _seen_classes(report: Mapping[str, Any], part: RowPart) -> Sequence[str]:
    """The seen classes that compete with novel ones in the rows `part`; none where they do not."""
    entry = next(entry for entry in report["results"] if (entry["model"], entry["group"]) == (part.model, part.group))
    return part.classes[: entry["gzsl"]["seen_classes"]] if "gzsl" in entry else ()


def _measures(one: RowPart, other: RowPart) -> list[Measure]:
    right = [part.rows.correct() for part in (one, other)]
    common = [name for name in right[0] if name in right[1]]
    compared = {name: (right[0][name], right[1][name]) for name in common}
    if len(common) > 2:
        compared[WORST] = _worst(one.rows, common), _worst(other.rows, common)
    return [_measure(one, other, name, *pair) for name, pair in compared.items()]


def _worst(rows: PointRows, names: Sequence[str]) -> np.ndarray:
    right = rows.correct()
    return np.logical_and.reduce([right[name] for name in names])


def _measure(one: RowPart, other: RowPart, name: str, first: np.ndarray, second: np.ndarray) -> Measure:
    episodes = one.rows.episodes
    paired, interval = paired_images(first, second), OVER_IMAGES
    if episodes:
        each = [side.reshape(episodes, -1).mean(1) for side in (first, second)]
        interval = OVER_ALIKE if alike(each[1] - each[0]) else OVER_EPISODES
        paired = paired if interval == OVER_ALIKE else paired_episodes(*each)
    return Measure(
        (one.model, other.model),
        one.group,
        one.protocol,
        name,
        (float(first.mean()), float(second.mean())),
        paired,
        (int((first & ~second).sum()), int((second & ~first).sum())),
        len(first),
        episodes,
        interval,
    )


def comparison_record(sources: tuple[Source, Source], found: Comparison) -> dict[str, Any]:
    """The comparison as a JSON-able record."""
    return {
        "kind": "laat-comparison",
        "notes": found.notes,
        "reports": [str(source.path) for source in sources],
        "results": [measure.to_record() for measure in found.measures],
    }
