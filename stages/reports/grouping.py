"""Results of several reports in groups of training runs that differ in the seed alone. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

from stages.errors import InputError, UsageError, nearest
from stages.reports.model_records import Model, Training
from stages.reports.parts import answering_anchors, measured_how
from stages.reports.records import Report, Result
from stages.reports.tables import MISSING
from stages.text import listed

SEED = "seed"
TRAINING = "training."
# of a model, beside what its training and its evaluation record
_OWN = ("model",)
# the last schema version whose reports do not record the training
WITHOUT_TRAINING = 3
# entries of the training that may always differ within a group: they say nothing of the method
_FREE = ("name",)


@dataclass(frozen=True)
class Run:
    """One result of one report.

    Attributes:
        source: the name of the report.
        report: with the result.
        result: of one model on one group of classes.
    """

    source: str
    report: Report = field(repr=False)
    result: Result

    @cached_property
    def model(self) -> Model:
        """The model of the result."""
        return next(one for one in self.report.models if one.name == self.result.model)

    @cached_property
    def training(self) -> dict[str, Any]:
        """How the model was trained; of a model from elsewhere and in older reports only what the model's entry says."""
        known = {"anchors": self.model.anchors.removeprefix("text, "), "objective": self.model.objective}
        return known if self.model.training is None else self.model.training.to_record()

    @cached_property
    def measured(self) -> dict[str, Any]:
        """How the result was measured, see `measured_how`, with the sizes of what it was measured on."""
        result = self.result
        sizes = {name: getattr(result, name) for name in ("classes", "ways", "images", "points")}
        found = {**measured_how(self.report), **sizes}
        shots = result.protocol.removesuffix("-shot")
        return {**found, "shots": int(shots)} if shots.isdecimal() else found

    def value(self, key: str) -> Any:
        """The value of a key of `--group-by`: of the model, of the evaluation, otherwise of the training."""
        if key in _OWN:
            return self.model.name
        return self.training.get(key.removeprefix(TRAINING)) if key not in self.measured else self.measured[key]

    def text(self, key: str, others: Sequence[Run]) -> str:
        """The value as people read it; images by their source, and by their digest where `others` have other ones."""
        if key != "data":
            return value_text(self.value(key))
        data = self.report.data
        alike = {one.measured["data"] for one in others if one.report.data.source == data.source}
        return data.source if len(alike) == 1 else f"{data.source} {(data.sha256 or '')[:12]}".strip()

    @property
    def where(self) -> str:
        """The model and its report, for messages."""
        return f"'{self.model.name}' in '{self.source}'"


@dataclass(frozen=True)
class Group:
    """Runs that share the values of the keys, and differ in what is averaged over.

    Attributes:
        label: key -> value, as people read it.
        runs: ascending in what they are averaged over, no two alike in it.
        over: entries of the training that the runs are averaged over; the first one pairs the runs of two groups.
    """

    label: Mapping[str, str]
    runs: tuple[Run, ...]
    over: tuple[str, ...]

    @property
    def name(self) -> str:
        """The values of the keys, numbers with their key."""
        return _called(self.label)

    @property
    def classes(self) -> str:
        """The group of classes."""
        return self.runs[0].result.group

    @property
    def protocol(self) -> str:
        """The protocol of the results."""
        return self.runs[0].result.protocol

    def unrecorded(self) -> list[str]:
        """Settings of the training that not every run records, so that they may differ."""
        known = dict.fromkeys(name for run in self.runs for name in run.training)
        return [name for name in known if name not in Training.model_fields and not _in_all(name, *self.runs)]

    def by_seed(self) -> dict[Any, Run] | None:
        """The runs by the first entry that is averaged over; None where several runs have the same value, or none at all."""
        found = {run.training.get(self.over[0]): run for run in self.runs}
        return found if len(found) == len(self.runs) and None not in found else None


