"""Accuracy over the number of shots, from reports of episodes, as PNG, SVG or PDF. Needs no display."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.errors import InputError
from stages.reports.figure_text import shown_text
from stages.reports.figures import (
    CLEAN_LINE,
    DEFAULT_SIZE,
    Legend,
    band,
    find_size,
    lay_out,
    look,
    new_figure,
    percent_axis,
    save_figure,
    style,
    style_axis,
)
from stages.reports.model_records import Model
from stages.reports.page.words import support_words
from stages.reports.parts import measured_alike
from stages.reports.records import ProtocolRecord, Report, Result
from stages.reports.rows import CLEAN
from stages.reports.run_groups import setting_names, setting_of

ZERO_SHOT = "0-shot, names alone"
# of the protocol, what a line of the figure stands for
_OF_LINES = ("shots", "blend", "support_embeddings", "head", "replayed")
_WIDE = 10  # a larger ratio of the numbers of shots is drawn on a logarithmic axis


@dataclass(frozen=True)
class ShotLine:
    """The accuracies of one setting with anchors of one kind, over the number of shots.

    Attributes:
        setting: what the models are called, see `setting_names`.
        anchors: 'images', 'names and images, blend 2' …, or `ZERO_SHOT`, which has 0 shots alone.
        results: shots, ascending -> one result of each model; the models differ in their seed alone.
    """

    setting: str
    anchors: str
    results: Mapping[int, Sequence[Result]]

    @property
    def runs(self) -> int:
        """The number of models; of points with fewer there are none, see `shot_lines`."""
        return len(next(iter(self.results.values())))

    @property
    def measures(self) -> list[str]:
        """'clean' and, where there were attacks, 'robust': the worst case over them."""
        return list(_shares(next(iter(self.results.values()))[0]))

    def to_record(self) -> dict[str, Any]:
        """JSON-able record: the accuracies over the shots, with their ends."""
        parts = {measure: zip(("accuracy", "low", "high"), self.figures(measure), strict=True) for measure in self.measures}
        figures = {measure: {name: values.tolist() for name, values in part} for measure, part in parts.items()}
        return {"setting": self.setting, "anchors": self.anchors, "runs": self.runs, "shots": list(self.results), **figures}

    def figures(self, measure: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Accuracy, lower and upper end (K,) over the shots, fractions of 1.

        Of one model with its 95 % interval; of several the mean, and one standard deviation below and above.
        """
        found = [[_shares(one)[measure] for one in of_shots] for of_shots in self.results.values()]
        if self.runs == 1:
            parts = [(one.accuracy, one.low, one.high) for (one,) in found]
        else:
            values = [[one.accuracy for one in of_shots] for of_shots in found]
            parts = [(np.mean(one), np.mean(one) - np.std(one, ddof=1), np.mean(one) + np.std(one, ddof=1)) for one in values]
        middle, low, high = np.array(parts, float).T
        return middle, low, high


def shot_lines(reports: Mapping[str, Report]) -> list[ShotLine]:
    """The lines of reports, by their names, that were measured alike but for shots and the anchors made from them.

    Models whose reports record that they were trained alike but for their seed are averaged. Those without a recorded seed are
    lines of their own, called by their names.

    Raises InputError for reports of another protocol, without support images, of several groups of classes, that were not
    measured alike, with other numbers of shots for one seed than for another, or with two models of one seed, naming what
    differs.
    """
    _check_alike(reports)
    found: dict[tuple[str, str], dict[int, dict[str, Result]]] = {}
    models: dict[str, Model] = {}  # the first one of each setting
    seeds: dict[tuple[str, Any], tuple[str, str]] = {}
    for name, report in reports.items():
        mine = {model.name: model for model in report.models}
        for entry in report.results:
            model = mine[entry.model]
            key = _setting_key(model)
            models.setdefault(key, model)
            where, sha256 = seeds.setdefault((key, _seed(model)), (name, model.sha256))
            if sha256 != model.sha256:
                what = f"'{where}' and '{name}' have two models of one setting and seed {_seed(model)}"
                raise InputError(what, "name one of these reports")
            shots = _shots_of(report.protocol, entry)
            runs = found.setdefault((key, _anchors_of(report.protocol) if shots else ZERO_SHOT), {}).setdefault(shots, {})
            if _shares(runs.setdefault(model.sha256, entry)) != _shares(entry):
                raise InputError(
                    f"'{name}' has other figures of '{model.name}' with {shots} shots than another report",
                    "name one of these reports",
                )
    lines = []
    for key, setting in _names(models).items():
        of_anchors = {anchors: dict(sorted(of_shots.items())) for (one, anchors), of_shots in found.items() if one == key}
        for anchors in sorted(of_anchors, key=lambda one: (one == ZERO_SHOT, one)):
            _check_same_runs(of_anchors[anchors], setting, anchors)
            results = {shots: [runs[sha256] for sha256 in sorted(runs)] for shots, runs in of_anchors[anchors].items()}
            lines.append(ShotLine(setting, anchors, results))
    if all(line.anchors == ZERO_SHOT for line in lines):
        raise InputError("the reports have no results with support images", "evaluate with --protocol episodes --shots 0,1,5")
    return lines


