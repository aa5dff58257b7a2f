"""Groups of training runs against a baseline group: differences paired by seed and, with the rows, by image. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np

from stages.errors import InputError, UsageError
from stages.files.reading import STDIO
from stages.reports.compare import check_same_points
from stages.reports.grouping import Group, Run, check_same_anchors, measured_but_for
from stages.reports.measures import paired_points
from stages.reports.row_file import RowPart
from stages.reports.rows import WORST
from stages.reports.verify import rows_of_report
from stages.statistics.paired import Paired, paired_classes, paired_runs
from stages.text import listed

OVER_BOTH = "95 % for new seeds on new {units}, paired by both (Hillis 2007); p of the same"
OVER_SEEDS = "Student t 95 % over paired seeds, on these {units} alone: rows are missing or of other {units}; p: paired t"
ONE_PAIR = "one pair of runs, which says nothing of other seeds: {interval}"
UNKNOWN = "one pair of runs, whose rows are missing or of other images: no interval"
ALIKE = "every pair of runs gives the same difference: no interval"
# what groups that are compared over the shots may differ in
SHOTS = ("shots", "blend", "support_embeddings", "head")


@dataclass(frozen=True)
class GroupDifference:
    """One measure of a group and of its baseline, over the seeds that both have.

    Attributes:
        group, baseline: what is compared.
        measure: clean, an attack, or worst.
        means: accuracy of the baseline and of the group, over these seeds.
        paired: the difference, group minus baseline; None where there is no interval.
        seeds: that both have.
        interval: which interval and p-value it is.
        over_classes: the mean difference of the classes, which count alike, with its interval for other classes, and for new
            seeds where there are several pairs; None without rows, where all classes differ alike, and where seen classes are
            among the candidates.
    """

    group: Group
    baseline: Group
    measure: str
    means: tuple[float, float]
    paired: Paired | None
    seeds: tuple[Any, ...]
    interval: str
    over_classes: Paired | None


def find_baselines(groups: Sequence[Group], wanted: str, keys: Sequence[str]) -> tuple[dict[int, Group], list[str]]:
    """The baseline of each group, by the group's position, and notes on groups without one.

    A baseline was measured like its group and shares, where there are several, the keys that `wanted` leaves open.

    Args:
        groups: of `group_runs`.
        wanted: 'objective=laat,anchors=raw'; or a group's name, one of its values, or the name of one of its models.
        keys: that the groups were made by.

    Raises UsageError if no group is meant, or several are.
    """
    asked = _asked(groups, wanted, keys)
    meant = [one for one in groups if asked.items() <= one.label.items()]
    if not meant:
        raise UsageError(f"no group is the baseline '{wanted}'", f"groups: {listed(sorted({one.name for one in groups}), 8)}")
    if len(meant) == len(groups) > 1:
        raise _ambiguous(wanted, meant)
    found: dict[int, Group] = {}
    for at, group in enumerate(groups):
        if group in meant:
            continue
        beside = [one for one in meant if _beside(one, keys, asked) == _beside(group, keys, asked)]
        closest = [one for one in beside if all(one.label[key] == group.label[key] for key in keys if key not in asked)]
        chosen = closest or beside
        if len(chosen) > 1:
            raise _ambiguous(wanted, chosen)
        if chosen:
            found[at] = chosen[0]
    alone = [f"{one.name}, {one.classes}" for at, one in enumerate(groups) if one not in meant and at not in found]
    if not found:
        what = f"no other group was measured like the baseline '{wanted}'"
        raise InputError(what, "evaluate them in the same way, or leave out --baseline")
    return found, [f"no baseline was measured in the same way: {'; '.join(alone)}"] if alone else []


def _ambiguous(wanted: str, groups: Sequence[Group]) -> UsageError:
    what = f"--baseline {wanted} means {listed([one.name for one in groups], 2)}"
    return UsageError(what, "name more of the --group-by entries, KEY=VALUE,KEY=VALUE")


def _asked(groups: Sequence[Group], wanted: str, keys: Sequence[str]) -> dict[str, str]:
    """The values that a baseline must have. Raises UsageError for a key that is not one of the groups."""
    for group in groups:  # names and values first: a value may have an '='
        if group.name == wanted:
            return dict(group.label)
    for key in keys:
        if any(group.label[key] == wanted for group in groups):
            return {key: wanted}
    pairs = [part.partition("=") for part in wanted.split(",")]
    if all(sign for _, sign, _ in pairs):
        asked = {key.strip(): value.strip() for key, _, value in pairs}
        unknown = next((key for key in asked if key not in keys), None)
        if unknown is not None:
            raise UsageError(f"--baseline names '{unknown}', which is not in --group-by", f"entries: {', '.join(keys)}")
        return asked
    named = (group for group in groups if wanted in [run.model.name for run in group.runs])
    label = next((group.label for group in named), {"": ""})
    return {key: value for key, value in label.items() if key not in groups[0].runs[0].measured}


def _beside(group: Group, keys: Sequence[str], asked: Mapping[str, str]) -> tuple[Any, ...]:
    """What a group and its baseline share: how they were measured, class group and protocol, and keys of the evaluation; but
    for the shots, if a baseline of so many is `asked` for."""
    free = SHOTS if SHOTS[0] in asked else ()
    evaluated = [group.label[key] for key in keys if key in group.runs[0].measured and key not in free]
    return measured_but_for(group, (*keys, *free)), group.classes, "" if free else group.protocol, evaluated


class Decisions:
    """The rows beside reports, each read once."""

    def __init__(self) -> None:
        self._read: dict[str, dict[tuple[str, str, str], RowPart]] = {}

    def of(self, run: Run) -> RowPart | None:
        """The rows of a run; None where the report has none, or they do not lie beside it. Raises InputError if damaged."""
        rows, path = run.report.rows, Path(run.source)
        if rows is None or run.source == STDIO or not (path.parent / rows.file).is_file():
            return None
        if run.source not in self._read:
            self._read[run.source] = {part.key: part for part in rows_of_report(run.report, path)}
        return self._read[run.source][run.result.key]


def differences(group: Group, baseline: Group, decisions: Decisions) -> list[GroupDifference]:
    """The differences of a group from its baseline: clean, each attack that both have, and worst; [] without a common seed.

    Raises InputError for rows that are damaged, and for models of the same anchors that answered with other ones.
    """
    pairs = _pairs(group, baseline)
    if not pairs:
        return []
    for first, second in product(baseline.runs, group.runs):
        check_same_anchors(first, second, f"the difference of '{group.name}' from '{baseline.name}'")
    runs = [[pair[at] for pair in pairs.values()] for at in (0, 1)]
    known = [[part for run in side if (part := decisions.of(run)) is not None] for side in runs]
    whole = all(len(side) == len(pairs) for side in known) and _of_same_points([*chain(*runs)], [*chain(*known)])
    results = [[run.result.shares() for run in side] for side in runs]
    measures = [name for name in results[0][0] if all(name in one for side in results for one in side)]
    made = partial(GroupDifference, group, baseline, seeds=tuple(pairs))
    found = []
    for name in measures:
        each = [np.array([one[name].accuracy for one in side]) for side in results]
        sides = [np.stack([_right(part, name) for part in side]) for side in known] if whole else None
        paired, interval = _paired(each, sides, group.runs[0].result.episodes)
        means = float(each[0].mean()), float(each[1].mean())
        over = None
        if sides is not None and group.runs[0].result.gzsl is None:
            over = paired_classes(sides[0], sides[1], known[0][0].rows.label)
        found.append(made(measure=name, means=means, paired=paired, interval=interval, over_classes=over))
    return found


def _of_same_points(runs: Sequence[Run], parts: Sequence[RowPart]) -> bool:
    """Whether the rows of these runs are of the same images, episodes and labels; those of other shots need not be."""
    try:
        for run, part in zip(runs, parts, strict=True):
            check_same_points(parts[0], part, (f"'{runs[0].source}'", f"'{run.source}'"))
    except InputError:
        return False
    return True


def _pairs(group: Group, baseline: Group) -> dict[Any, tuple[Run, Run]]:
    """Seed -> the run of the baseline and that of the group; a single run on both sides is a pair without seeds."""
    sides = baseline.by_seed(), group.by_seed()
    if len(group.runs) == len(baseline.runs) == 1 and None in sides:
        return {None: (baseline.runs[0], group.runs[0])}
    if sides[0] is None or sides[1] is None:
        return {}
    return {seed: (run, sides[1][seed]) for seed, run in sides[0].items() if seed in sides[1]}


def _right(part: RowPart, measure: str) -> np.ndarray:
    """The correct decisions (P,) bool."""
    found = part.rows.correct()
    return np.logical_and.reduce(list(found.values())) if measure == WORST else found[measure]


def _paired(each: Sequence[np.ndarray], sides: Sequence[np.ndarray] | None, episodes: int) -> tuple[Paired | None, str]:
    """The difference from the accuracies (R,) of each side and, if there are rows, their decisions (R, P) bool."""
    units = "episodes" if episodes else "images"
    if sides is None:
        if len(each[0]) < 2:
            return None, UNKNOWN
        return _or_alike(paired_runs(each[0][:, None], each[1][:, None]), OVER_SEEDS.format(units=units))
    if len(each[0]) < 2:
        one, interval = paired_points(sides[0][0], sides[1][0], episodes)
        return one, ONE_PAIR.format(interval=interval)
    by_unit = [side.reshape(len(side), episodes, -1).mean(2) if episodes else side for side in sides]
    return _or_alike(paired_runs(by_unit[0], by_unit[1]), OVER_BOTH.format(units=units))


def _or_alike(paired: Paired | None, interval: str) -> tuple[Paired | None, str]:
    return paired, ALIKE if paired is None else interval
