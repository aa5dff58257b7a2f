"""The eval stage: classifiers and images in, a report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages import artifacts
from stages.attacks.autoattack import check_size
from stages.attacks.spec import AttackSpec, EnsembleSpec
from stages.attacks.suites import variant_notes
from stages.data.episodes import Episodes, check_episodes
from stages.data.image_set import ImageSet, restricted_labels
from stages.evaluation.checks import run_checks
from stages.evaluation.chunks import Chunks, digest_of
from stages.evaluation.groups import ClassChoice, leak_notes, merged_notes
from stages.evaluation.protocol import Protocol
from stages.evaluation.replay import OTHER_EPISODES, Replay
from stages.evaluation.sample import Sample, sample_note, subset_of
from stages.evaluation.score import evaluate
from stages.models.classifier import Classifier, Progress
from stages.models.embedding import place
from stages.reports.records import Model, Report, Result
from stages.reports.report import make_report, report_bytes, with_rows
from stages.reports.report_tables import report_tables
from stages.reports.results import ALIKE, Row
from stages.reports.row_file import default_rows_path
from stages.reports.tables import render
from stages.threat import ThreatModel
from stages.version import __version__

UPPER_BOUND = (
    "the attacks were run at bias 0, with every step on every sample for the curve, and not at each bias: "
    "away from bias 0 the robust seen-unseen curve and its area are upper bounds"
)


@dataclass(frozen=True)
class Evaluation:
    """A report and its rows. Printing it shows its tables.

    Attributes:
        report: the content of report.json.
        rows: one result per model, group of classes and protocol.
    """

    report: Report
    rows: list[Row]

    @property
    def results(self) -> list[Result]:
        """The accuracies, one entry per row."""
        return self.report.results

    def __str__(self) -> str:
        return "\n".join(render(table, "markdown") for table in report_tables({"report": self.report}))

    def save(self, path: Path | str) -> None:
        """Write report.json, report.rows.parquet and, with episodes, report.episodes.parquet.

        Raises MissingError if a file cannot be written.
        """
        place = Path(path)
        report, files = with_rows(self.report, self.rows, default_rows_path(place), place)
        artifacts.write_files({**files, place: report_bytes(report)})


def evaluate_classifiers(
    classifiers: Mapping[str, Classifier],
    choices: Sequence[ClassChoice],
    images: ImageSet,
    protocol: Protocol,
    attacks: Sequence[AttackSpec],
    threat: ThreatModel,
    *,
    seed: int = 0,
    batch_size: int = 256,
    device: str = "cpu",
    suite: str | None = None,
    shots: Sequence[int] = (),
    sample: Sample | None = None,
    checks: bool = False,
    replay: Replay | None = None,
    chunks: Chunks | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score every classifier on every group of classes, with the same images, episodes and random starts.

    Args:
        classifiers: name in the report -> classifier; all with the same classes.
        choices: the groups.
        images: the images of all groups.
        protocol, attacks, threat, seed, batch_size: see `score.evaluate`.
        device: torch device.
        suite: label of the attacks, if they are a suite.
        shots: a sweep over several numbers of shots, each a row with the same queries; empty uses those of `protocol`.
        sample: evaluate a subset of the images.
        checks: whether to check each result under attack (see `checks.run_checks`).
        replay: use these episodes instead of sampling them; `protocol` and `shots` are those of the file.
        chunks: processes that share the work, and where finished chunks are saved.
        progress: called with (done, total, what) over the whole evaluation.

    Raises UsageError for a protocol that does not fit a group, before scoring; InputError if the processes of `chunks` have
    different inputs.
    """
    sample = sample or Sample()
    whole, images = len(images), subset_of(images, sample)
    for spec in attacks:
        if isinstance(spec, EnsembleSpec):
            check_size(spec, threat, *images.size)
    swept = [replace(protocol, shots=count) for count in shots] or [protocol]
    for choice in choices:
        _check_episodes(images, choice.classes, swept)
    jobs = [(name, choice, one) for choice in choices for name in classifiers for one in swept]
    rows: list[Row] = []
    checked: list[dict[str, Any]] = []
    notes: dict[str, None] = dict.fromkeys([sample_note(sample, len(images), whole)] if sample.asked else [])
    if protocol.name == "gzsl" and attacks:
        notes[UPPER_BOUND] = None
    about_model: dict[str, list[str]] = {name: [] for name in classifiers}
    data, sha256, hashes = images.provenance.to_record(), images.sha256(), images.hashes()
    chunks = chunks or Chunks()
    if replay is not None:
        replay.check([choice.name for choice in choices], sha256)
    _agree(chunks, classifiers, choices, {
        "attacks": [spec.to_record() for spec in attacks],
        "batch_size": batch_size,
        "checks": checks,
        "data": sha256,
        "protocols": [one.to_record() for one in swept],
        "replay": None if replay is None else replay.sha256,
        "seed": seed,
        "suite": suite,
        "threat": threat.to_record(),
    })  # fmt: skip
    for at, (name, choice, one) in enumerate(jobs):
        place(classifiers[name], device)
        classifier = classifiers[name].over(choice.classes)
        kept = _restricted_labels(images, choice.classes)[0].cpu().numpy()
        group = images.restricted_to(choice.classes, names_from="the checkpoint")
        given = None if replay is None else replay.episodes(choice.name, group, one, kept)
        if given is not None:
            notes[OTHER_EPISODES] = None
        show = within(progress, at, len(jobs), f"{name} {choice.name}{f' {one.shots}-shot' if shots else ''}")
        about = _follows_from(classifier, choice, one, given, sha256)
        result = evaluate(
            classifier,
            group,
            one,
            attacks,
            threat if attacks else None,
            seed=seed,
            batch_size=batch_size,
            episodes=given,
            chunks=replace(chunks, about=about),
            progress=show,
        )
        notes |= dict.fromkeys([*variant_notes(attacks, result.ways), *[ALIKE] * result.alike])
        assert result.rows is not None
        shown_as = f"{one.shots}-shot" if shots else ""
        rows.append(Row(name, choice.name, result, group.classes, shown_as, group.source_rows))
        if checks and attacks:
            if show is not None:
                show(1, 1, "checks")
            found = run_checks(classifier, group, one, result.rows, attacks, threat, seed=seed, batch_size=batch_size)
            which = {"model": name, "group": choice.name, "protocol": rows[-1].protocol or one.name}
            checked.append({**which, **found.to_record()})
        used = np.union1d(result.rows.image, result.rows.support)
        about_model[name] += _new_class_notes(classifiers[name])
        about_model[name] += leak_notes(classifier, choice, hashes[kept[used]], group.labels.cpu().numpy()[used])
    notes |= dict.fromkeys(merged_notes(about_model))
    report = make_report(
        models=[model_entry(name, one) for name, one in classifiers.items()],
        data={**data, "sha256": sha256},
        protocol={
            **protocol.to_record(),
            **({**protocol.heads, "shots": list(shots)} if shots else {}),
            **({"replayed": replay.sha256} if OTHER_EPISODES in notes and replay is not None else {}),
        },
        attacks=attacks,
        threat=threat if attacks else None,
        seed=seed,
        rows=rows,
        suite=suite,
        notes=[*images.provenance.notes, *notes],
        checks=checked or None,
        sample={**sample.to_record(), "images": len(images), "of": whole} if sample.asked else None,
    )
    return Evaluation(report, rows)