def _called(label: Mapping[str, str]) -> str:
    known = {key: value for key, value in label.items() if value != MISSING}
    return ", ".join(f"{key} {value}" if value.replace(".", "").isdigit() else value for key, value in known.items())


def group_runs(reports: Mapping[str, Report], keys: Sequence[str], over: Sequence[str] = (SEED,)) -> list[Group]:
    """The results of reports, by their names, as groups: one for each combination of the keys' values, group of classes and
    protocol.

    Args:
        reports: name -> report.
        keys: entries of a model's training or of the evaluation; where both have one, such as eps, it is that of the
            evaluation, and training.eps that of the training.
        over: entries of the training that are averaged over.

    Raises:
        UsageError: a key that no report has, or is given twice.
        InputError: results in one group that were measured differently, or of models that were trained differently in more
            than `over`, or twice the same.
    """
    runs = [Run(name, report, result) for name, report in reports.items() for result in report.results]
    _check_keys(runs, keys, over)
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        values = (json.dumps(run.value(key), sort_keys=True) for key in keys)
        found.setdefault((*values, run.result.group, run.result.protocol), []).append(run)
    groups = []
    for members in found.values():
        label = {key: members[0].text(key, runs) for key in keys}
        _check_alike(members, keys, over, _called(label))
        members.sort(key=lambda run: [(value is None, str(type(value)), value) for value in map(run.training.get, over)])
        groups.append(Group(label, tuple(members), tuple(over)))
    return groups


def measured_but_for(group: Group, keys: Sequence[str]) -> str:
    """What groups of one table share: how they were measured, apart from the keys."""
    sizes = ("classes", "ways", "images", "points", "shots")  # of a row, and said in it
    found = {name: value for name, value in group.runs[0].measured.items() if name not in (*keys, *sizes)}
    sample = found.get("sample")
    if sample is not None:
        found["sample"] = {name: value for name, value in sample.items() if name not in ("images", "of")}
    return json.dumps(found, sort_keys=True)