def _seed(model: Model) -> int | None:
    return None if model.training is None else model.training.seed


def _setting_key(model: Model) -> str:
    """What models share that are averaged; of one without a seed, the model itself."""
    if model.training is None or model.training.seed is None:
        return f"model {model.sha256}"
    return json.dumps(setting_of(model.training), sort_keys=True)


def _names(models: Mapping[str, Model]) -> dict[str, str]:
    """What each setting is called: a model alone by its name, and by its digest where several share the name."""
    settings = {key: setting_of(model.training) for key, model in models.items() if model.training and _seed(model) is not None}
    names = dict(zip(settings, setting_names(list(settings.values())), strict=True)) if settings else {}
    alone = [model.name for key, model in models.items() if key not in names]
    for key, model in models.items():
        names.setdefault(key, model.name if alone.count(model.name) == 1 else f"{model.name} {model.sha256[:12]}")
    return {key: names[key] for key in models}


def _check_alike(reports: Mapping[str, Report]) -> None:
    first = ""
    for name, report in reports.items():
        if report.protocol.name != "episodes":
            raise InputError(
                f"'{name}' has the protocol {report.protocol.name}, which has no shots",
                "evaluate with --protocol episodes --shots 0,1,5",
            )
        groups = list(dict.fromkeys(entry.group for entry in report.results))
        if len(groups) > 1:
            raise InputError(
                f"'{name}' has several groups of classes: {', '.join(groups)}", "evaluate one group, with --classes-from"
            )
        first = first or name
        one, other = (_alike(reports[which], reports[first].protocol) for which in (first, name))
        differ = next((what for what in one if one[what] != other[what]), None)
        if differ is not None:
            raise InputError(
                f"the reports have different {differ}: '{first}' has {one[differ]} and '{name}' {other[differ]}",
                "evaluate the models in the same way",
            )


def _alike(report: Report, protocol: ProtocolRecord) -> dict[str, Any]:
    """What the reports of one figure share, by what it is called; `protocol` stands for that of each in all other respects."""
    episodes = {key: value for key, value in report.protocol.to_record().items() if key not in _OF_LINES}
    return {
        "episodes": ", ".join(f"{key} {value}" for key, value in sorted(episodes.items())),
        "classes": report.results[0].group,
        "threat models": report.under or "none",
        "suites": report.suite or "none",
        "attacks": ", ".join(attack.name for attack in report.attacks) or "none",
        "data": f"{report.data.source} {(report.data.sha256 or '')[:12]}",
        "settings": measured_alike(report.model_copy(update={"protocol": protocol})),
    }


def _check_same_runs(of_shots: Mapping[int, Mapping[str, Result]], setting: str, anchors: str) -> None:
    everyone = {sha256 for runs in of_shots.values() for sha256 in runs}
    for shots, runs in of_shots.items():
        if len(runs) < len(everyone):
            raise InputError(
                f"{setting}, {anchors}: {len(runs)} of {len(everyone)} runs have figures with {shots} shots",
                "evaluate every run with the same --shots",
            )


def _shots_of(protocol: ProtocolRecord, entry: Result) -> int:
    shots = protocol.shots
    return int(entry.protocol.removesuffix("-shot")) if isinstance(shots, list) else int(shots or 0)


