"""The tables of groups of training runs: means over seeds, and differences from a baseline. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stages.reports.group_differences import Decisions, GroupDifference, differences, find_baselines
from stages.reports.grouping import SEED, WITHOUT_TRAINING, Group, group_runs, measured_but_for
from stages.reports.measures import OVER_CLASSES
from stages.reports.notes import merged_notes
from stages.reports.records import Report
from stages.reports.report_tables import attacks_in_order, failed_checks
from stages.reports.rows import CLEAN, WORST
from stages.reports.tables import MISSING, Cell, Figure, FigureTable, difference, difference_of, mean, p_value, percent
from stages.statistics.intervals import alike
from stages.statistics.over_runs import OVER_RUNS, OverRuns, over_runs
from stages.text import counted


@dataclass(frozen=True)
class Grouped:
    """Groups, their figures and their differences from a baseline.

    Attributes:
        keys, over: what the groups were made by, and what they are averaged over.
        groups: in the order of the reports.
        baseline: as it was named; None for none.
        differences: from the baseline.
        notes: what a reader must know of the differences.
    """

    keys: tuple[str, ...]
    over: tuple[str, ...]
    groups: tuple[Group, ...]
    baseline: str | None
    differences: tuple[GroupDifference, ...]
    notes: tuple[str, ...]

    @property
    def noun(self) -> str:
        """What the runs of a group are called: seeds where they differ in nothing else."""
        return SEED if self.over == (SEED,) else "run"

    def to_record(self) -> dict[str, Any]:
        """As a JSON-able record."""
        return {
            "kind": "laat-groups",
            "group_by": list(self.keys),
            "over": list(self.over),
            "interval": OVER_RUNS,
            "groups": [_group_record(one) for one in self.groups],
            "baseline": self.baseline,
            "differences": [_difference_record(one) for one in self.differences],
            "notes": list(self.notes),
        }


def group_reports(
    reports: Mapping[str, Report], keys: Sequence[str], over: Sequence[str] = (SEED,), baseline: str | None = None
) -> Grouped:
    """Group the results of reports, by their paths, and compare the groups with a baseline.

    Raises UsageError and InputError as `group_runs`, `find_baselines` and `differences`.
    """
    groups, found = group_runs(reports, keys, over), []
    notes: list[str] = []
    if baseline is not None:
        decisions, (chosen, notes) = Decisions(), find_baselines(groups, baseline, keys)
        for at, against in chosen.items():
            group = groups[at]
            lines = differences(group, against, decisions)
            found += lines
            notes += _left_out(group, against, lines)
    return Grouped(tuple(keys), tuple(over), tuple(groups), baseline, tuple(found), tuple(dict.fromkeys(notes)))


def group_tables(found: Grouped) -> list[FigureTable]:
    """A table of means for all groups that were measured alike, and one of differences for each that has some."""
    alike_groups: dict[str, list[Group]] = {}
    for group in found.groups:
        alike_groups.setdefault(measured_but_for(group, found.keys), []).append(group)
    tables = []
    for groups in alike_groups.values():
        tables.append(_means_table(found, groups))
        lines = [one for one in found.differences if one.group in groups]
        if lines:
            tables.append(_differences_table(found, lines))
    return tables


def summary(group: Group) -> dict[str, OverRuns]:
    """clean, each attack, and of several attacks worst -> the accuracies of the group's runs."""
    shares = [run.result.shares() for run in group.runs]
    return {name: over_runs([one[name].accuracy for one in shares]) for name in shares[0]}


def _means_table(found: Grouped, groups: Sequence[Group]) -> FigureTable:
    reports = {run.source: run.report for group in groups for run in group.runs}
    attacks, by_protocol = attacks_in_order(reports), len({group.protocol for group in groups}) > 1
    measures = [CLEAN, *attacks, *([WORST] if len(attacks) > 1 else [])]
    rows: list[tuple[Cell, ...]] = []
    for group in groups:
        figures = {name: mean(one) for name, one in summary(group).items()}
        labels = (*group.label.values(), group.classes, *[group.protocol] * by_protocol)
        cells: list[Cell] = [figures.get(name, MISSING) for name in measures]
        rows.append((*labels, len(group.runs), percent(group.runs[0].result.chance), *cells))
    first = groups[0].runs[0]
    unders = {report.under for report in reports.values()}
    under = f", attacks in {first.report.under}" if len(unders) == 1 and first.report.under else ""
    suite = f", suite {first.report.suite}" if first.report.suite and "suite" not in found.keys else ""
    result = first.result
    size = f"{result.episodes:,} episodes of {result.ways} ways" if result.episodes else "every image of a group once"
    notes = merged_notes({run.where: run.report.notes for group in groups for run in group.runs})
    several = any(len(one.runs) > 1 for one in groups)
    failed = {name: failed_checks(report) for name, report in reports.items()}
    return FigureTable(
        f"accuracy %, mean over {found.noun}s{under}{suite}",
        (*found.keys, "classes", *["protocol"] * by_protocol, f"{found.noun}s", "chance", *measures),
        tuple(rows),
        (
            *([f"± {OVER_RUNS}; ( ) standard deviation over {found.noun}s"] if several else []),
            size,
            *_lonely(groups, found.noun),
            *(f"not recorded for every run of {one.name}: {', '.join(names)}" for one in groups if (names := one.unrecorded())),
            *_without_training(reports),
            *(f"checks failed in {name}: {', '.join(names)}" for name, names in failed.items() if names),
            *(f"note: {note}" for note in notes),
        ),
    )


