"""What report.json contains, as types, from which its checks, JSON and published schema follow. Shares are fractions of 1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, model_validator
from typing_extensions import Self

from stages.conditions import TRANSFER, UNKNOWN, WHITE_BOX, Knowledge
from stages.errors import InputError
from stages.files.artifact_params import Data, Lineage, Threat
from stages.files.records import Record, Share, first_fault
from stages.reports.check_records import Checks
from stages.reports.model_records import Model
from stages.reports.parquet import AGAIN, OLDEST_VERSION, SCHEMA_VERSION
from stages.reports.rows import CLEAN, WORST
from stages.statistics.chance import Verdict, verdict
from stages.statistics.gzsl import GzslResult
from stages.statistics.intervals import NO_SPREAD, Estimate


class Sample(Record):
    """The seeded sample of images that was evaluated."""

    max_images: PositiveInt | None
    max_per_class: PositiveInt | None
    seed: int
    images: PositiveInt
    """In the sample."""
    of: PositiveInt
    """In the data."""


class ProtocolRecord(Record):
    """all-way: every image once, all classes of the group are candidates; episodes: N-way K-shot; gzsl: all-way over seen and
    novel classes together."""

    name: Literal["all-way", "episodes", "gzsl"]
    ways: PositiveInt | None = None
    queries: PositiveInt | None = None
    """Query images per class and episode."""
    episodes: PositiveInt | None = None
    episode_seed: int | None = None
    shots: NonNegativeInt | Annotated[list[NonNegativeInt], Field(min_length=1)] | None = None
    """Support images per class; a list for several numbers of shots, one result each."""
    head: Literal["protonet", "r2d2"] | None = None
    """How support images became a classifier, on the features before the projection; their mean embeddings if absent."""
    blend: Annotated[float, Field(ge=0)] | None = None
    """Weight of the text anchor in an anchor made from images."""
    support_embeddings: Literal["unit", "raw"] | None = None
    """Whether support embeddings were normalized before they were averaged; unit if absent."""
    replayed: str | None = None
    """SHA-256 of the episodes, if they came from a file and are not those of the seed."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        numbers = ("ways", "queries", "episodes", "episode_seed", "shots")
        missing = [name for name in numbers if getattr(self, name) is None]
        if self.name == "episodes" and missing:
            raise ValueError(f"episodes without '{missing[0]}'")
        return self


class Attack(Record, extra="allow"):
    """An attack that was run, with its settings."""

    name: str


class Adversarial(Record, extra="allow"):
    """Lineage of the saved adversarial images that were evaluated instead of running attacks."""

    inputs: dict[str, Lineage] = Field(default_factory=dict)
    """The model that they were made on, and its anchors."""
    sha256: str


class FileRecord(Record, extra="allow"):
    """What the rows and the episodes of a report say of it."""

    data_sha256: str | None = None
    digest: str | None = None
    models: dict[str, str] = Field(default_factory=dict)
    protocol: ProtocolRecord | None = None
    threat: Threat | None = None


class FileReference(Record):
    """A file that belongs to the report."""

    file: str
    """Relative to the report."""
    sha256: str


class Verdicts(Record):
    """Whether accuracies are above chance (see `stages.statistics.chance.verdict`)."""

    clean: Verdict
    worst: Verdict


class Result(Record):
    """One model on one group of classes under one protocol."""

    attacks: dict[str, Estimate]
    """Correct when clean and under that attack."""
    chance: Share
    classes: PositiveInt
    """In the group."""
    clean: Estimate
    episodes: NonNegativeInt
    gzsl: GzslResult | None = None
    group: str
    images: PositiveInt
    """Distinct images that were classified."""
    interval: str
    """Which interval low and high are."""
    model: str
    points: PositiveInt
    """Decisions: an image with its candidate classes."""
    protocol: str
    verdicts: Verdicts | None = None
    """Null in older reports."""
    ways: PositiveInt
    """Candidate classes of each decision."""
    worst: Estimate
    """Correct when clean and under every attack."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies a result in its report."""
        return self.model, self.group, self.protocol

    def shares(self) -> dict[str, Estimate]:
        """'clean', each attack and, of several attacks, 'worst'."""
        return {CLEAN: self.clean, **self.attacks, **({WORST: self.worst} if len(self.attacks) > 1 else {})}

    def verdicts_or_intervals(self) -> Verdicts:
        """The verdicts; of older reports, which lack the predictions, by the intervals alone."""
        return self.verdicts or Verdicts(clean=verdict(self.clean, self.chance), worst=verdict(self.worst, self.chance))

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(abs(self.chance * self.ways - 1) < NO_SPREAD, f"chance {self.chance} is not 1 of {self.ways} ways")
        _require(self.ways <= self.classes, f"{self.ways} ways of {self.classes} classes")
        _require(self.images <= self.points, f"{self.images} images in {self.points} points")
        _require(bool(self.episodes) or self.images == self.points, f"{self.points} points of {self.images} images")
        for name, one in {CLEAN: self.clean, **self.attacks, WORST: self.worst}.items():
            count, inside = one.accuracy * self.points, self.worst.accuracy <= one.accuracy <= self.clean.accuracy
            _require(abs(count - round(count)) < 1e-6, f"{name} accuracy {one.accuracy} is no share of {self.points} points")
            _require(inside, f"{name} accuracy {one.accuracy} is not between the worst case and clean")
        _require(bool(self.attacks) or self.worst == self.clean, "the worst case differs from clean, without an attack")
        for name, said in {} if self.verdicts is None else self.verdicts.to_record().items():
            possible = [verdict(getattr(self, name), self.chance, one_class=one) for one in (False, True)]
            _require(said in possible, f"the verdict on {name} is '{said}', its interval says '{possible[0]}'")
        if self.gzsl is not None:
            _require(self.gzsl.seen_classes + self.gzsl.novel_classes == self.classes, "seen and novel classes do not add up")
            _require(set(self.gzsl.attacks) == set(self.attacks), "the attacks of gzsl are not those of the result")
        return self


