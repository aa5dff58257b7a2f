"""The notes of a report: which of its models, groups and protocols each is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stages.reports.records import Report, Result


def merged_notes(by_name: Mapping[str, Sequence[str]]) -> list[str]:
    """The notes on several models or reports, each once; one that does not hold for all of them names its own in brackets."""
    holders: dict[str, list[str]] = {}
    for name, notes in by_name.items():
        for note in dict.fromkeys(notes):
            holders.setdefault(note, []).append(name)
    return [_naming(note, names, len(by_name)) for note, names in holders.items()]


def notes_on(results: Sequence[Result], report: Report) -> list[str]:
    """The notes of a report that are about some of its results, or about all.

    A note is about the models that it names as `merged_notes` does, and about the group or protocol that it begins with, as in
    'novel: 2 of 20 classes were trained on'.
    """
    models, kept = {one.name for one in report.models}, list(dict.fromkeys(one.model for one in results))
    labels = _labels(report.results)
    other, found = labels - _labels(results), []
    for note in report.notes:
        text, about = _without_models(note, models)
        names = [name for name in kept if name in about]
        begins = [label for label in labels if note.startswith(f"{label}: ")]
        if names and (not begins or max(begins, key=len) not in other):
            found.append(_naming(text, names, len(kept)))
    return found


def _naming(note: str, names: Sequence[str], of: int) -> str:
    return note if len(names) == of else f"{note} ({', '.join(names)})"


def _labels(results: Sequence[Result]) -> set[str]:
    return {label for one in results for label in (one.group, one.protocol)}


def _without_models(note: str, models: set[str]) -> tuple[str, set[str]]:
    """A note without the models that it names at its end, and these; all models, if it names none."""
    text, _, end = note.rpartition(" (")
    names = set(end.removesuffix(")").split(", "))
    return (text, names) if text and end.endswith(")") and names <= models else (note, models)
