"""`laat anchors --descriptions`: its options, and what is said of the file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laatcli.console import Column, Console
from laatcli.options import ENCODER
from stages.parameters import parameter
from stages.text import counted, listed

if TYPE_CHECKING:
    from stages.anchors.descriptions import Described

_SHOWN = 12  # names, and counts of sentences


@dataclass(frozen=True)
class DescriptionOptions:
    """Sentences about the classes, in place of prompts from templates."""

    descriptions: Path | None = parameter(
        None,
        'JSON file with sentences for each class, {"okapi": ["An okapi has striped legs.", …]}, as CuPL publishes them. An '
        "anchor is the mean of its sentences. They are encoded as they are: no --template.",
        panel=ENCODER,
    )
    per_class: int | None = parameter(
        None,
        "Use only N sentences of each class of --descriptions, a sample of --seed.",
        unset="all",
        panel=ENCODER,
        at_least=1,
    )

    def read(self, console: Console, names: list[str], seed: int) -> Described | None:
        """The sentences of the classes; says what is unused, missing or odd. Raises InputError."""
        if self.descriptions is None:
            return None
        from stages.anchors.descriptions import read_descriptions

        found = read_descriptions(self.descriptions).of(names, self.per_class, seed)
        if found.unused:
            entries = counted(len(found.unused), "entry", "entries")
            console.warn(f"'{self.descriptions}' has {entries} for no class here, not used: {listed(found.unused, _SHOWN)}")
        few = [name for name, count in zip(names, found.given, strict=True) if count < (self.per_class or 0)]
        if few:
            have = "class has" if len(few) == 1 else "classes have"
            console.warn(f"{len(few):,} {have} fewer than {self.per_class} sentences, all are used: {listed(few, _SHOWN)}")
        if found.repeated:
            times = "1 sentence is" if found.repeated == 1 else f"{found.repeated:,} sentences are"
            console.note(f"descriptions: {times} there more than once for a class, and each counts as often as it is given")
        if found.nameless:
            some = f"{found.nameless:,} of {counted(found.record['sentences'], 'sentence')}"
            console.note(f"descriptions: {some} without the name of the class; they are encoded as they are")
        return found


def warn_other_number(console: Console, described: Described | None, origins: Iterable[Mapping[str, Any]], like: Path) -> None:
    """Warn of another --per-class than that of the anchors at `like`, whose parts have these `origins`."""
    if described is None:
        return
    now = described.record.get("per_class")
    for then in (origin.get("per_class") for origin in origins if origin.get("source") == described.record["source"]):
        if then != now:
            console.warn(f"'{like}' was made {_per_class(then)}, and these anchors {_per_class(now)}")


def _per_class(number: int | None) -> str:
    return "without --per-class" if number is None else f"with --per-class {number}"


def description_counts(described: Described | None) -> dict[str, Any]:
    """What `laat anchors --json` says of descriptions."""
    if described is None:
        return {}
    rows = zip(described.classes, described.sentences, described.given, strict=True)
    classes = {name: {"sentences": len(some), "given": given} for name, some, given in rows}
    return {"descriptions": {"classes": classes, "unused": list(described.unused), "repeated": described.repeated}}


def show_counts(console: Console, described: Described | None) -> None:
    """A table with a row for each number of sentences, and the classes that have so many; at most `_SHOWN` rows."""
    if described is None:
        return
    names = defaultdict(list)
    for name, some, given in zip(described.classes, described.sentences, described.given, strict=True):
        names[len(some), given].append(name)
    rows = [[str(used), str(given), listed(names[used, given], _SHOWN)] for used, given in sorted(names)[:_SHOWN]]
    console.table([Column("sentences", True), Column("in the file", True), Column("classes")], rows)
    if len(names) > _SHOWN:
        console.line(f"and {counted(len(names) - _SHOWN, 'other number')} of sentences: --json has the counts of all classes")