class Report(Record):
    """What `laat eval` writes. Accuracies are fractions of 1."""

    adversarial: Adversarial | None
    attacks: list[Attack]
    checks: list[Checks] | None = None
    """One entry per result under attack; null if nothing was checked."""
    data: Data
    digest: str | None = None
    """SHA-256 of all other entries; absent in reports of schema version 2."""
    episodes: FileReference | None
    identity: dict[str, dict[str, Any]] | None = None
    """Everything that determines the results, by part; a command with the same one is up to date. Null in older reports."""
    kind: Literal["laat-report"]
    models: Annotated[list[Model], Field(min_length=1)]
    notes: list[str]
    protocol: ProtocolRecord
    results: Annotated[list[Result], Field(min_length=1)]
    rows: FileReference | None
    sample: Sample | None = None
    """Null if all images were evaluated."""
    schema_version: Annotated[int, Field(ge=OLDEST_VERSION, le=SCHEMA_VERSION)]
    seed: int
    """Of the attacks."""
    suite: str | None
    """The named, versioned set of attacks."""
    threat: Threat | None
    tool: str
    """Version of laat."""

    @property
    def knowledge(self) -> Knowledge:
        """What the attacker knows; of older reports by what they attacked."""
        if self.threat is not None and self.threat.knowledge is not None:
            return self.threat.knowledge
        if self.adversarial is None:
            return WHITE_BOX
        made_on = self.adversarial.inputs.get("model")
        same = {made_on.sha256 == one.sha256 for one in self.models} if made_on else set()
        return WHITE_BOX if same == {True} else TRANSFER if same == {False} else UNKNOWN

    @property
    def under(self) -> str:
        """The threat model in words, with what the attacker knows unless it is white-box; '' without one."""
        knowledge = "" if self.knowledge == WHITE_BOX else f", {self.knowledge}"
        return "" if self.threat is None else f"{self.threat}{knowledge}"

    @model_validator(mode="after")
    def _check(self) -> Self:
        names, keys = [model.name for model in self.models], [result.key for result in self.results]
        run = [attack.name for attack in self.attacks]
        for what, values in {"model": names, "attack": run, "result": [", ".join(key) for key in keys]}.items():
            twice = next((value for at, value in enumerate(values) if value in values[:at]), None)
            _require(twice is None, f"the {what} '{twice}' is given twice")
        for at, result in enumerate(self.results):
            where, attacks = f"results[{at}]", ", ".join(result.attacks) or "none"
            _require(result.model in names, f"{where} is of '{result.model}', which is not among the models")
            same = self.adversarial is not None or set(result.attacks) == set(run)
            _require(same, f"{where} has other attacks than the report: {attacks}")
            _require(bool(self.threat) or not result.attacks, f"{where} has attacks and the report no threat model")
            _require((result.gzsl is None) == (self.protocol.name != "gzsl"), f"{where} does not fit the protocol")
            self._check_counts(result, where)
        for at, entry in enumerate(self.checks or ()):
            key = entry.model, entry.group, entry.protocol
            _require(key in keys, f"checks[{at}] is of '{', '.join(key)}', which is no result")
        return self

    def _check_counts(self, result: Result, where: str) -> None:
        numbers = self.protocol
        if numbers.name == "episodes":
            same = (result.episodes, result.ways) == (numbers.episodes, numbers.ways)
            _require(same, f"{where} has {result.episodes} episodes of {result.ways} ways, unlike the protocol")
            points = result.episodes * result.ways * (numbers.queries or 0)
            _require(result.points == points, f"{where} has {result.points} points, the protocol {points}")
        else:
            _require(not result.episodes, f"{where} has episodes, the protocol none")
        if self.sample is not None:
            _require(result.images <= self.sample.images <= self.sample.of, f"{where} has more images than the sample")


def check_record(record: Mapping[str, Any], where: str) -> None:
    """Raise InputError unless the record of a file of rows or episodes has the types that it must have."""
    try:
        FileRecord.model_validate_json(json.dumps(record))
    except ValidationError as error:
        raise InputError(f"{where} has a damaged laat record: {first_fault(error)}", AGAIN) from None


def report_schema() -> dict[str, Any]:
    """The JSON Schema of report.json (draft 2020-12), as `laat report --schema` prints it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Report.model_json_schema(), "title": "laat report"}


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