def _agree(
    chunks: Chunks, classifiers: Mapping[str, Classifier], choices: Sequence[ClassChoice], options: Mapping[str, Any]
) -> None:
    """Raise InputError unless all processes have the same inputs."""
    same = {
        **options,
        "groups": [[choice.name, choice.seen, *choice.classes] for choice in choices],
        "models": [[name, one.origin.sha256] for name, one in classifiers.items()],
        "tool": [__version__, torch.__version__],
    }
    anchors = [one.anchor_set.vectors for one in classifiers.values()]
    chunks.world.agree(digest_of(same, *anchors), "evaluation: options, images or checkpoints")


def _new_class_notes(classifier: Classifier) -> list[str]:
    if not classifier.has_new_classes:
        return []
    anchors = classifier.anchor_set
    moved = ", moved by its own fitted expansion" if anchors.expansion is not None else ""
    note = f"{len(anchors.classes)} classes named after training{moved}; trained classes are recognized by name"
    if anchors.origin.get("source") == "features":
        note += "; their anchors are imported features of an unknown encoder"
    return [note]


def _follows_from(
    classifier: Classifier, choice: ClassChoice, protocol: Protocol, given: Episodes | None, data: str
) -> dict[str, Any]:
    """Everything that determines the results of a group, besides attacks and samples."""
    return {
        "anchors": digest_of({"classes": list(choice.classes), "seen": choice.seen}, classifier.anchor_set.vectors),
        "data": data,
        "device": classifier.device.type,
        "episodes": None if given is None else digest_of({}, *(column.numpy() for column in vars(given).values())),
        "model": classifier.origin.sha256,
        "protocol": protocol.to_record(),
        "threads": torch.get_num_threads(),
        "tool": __version__,
        "torch": torch.__version__,
    }


def _check_episodes(images: ImageSet, names: Sequence[str], protocols: Sequence[Protocol]) -> None:
    """Raise UsageError if the episodes of a protocol cannot be sampled from the images of the classes `names`."""
    if protocols[0].name == "episodes":
        _, labels = _restricted_labels(images, names)
        for one in protocols:
            check_episodes(labels, names, **one.numbers)


def _restricted_labels(images: ImageSet, names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    source = images.provenance
    return restricted_labels(images.labels, images.classes, names, names_from="the checkpoint", provenance=source)


def model_entry(name: str, classifier: Classifier) -> Model:
    """The entry of a classifier in the report: its objective and anchors."""
    anchors, settings = classifier.anchor_set, classifier.origin.training.get("settings", {})
    source = f"{anchors.origin.get('source', 'unknown')}, {'raw' if anchors.expansion is None else 'expanded'}"
    objective = str(settings.get("objective", "unknown"))
    return Model(name=name, sha256=classifier.origin.sha256, objective=objective, anchors=source)


def within(progress: Progress | None, at: int, jobs: int, label: str) -> Progress | None:
    """Progress of job `at` of `jobs` equal ones."""
    if progress is None:
        return None
    return lambda done, total, note: progress(at * total + done, jobs * total, f"{label} {note}")