def value_text(value: Any) -> str:
    """A value of a record for people: 0.1, 8/255, yes, a, b."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(value_text, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {value_text(one)}" for name, one in value.items())
    return str(value)


def _check_keys(runs: Sequence[Run], keys: Sequence[str], over: Sequence[str]) -> None:
    training = {name: None for run in runs for name in run.training}
    known = {**training, **{f"{TRAINING}{name}": None for name in training}, **dict.fromkeys(_OWN)}
    known |= {name: None for run in runs for name in run.measured}
    for option, given, allowed in (("--group-by", keys, known), ("--over", over, training)):
        for name in given:
            if name not in allowed and name != SEED:
                close = nearest(name, [one for one in allowed if not one.startswith(TRAINING)])
                raise UsageError(f"no report records '{name}', which {option} names", f"entries with similar names: {close}")
            if [*keys, *over].count(name) > 1:
                raise UsageError(f"'{name}' is given twice to --group-by and --over", "name each entry once")
    if not keys or not over:
        raise UsageError("--group-by and --over need an entry each", "for example --group-by objective,anchors --over seed")


def _check_alike(runs: Sequence[Run], keys: Sequence[str], over: Sequence[str], name: str) -> None:
    """Raise InputError unless the runs of a group were measured alike and differ in `over` alone."""
    where = f"the group '{name}'"
    free = {*(key.removeprefix(TRAINING) for key in keys if key not in runs[0].measured), *over, *_FREE}
    for first, run in combinations(runs, 2):  # two may record what a third one does not
        unlike = [one for one in {**first.measured, **run.measured} if first.measured.get(one) != run.measured.get(one)]
        if unlike:
            raise InputError(
                f"{where} mixes reports that were measured differently: {_both(unlike, first, run, 'measured')}",
                f"add it to --group-by: {','.join((*keys, unlike[0]))}; or leave one of the reports out",
            )
        # further settings that one of them lacks are of an older laat and unknown; see `Group.unrecorded`
        if (first.model.training is None) != (run.model.training is None):
            raise InputError(*_unrecorded(first if first.model.training is None else run, where))
        both = [one for one in {**first.training, **run.training} if one in Training.model_fields or _in_all(one, first, run)]
        unlike = [one for one in both if one not in free and first.training.get(one) != run.training.get(one)]
        if unlike:
            entry, average = f"{TRAINING * (unlike[0] in first.measured)}{unlike[0]}", ",".join((*over, unlike[0]))
            raise InputError(
                f"{where} mixes models that were trained differently: {_both(unlike, first, run, 'training')}",
                f"add it to --group-by: {','.join((*keys, entry))}; or average over it, too: --over {average}",
            )
        check_same_anchors(first, run, where)
    before: dict[str, Run] = {}
    for run in runs:
        shared = json.dumps([run.training.get(one) for one in over])
        if shared in before:
            raise InputError(*_twice(before[shared], run, over, where))
        before[shared] = run


def check_same_anchors(first: Run, second: Run, where: str) -> None:
    """Raise InputError for models that were trained on the same anchors and did not answer with the same.

    Those of models that were trained on other anchors cannot be compared.
    """
    trained, answered = ([one.training.get("anchors_sha256") for one in (first, second)], [*map(_answered, (first, second))])
    if None not in (*trained, *answered) and trained[0] == trained[1] and answered[0] != answered[1]:
        values = (f"{digest[:12]} for {run.where}" for digest, run in zip(answered, (first, second), strict=True) if digest)
        raise InputError(
            f"{where} mixes models that answered with other anchors: {' and '.join(values)}",
            "evaluate both with the same --anchors, --classes and --names, or leave one of the reports out",
        )


def _answered(run: Run) -> str | None:
    return answering_anchors(run.report)


def _unrecorded(run: Run, where: str) -> tuple[str, str]:
    if run.report.schema_version > WITHOUT_TRAINING:
        return f"{where} has a model from elsewhere, whose training is unknown: {run.where}", "group by model, too"
    what = f"{where} has {run.where}, a report of schema {run.report.schema_version}, which does not record the training"
    return what, "evaluate the checkpoint again"


def _in_all(entry: str, *runs: Run) -> bool:
    return all(entry in run.training for run in runs)


def _twice(first: Run, second: Run, over: Sequence[str], where: str) -> tuple[str, str]:
    both = f"{first.where} and {second.where}"
    if first.model.sha256 == second.model.sha256:
        return f"{where} has the same model twice: {both}", "leave one of them out"
    if None in map(first.training.get, over):
        return (
            f"{where} has models without a recorded {' and '.join(over)}: {both}",
            "evaluate checkpoints again, or group by what tells them apart, as model",
        )
    values = ", ".join(f"{one} {value_text(first.training.get(one))}" for one in over)
    return f"{where} has {values} twice: {both}", "leave one of them out, or group by what they differ in"


def _both(names: Sequence[str], first: Run, second: Run, part: str) -> str:
    """'eps is 8/255 for X and 4/255 for Y', and what else differs."""
    one, *others = [name for name in names if name.removesuffix("_sha256") not in {*names} - {name}]
    values = [_short(value) for value in _unlike(*(getattr(run, part).get(one) for run in (first, second)))]
    more = f"; also {listed(others, 5)}" if others else ""
    return f"{one} is {values[0]} for {first.where} and {values[1]} for {second.where}{more}"


def _unlike(first: Any, second: Any) -> tuple[Any, Any]:
    """Two values; of two records only the entries that differ."""
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return first, second
    pairs = {name: _unlike(first.get(name), second.get(name)) for name in {**first, **second}}
    unlike = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return {name: pair[0] for name, pair in unlike.items()}, {name: pair[1] for name, pair in unlike.items()}


def _short(value: Any) -> str:
    text = value_text(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
