"""Class names: reading, comparing and grouping them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.errors import InputError, UsageError, nearest
from stages.files.text_lists import read_list
from stages.text import counted

# characters without a width, among them soft hyphens and byte order marks, and control characters other than white space
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
# joiners and variation selectors; they belong to the spelling of other scripts and of emoji
_JOINERS = "[\u200c\u200d\ufe00-\ufe0f]"
_LATIN = "\x00-\u024f\u0300-\u036f\u1e00-\u1eff"
_LATIN_JOINERS = re.compile(f"(?:(?<![^{_LATIN}]){_JOINERS}+)|(?:{_JOINERS}+(?![^{_LATIN}]))")
_RENAME = "rename the classes so that they match (case, '_' and spaces do not matter)"
_BLANK = str.maketrans(dict.fromkeys("\u2800\u3164\uffa0", " "))  # look like a space and count as letters


def spelled(name: str) -> str:
    """The one spelling of a name that looks the same in several ones: é is one character, and nothing is invisible.

    Unicode's NFC, without characters of no width, and every run of white space (also no-break and other spaces) as one space.
    Not NFKC, which turns different names into one: 'm²' and 'm2', '½' and '1⁄2'.
    """
    if name.isascii() and name.isprintable():  # most names, of which there can be many
        return " ".join(name.split())
    visible = _LATIN_JOINERS.sub("", _INVISIBLE.sub("", name)).translate(_BLANK)
    return " ".join(unicodedata.normalize("NFC", visible).split())


def fold(name: str) -> str:
    """Normalize a class name for comparison: as `spelled`, in lower case, `_` and runs of white space as one space."""
    one = spelled(name)
    if one.isascii():
        return " ".join(one.replace("_", " ").lower().split())
    visible = re.sub(_JOINERS, "", one).replace("_", " ")
    # canonical caseless matching: The Unicode Standard, definition D145
    return spelled(unicodedata.normalize("NFD", visible).casefold())


def is_blank(name: str) -> bool:
    """Whether nothing of a name shows: it has only white space, marks and characters without a width."""
    return all(unicodedata.category(letter) in ("Cc", "Cf", "Mn", "Me", "Zs", "Zl", "Zp") for letter in spelled(name))


@dataclass(frozen=True)
class ClassGroups:
    """The seen, validation and novel classes, as ascending indices into a list of names."""

    seen: tuple[int, ...]
    val: tuple[int, ...] = ()
    novel: tuple[int, ...] = ()

    @classmethod
    def from_counts(cls, total: int, seen: int | None, val: int = 0) -> ClassGroups:
        """The first `seen` classes are seen (None: all), the next `val` are validation, the rest novel.

        Raises UsageError if the counts do not fit `total`.
        """
        seen = total - val if seen is None else seen
        if seen < 1 or val < 0 or seen + val > total:
            raise UsageError(
                f"--seen {seen} and --val {val} do not fit {counted(total, 'class', 'classes')}",
                f"choose --seen of at least 1 and --seen + --val of at most {total}",
            )
        return cls(tuple(range(seen)), tuple(range(seen, seen + val)), tuple(range(seen + val, total)))

    @classmethod
    def from_names(
        cls,
        classes: Sequence[str],
        seen: Sequence[str],
        val: Sequence[str] = (),
        *,
        seen_from: str = "the seen file",
        val_from: str = "the val file",
    ) -> ClassGroups:
        """Groups from the names of seen and validation classes; the rest is novel. Raises InputError for unknown names.

        `seen_from` and `val_from` name the files in errors.
        """
        seen_at = sorted(match_classes(seen, classes, wanted_from=seen_from, available_from="the class names"))
        val_at = sorted(match_classes(val, classes, wanted_from=val_from, available_from="the class names"))
        both = set(seen_at) & set(val_at)
        if both:
            raise InputError(f"class '{classes[min(both)]}' is in both {seen_from} and {val_from}", "keep it in one of them")
        if not seen_at:
            raise InputError(f"{seen_from} has no class", "list the classes to train on, one per line")
        named = {*seen_at, *val_at}
        rest = [i for i in range(len(classes)) if i not in named]
        return cls(tuple(seen_at), tuple(val_at), tuple(rest))

    def of(self, group: str) -> tuple[int, ...]:
        """The indices of group 'seen', 'val', 'novel' or 'all'."""
        if group == "all":
            return tuple(sorted(self.seen + self.val + self.novel))
        return {"seen": self.seen, "val": self.val, "novel": self.novel}[group]

    def to_record(self) -> dict[str, list[int]]:
        """The groups as JSON-able lists."""
        return {"seen": list(self.seen), "val": list(self.val), "novel": list(self.novel)}

    @classmethod
    def from_record(cls, record: dict[str, list[int]]) -> ClassGroups:
        """The inverse of `to_record`."""
        return cls(tuple(record["seen"]), tuple(record["val"]), tuple(record["novel"]))


def read_class_file(path: Path | str) -> list[str]:
    """Class names of a text file, one per line, as `spelled`; see `read_list` for comments.

    Raises InputError if the file cannot be read as such a list, is empty, or repeats a class.
    """
    named = [(number, line) for number, line in read_list(path, "class file", "class name") if spelled(line)]
    if not named:
        raise InputError(f"class file '{path}' has no class", "write one class name per line into it")
    check_unique([line for _, line in named], where=f"'{path}'", lines=[number for number, _ in named])
    return [spelled(line) for _, line in named]


def check_unique(names: Sequence[str], *, where: str, lines: Sequence[int] | None = None) -> None:
    """Raise InputError if two names are the same class (see `fold`), with their positions, or if nothing of a name shows."""
    first: dict[str, int] = {}
    for at, name in enumerate(names):
        if is_blank(name):
            raise InputError(f"{where} has a class without a name: entry {at + 1} ({name!a})", "give it a name")
        key = fold(name)
        if key in first:
            before = first[key]
            place = "lines" if lines else "entries"
            one, two = (lines[before], lines[at]) if lines else (before + 1, at + 1)
            raise InputError(
                f"{where} has a class twice: {place} {one} ('{names[before]}') and {two} ('{name}') "
                "are the same but for case, '_', spaces and characters that do not show",
                "remove one of them",
            )
        first[key] = at


def match_classes(
    wanted: Iterable[str], available: Sequence[str], *, wanted_from: str, available_from: str, fix: str = _RENAME
) -> list[int]:
    """The index in `available` of each wanted name, compared with `fold`; `fix` is what to do about missing ones.

    Raises InputError with the missing names and their nearest candidates.
    """
    index = {fold(name): at for at, name in enumerate(available)}
    names = list(wanted)
    found = [index.get(fold(name)) for name in names]
    missing = [name for name, at in zip(names, found, strict=True) if at is None]
    if missing:
        shown = "; ".join(f"'{name}' (nearest: {nearest(name, available)})" for name in missing[:5])
        classes = counted(len(names), "class", "classes")
        are = "is" if len(missing) == 1 else "are"
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        if len(missing) == len(names) > 1:
            fix = f"they have no class in common: give those that belong together, or {fix}"
        raise InputError(
            f"{len(missing)} of the {classes} of {wanted_from} {are} not in {available_from}: {shown}{more}",
            fix,
        )
    return [at for at in found if at is not None]
