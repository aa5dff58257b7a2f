"""A benchmark: data sets x threat models x suites, read from a TOML file. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from stages.attacks.suites import Suite, find_suite
from stages.conditions import ModelUnderAttack
from stages.data.request import ImageRequest
from stages.errors import InputError, UsageError, nearest
from stages.evaluation.protocol import Protocol
from stages.evaluation.sample import Sample
from stages.files.reading import read_file
from stages.files.toml_file import parse_toml
from stages.text import decode_text
from stages.threat import ThreatModel

MATCHES = ("name", "order")
GROUPS = ("all", "seen", "val", "novel")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_TEXT, _TEXTS, _WHOLE = (str,), (list,), (int,)
_WORDS: dict[tuple[type, ...], str] = {_TEXT: "text in quotes", _TEXTS: "a list of texts in brackets", _WHOLE: "a whole number"}


@dataclass(frozen=True)
class DataSet:
    """One data set of a benchmark.

    Attributes:
        name: in tables and file names.
        data: as `--data` of `laat eval`; None where a user's copy is needed, see `stages.benchmark.presence`.
        split, image_column, label_column, layout, resize: see `ImageRequest`.
        classes: where the class names are from, see `stages.benchmark.class_names`; None is the names of the data.
        group: which of the classes are candidates, for lists that have groups.
        match: how the lines of `classes` belong to the labels of the data: by 'name' or by 'order'.
        templates: prompts with {} for the class name, for models with a text tower.
        known: how surely `data`, its columns and its class names are known.
        folder: that relative paths begin at.
    """

    name: str
    data: str | None = None
    split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    layout: str | None = None
    resize: int | None = None
    classes: str | None = None
    group: str = "all"
    match: str = "name"
    templates: tuple[str, ...] = ()
    known: str = ""
    folder: Path = Path()

    def request(self, data: str) -> ImageRequest:
        """Which images to read, from where `data` says."""
        return ImageRequest(
            data,
            split=self.split,
            resize=self.resize,
            image_column=self.image_column,
            label_column=self.label_column,
            layout=self.layout,
        )


@dataclass(frozen=True)
class Benchmark:
    """Data sets, each evaluated under every threat model with every suite.

    Attributes:
        name: of the file or the bundled benchmark.
        title: one line.
        data_sets: with unique names.
        threats: the threat models, one norm after the other, eps rising.
        suites: of attacks.
        protocol: of all cells.
        sample: limits of the images of each data set; its seed is that of the attacks, too.
        resize_inside: see `ModelUnderAttack`.
    """

    name: str
    title: str
    data_sets: tuple[DataSet, ...]
    threats: tuple[ThreatModel, ...]
    suites: tuple[Suite, ...]
    protocol: Protocol = field(default_factory=Protocol)
    sample: Sample = field(default_factory=Sample)
    resize_inside: str | None = None


_OF_DATA: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "data", "split", "image-column", "label-column", "layout"), _TEXT),
    **dict.fromkeys(("classes", "group", "match", "known"), _TEXT),
    "resize": _WHOLE,
    "templates": _TEXTS,
}
_PROTOCOL = {"protocol": "name", "ways": "ways", "queries": "queries", "episodes": "episodes", "episode-seed": "seed"}
_SHARED = ("resize", "templates", "split")  # what holds for every data set that says nothing else
_OF_FILE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("title", "protocol", "resize-inside"), _TEXT),
    "suites": _TEXTS,
    **dict.fromkeys(("max-images", "max-per-class", "seed", *list(_PROTOCOL)[1:]), _WHOLE),
    **{key: _OF_DATA[key] for key in _SHARED},
}


def bundled_names() -> list[str]:
    """The names of the bundled benchmarks, sorted."""
    return sorted(one.name.removesuffix(".toml") for one in _bundled().iterdir() if one.name.endswith(".toml"))


def find_benchmark(name: str) -> Benchmark:
    """A bundled benchmark by its name, or that of a TOML file.

    Raises UsageError for an unknown name and for a file with unknown or wrong entries, InputError where it cannot be read.
    """
    known = bundled_names()
    path = _bundled() / f"{name}.toml" if name in known else Path(name)
    if name not in known and path.suffix != ".toml":
        raise UsageError(f"there is no benchmark '{name}'", f"name a .toml file, or the nearest: {nearest(name, known)}")
    text = decode_text(read_file(path), "benchmark file", path)
    where = f"the benchmark '{name}'" if name in known else f"'{path}'"
    return parse_benchmark(parse_toml(text, where), path.stem, where, path.parent)


def parse_benchmark(table: Mapping[str, Any], name: str, where: str, folder: Path) -> Benchmark:
    """The benchmark of the tables of a TOML file; `where` is how errors call it, and relative paths begin at `folder`.

    Raises UsageError: unknown keys (the nearest named), values of another type or out of range, a data set given twice, an
    unknown suite, no data set.
    """
    own = {key: value for key, value in table.items() if key not in ("data", "eps")}
    _check_keys(own, _OF_FILE, where, ("data", "eps"))
    given = table.get("data", [])
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise UsageError(f"{where} has 'data' that is no list of tables", "write [[data]] above the entries of each data set")
    if not given:
        raise UsageError(f"{where} has no data set, and so no cells", "add a table [[data]] with name and data")
    shared = {key: own[key] for key in _SHARED if key in own}
    data_sets = [_data_set({**shared, **one}, f"data set {at} of {where}", folder) for at, one in enumerate(given, 1)]
    _refuse_twice(data_sets, where)
    suites = [find_suite(one) for one in own.get("suites", ["quick"])]
    threats = _threats(table.get("eps", ["8/255"]), where)
    for what, values in (("suite", [one.name for one in suites]), ("eps", [str(one) for one in threats])):
        twice = next((value for at, value in enumerate(values) if value in values[:at]), None)
        if not values or twice is not None:
            raise UsageError(f"{where} has {'no ' + what if twice is None else f'the {what} {twice} twice'}", "name each once")
    protocol = Protocol(**{_PROTOCOL[key]: own[key] for key in _PROTOCOL if key in own})
    if protocol.name == "gzsl":
        raise UsageError(f"{where} has the protocol gzsl", "a benchmark is all-way or episodes; `laat eval` does gzsl")
    ModelUnderAttack(resize_inside=own.get("resize-inside"))
    for suite in suites:
        for threat in threats:
            suite.check_fits(threat, protocol.ways if protocol.name == "episodes" else None)
    return Benchmark(
        name,
        own.get("title", name),
        tuple(data_sets),
        tuple(threats),
        tuple(suites),
        protocol,
        Sample(own.get("max-images"), own.get("max-per-class"), own.get("seed", 0)),
        own.get("resize-inside"),
    )


def _data_set(table: Mapping[str, Any], where: str, folder: Path) -> DataSet:
    _check_keys(table, _OF_DATA, where)
    name = table.get("name", "")
    if not _NAME.fullmatch(name):
        what = f"has the name '{name}'" if name else "has no name"
        raise UsageError(f"{where} {what}", "give it one of letters, digits, '.', '-' and '_': it is part of file names")
    where = f"the data set '{name}' of {where.partition(' of ')[2]}"
    for key, known in (("group", GROUPS), ("match", MATCHES)):
        if table.get(key, known[0]) not in known:
            raise UsageError(f"{where} has the unknown {key} '{table[key]}'", f"choose one of {', '.join(known)}")
    for template in table.get("templates", ()):
        if template.count("{}") != 1:
            raise UsageError(f"template '{template}' of {where} needs exactly one {{}}", "put {} where the class name goes")
    own = {one.name for one in fields(DataSet)}
    values: dict[str, Any] = {
        key.replace("-", "_"): tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    made = DataSet(**{key: value for key, value in values.items() if key in own}, folder=folder)
    made.request(made.data or name)  # raises for a resize or a layout that cannot be
    return made


def _refuse_twice(data_sets: Sequence[DataSet], where: str) -> None:
    """Two entries may share their images, with other classes, but not all of it."""
    seen: dict[Any, str] = {}
    for one in data_sets:
        images = replace(one, name="", known="")
        for what, key in (("name", one.name.casefold()), ("images", images if one.data else None)):
            if key is not None and key in seen:
                same = f"the data set '{one.name}' twice" if what == "name" else f"'{one.name}' and '{seen[key]}' alike"
                raise UsageError(f"{where} has {same}", "leave one of them out")
            seen[key] = one.name


def _threats(given: Any, where: str) -> list[ThreatModel]:
    """The threat models of `eps`: a list of L-inf radii, or a table norm -> list."""
    norms = given if isinstance(given, dict) else {"linf": given}
    found: list[ThreatModel] = []
    for norm, values in norms.items():
        if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
            raise UsageError(
                f"{where} has 'eps' that is no list of texts", 'write eps = ["4/255", "8/255"], or a list for each norm'
            )
        made = [ThreatModel(one, norm) for one in values]
        zero = next((text for text, one in zip(values, made, strict=True) if not one.eps), None)
        if zero is not None:
            raise UsageError(f"{where} has the eps {zero}", "leave it out: every report has the clean accuracy")
        found += sorted(made, key=lambda one: one.eps)
    return found


def _check_keys(table: Mapping[str, Any], known: Mapping[str, tuple[type, ...]], where: str, more: Sequence[str] = ()) -> None:
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"{where} has the unknown key '{key}'", f"nearest: {nearest(key, [*known, *more])}")
        kinds = known[key]
        right = isinstance(value, kinds) and not isinstance(value, bool)
        if not right or (kinds == _TEXTS and not all(isinstance(one, str) for one in value)):
            raise UsageError(f"{where} has '{key}' that is not {_WORDS[kinds]}", "fix the value")
        if value in ("", []):
            raise UsageError(f"{where} has an empty '{key}'", "give a value, or leave it out")


def _bundled() -> Path:
    found = Path(str(resources.files("stages.benchmark").joinpath("bundled")))
    if not found.is_dir():
        raise InputError("this installation has no bundled benchmarks", "install laat again, or name a .toml file")
    return found