def _without_training(reports: Mapping[str, Report]) -> list[str]:
    """A line that names older reports."""
    older = [name for name, report in reports.items() if report.schema_version <= WITHOUT_TRAINING]
    lacks = "which does not record the training, so that they may belong to another row: evaluate these checkpoints again"
    return [f"of schema {WITHOUT_TRAINING} or older, {lacks}: {', '.join(older)}"] if older else []


def _lonely(groups: Sequence[Group], noun: str) -> list[str]:
    """Lines that say which groups have one run, and which figures are the same in every run."""
    single = dict.fromkeys(group.name for group in groups if len(group.runs) == 1)
    lines = [f"one {noun} only, so neither interval nor standard deviation: {'; '.join(single)}"] if single else []
    same = [
        f"{group.name}, {group.classes}, {name}"
        for group in groups
        for name, one in summary(group).items()
        if len(one.values) > 1 and alike(np.array(one.values))
    ]
    return lines + ([f"the same for every {noun}, so no interval: {'; '.join(same)}"] if same else [])


def _differences_table(found: Grouped, lines: Sequence[GroupDifference]) -> FigureTable:
    by_protocol = len({one.group.protocol for one in lines}) > 1
    names = list(dict.fromkeys(one.baseline.name for one in lines))
    each, classes = len(names) > 1, any(one.over_classes is not None for one in lines)
    rows: list[tuple[Cell, ...]] = []
    cell: Cell
    p: Cell
    for one in lines:
        labels = (*one.group.label.values(), one.group.classes, *[one.group.protocol] * by_protocol)
        change, paired = one.means[1] - one.means[0], one.paired
        cell, p = _bare(change), MISSING
        if paired is not None:
            cell, p = difference(change, paired.low, paired.high), p_value(paired.p)
        beside = [one.baseline.name] if each else []
        other = [MISSING if one.over_classes is None else difference_of(one.over_classes)] if classes else []
        rows.append((*labels, *beside, one.measure, len(one.seeds), *map(percent, one.means), cell, *other, p))
    return FigureTable(
        f"accuracy %, difference from the baseline {' or '.join(names)}",
        (
            *(*found.keys, "classes", *["protocol"] * by_protocol, *["baseline"] * each, "measure", f"{found.noun}s"),
            *("baseline %" if each else "baseline", "group", "difference", *["other classes"] * classes, "p"),
        ),
        tuple(rows),
        (
            *_intervals(lines),
            *([f"other classes: {OVER_CLASSES}, and with several {found.noun}s over these too"] if classes else []),
            *(["p-values are not corrected for the number of comparisons"] if len(rows) > 1 else []),
            *(f"note: {note}" for note in found.notes),
        ),
    )


def _intervals(lines: Sequence[GroupDifference]) -> list[str]:
    """Which interval and p-value the rows have; of several kinds, which rows have which."""
    found: dict[str, dict[str, None]] = {}
    for one in lines:
        found.setdefault(one.interval, {})[f"{one.group.name}, {one.group.classes}"] = None
    if len(found) == 1:
        return [f"[ ] {text}" for text in found]
    return [f"[ ] of {'; '.join(rows)}: {text}" for text, rows in found.items()]


def _bare(change: float) -> Figure:
    """A difference without an interval."""
    return Figure(change, difference(change, change, change).text.partition(" [")[0])


def _left_out(group: Group, baseline: Group, lines: Sequence[GroupDifference]) -> list[str]:
    """Notes on the runs of a group that the difference does not use."""
    over, place = group.over[0], f"{group.name}, {group.classes}"
    if not lines:
        return [f"no {over} in common with the baseline '{baseline.name}', so no difference: {place}"]
    used, sides = len(lines[0].seeds), {"group": len(group.runs), "baseline": len(baseline.runs)}
    more = [f"{counted(count - used, over)} of the {name}" for name, count in sides.items() if count > used]
    return [f"{' and '.join(more)} without a partner, left out of the difference: {place}"] if more else []


def _group_record(group: Group) -> dict[str, Any]:
    runs = [
        {
            "report": run.source,
            "model": run.model.name,
            "sha256": run.model.sha256,
            **{f"training_{name}": run.training.get(name) for name in group.over},
        }
        for run in group.runs
    ]
    result = group.runs[0].result
    return {
        **{"label": dict(group.label), "classes": group.classes, "protocol": group.protocol, "chance": result.chance},
        **{"points": result.points, "episodes": result.episodes, "ways": result.ways, "runs": runs},
        "figures": {name: asdict(one) for name, one in summary(group).items()},
    }


def _difference_record(one: GroupDifference) -> dict[str, Any]:
    return {
        **{"label": dict(one.group.label), "baseline": dict(one.baseline.label), "classes": one.group.classes},
        **{"protocol": one.group.protocol, "measure": one.measure, "seeds": list(one.seeds), "means": list(one.means)},
        **({"difference": one.means[1] - one.means[0]} if one.paired is None else asdict(one.paired)),
        "interval": one.interval,
        "over_classes": None if one.over_classes is None else asdict(one.over_classes),
    }