def _anchors_of(protocol: ProtocolRecord) -> str:
    """How anchors are made from support images, in words."""
    images = "images" if not protocol.blend else f"names and images, blend {protocol.blend:g}"
    return ", ".join([images, *support_words(protocol)])


def _shares(entry: Result) -> dict[str, Any]:
    """Clean, and the attack or the worst case of several."""
    return {CLEAN: entry.clean, **({"robust": entry.worst} if entry.attacks else {})}


def plot_shots(lines: Sequence[ShotLine], report: Report, path: Path, size: str = DEFAULT_SIZE) -> None:
    """Draw the accuracies over the shots, clean and under attack; 0 shots is a dashed line, chance a dotted one.

    Args:
        lines: of `shot_lines`.
        report: one of the reports that they are of.
        path: .png, .svg or .pdf.
        size: see `find_size`.

    Raises:
        UsageError: an unknown size or file format, or more lines than can be told apart.
        MissingError: `path` cannot be written.

    Source: Li et al., CVPR 2024, Fig. 5.
    """
    chosen = find_size(size)
    first = next(iter(lines[0].results.values()))[0]
    measures = lines[0].measures
    attacks = "worst case" if len(first.attacks) > 1 else next(iter(first.attacks), "")
    with style(chosen, [line.setting for line in lines]):
        figure, axes = new_figure(chosen, *((len(measures), 1) if chosen.narrow else (1, len(measures))))
        for axis, measure in zip(axes.flat, measures, strict=True):
            shots = sorted({count for line in lines for count in line.results if count})
            for at, line in enumerate(lines):
                _draw(axis, line, measure, at, shots)
            axis.axhline(100 * first.chance, color="black", linestyle=":", zorder=1)
            axis.set_title("clean" if measure == CLEAN else attacks)
            _shot_axis(axis, shots)
        lay_out(figure, chosen, len(axes) * chosen.panel, [_legend(axes.flat[0], lines, report)])
    save_figure(figure, chosen, path)


def _draw(axis: Any, line: ShotLine, measure: str, at: int, shots: Sequence[int]) -> None:
    middle, low, high = (100 * part for part in line.figures(measure))
    zero = line.anchors == ZERO_SHOT  # the same for all numbers of shots
    ends = [shots[0], shots[-1]] if len(shots) > 1 else [shots[0] - 0.5, shots[0] + 0.5]
    places = ends if zero else list(line.results)
    if zero:
        middle, low, high = (np.repeat(part, 2) for part in (middle, low, high))
    axis.plot(places, middle, **_look(line, at))
    band(axis, places, low, high, look(at)["color"])


def _look(line: ShotLine, at: int) -> dict[str, Any]:
    return {**look(at), **({"linestyle": CLEAN_LINE, "markerfacecolor": "white"} if line.anchors == ZERO_SHOT else {})}


def _shot_axis(axis: Any, shots: Sequence[int]) -> None:
    if shots[-1] > _WIDE * shots[0]:
        axis.set_xscale("log")
    axis.set_xticks(shots, [str(one) for one in shots])
    axis.minorticks_off()
    axis.set_xlabel("images per class (shots)")
    percent_axis(axis, "y", "accuracy (%)")
    style_axis(axis)


def _legend(axis: Any, lines: Sequence[ShotLine], report: Report) -> Legend:
    one_setting = len({line.setting for line in lines}) == 1
    handles, texts = [], []
    for at, line in enumerate(lines):
        handles.append(axis.plot([], [], **_look(line, at))[0])
        texts.append(shown_text(line.anchors if one_setting else f"{line.setting}: {line.anchors}"))
    handles.append(axis.plot([], [], color="black", linestyle=":")[0])
    first, seeds = report.results[0], sorted({line.runs for line in lines})
    several = f"± 1 standard deviation over {' or '.join(str(count) for count in seeds if count > 1)} seeds"
    bands = [*([first.interval] if seeds[0] == 1 else []), *([several] if seeds[-1] > 1 else [])]
    about = [
        *([lines[0].setting] if one_setting else []),
        f"{first.episodes:,} episodes of {first.ways} {first.group} classes",
        *([f"attacks in {report.under}"] if report.under else []),
        f"bands: {', of several seeds '.join(bands)}",
    ]
    return Legend(handles, [*texts, "chance"], shown_text("; ".join(about)))
