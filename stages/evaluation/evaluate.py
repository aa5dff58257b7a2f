"""The eval stage: classifiers and images in, a report out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.anchors.parts import leaves
from stages.attacks.suites import variant_notes
from stages.data.episodes import Episodes
from stages.data.image_set import ImageSet
from stages.evaluation.checks import most_passes, run_checks
from stages.evaluation.chunks import Chunks
from stages.evaluation.clean_passes import needless_draws, require_same_passes
from stages.evaluation.features import CleanFeatures
from stages.evaluation.groups import ClassChoice, leak_notes
from stages.evaluation.models import model_entry
from stages.evaluation.progress import with_checks, within
from stages.evaluation.protocol import CLASS_MEANS, Protocol
from stages.evaluation.score import evaluate, forward_size
from stages.evaluation.task import Task, conditions_of, how_attacked, own_code
from stages.files.writing import write_files
from stages.identity import digest_of
from stages.models.classifier import Classifier, Progress
from stages.models.embedding import place
from stages.models.few_shot import few_shot
from stages.models.frozen import inference
from stages.models.wrapped import mean_of_draws
from stages.reports.notes import merged_notes
from stages.reports.records import Report, Result
from stages.reports.report import make_report, report_bytes, with_rows
from stages.reports.report_tables import report_tables
from stages.reports.results import ALIKE_NOTE, Row
from stages.reports.row_file import default_rows_path
from stages.reports.tables import render
from stages.statistics.calibration import BINS, expected_calibration_error
from stages.version import __version__

# the name of the results at the bias of the calibration
AT_BIAS = "gzsl+bias"


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
        target = Path(path)
        report, files = with_rows(self.report, self.rows, default_rows_path(target), target)
        write_files({**files, target: report_bytes(report)})


def evaluate_classifiers(
    task: Task,
    *,
    device: str = "cpu",
    chunks: Chunks | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score every classifier on every group of classes, with the same images, episodes and random starts.

    Args:
        task: what is evaluated.
        device: torch device.
        chunks: processes that share the work, and where finished chunks are saved.
        progress: called with (done, total, what) over the whole evaluation.

    Raises UsageError for a protocol that does not fit a group, or a randomised model without `eot`, before scoring; InputError
    if the processes of `chunks` have different inputs.
    """
    chunks = chunks or Chunks()
    task.check()
    task.agree(chunks.world)
    found = _Findings(dict.fromkeys(task.notes))
    for name, one in task.classifiers.items():
        place(one, device)
        require_same_passes({name: one}, task.images.images, task.eot)
        found.notes |= dict.fromkeys(needless_draws(name, one, task.images.images, task.eot))
    jobs = [(choice, name) for choice in task.choices for name in task.classifiers]
    for at, (choice, name) in enumerate(jobs):
        _evaluate_group(task, name, choice, found, chunks, within(progress, at, len(jobs), f"{name} {choice.name}"))
    return Evaluation(_report_of(task, found), found.rows)


@dataclass
class _Findings:
    """What an evaluation has found so far: notes, rows, checks, and notes about each model."""

    notes: dict[str, None]
    rows: list[Row] = field(default_factory=list)
    checked: list[dict[str, Any]] = field(default_factory=list)
    about_model: dict[str, list[str]] = field(default_factory=dict)


def _evaluate_group(
    task: Task, name: str, choice: ClassChoice, found: _Findings, chunks: Chunks, progress: Progress | None
) -> None:
    """Score one classifier on one group of classes, for each number of shots, and add to what was found."""
    base = task.classifiers[name].over(choice.classes)
    classifier = mean_of_draws(base, task.eot, task.seed)
    kept = task.kept(choice)[0].cpu().numpy()
    group = task.images.restricted_to(choice.classes, names_from="the checkpoint")
    features = CleanFeatures(classifier, group, forward_size(classifier, task.batch_size))
    about = found.about_model.setdefault(name, [])
    about += _new_class_notes(task.classifiers[name])
    biased = _at_fitted_bias(classifier, about) if task.protocol.name == "gzsl" else None
    if task.calibration_error:
        about.append(f"{choice.name}: {_calibration_error(classifier, group, features)}")
    zero_shot = of_support = classifier, features
    if task.protocol.head != CLASS_MEANS:
        judge = mean_of_draws(few_shot(base, task.protocol.head, name), task.eot, task.seed)
        of_support = judge, CleanFeatures(judge, group, forward_size(judge, task.batch_size))
    runs = [(*(of_support if one.shots else zero_shot), one, f"{one.shots}-shot" if task.shots else "") for one in task.swept]
    runs += [] if biased is None else [(biased, features, task.protocol, AT_BIAS)]
    for at, (classifier, features, one, shown_as) in enumerate(runs):
        given = task.replayed.get((choice.name, one.shots))
        show, checking = within(progress, at, len(runs), shown_as), None
        if task.checked:
            show, checking = with_checks(show, most_passes(len(group)))
        result = evaluate(
            classifier,
            group,
            one,
            task.attacks,
            task.threat if task.attacks else None,
            seed=task.seed,
            batch_size=task.batch_size,
            episodes=given,
            features=features,
            chunks=replace(chunks, about=_follows_from(task, classifier, choice, one, given)),
            progress=show,
        )
        found.notes |= dict.fromkeys([*variant_notes(task.attacks, result.ways), *[ALIKE_NOTE] * result.alike])
        assert result.rows is not None
        found.rows.append(Row(name, choice.name, result, group.classes, shown_as, group.source_rows))
        if task.checked:
            checks = run_checks(
                classifier,
                group,
                one,
                result.rows,
                task.attacks,
                task.threat,
                seed=task.seed,
                batch_size=task.batch_size,
                features=features,
                progress=checking,
            )
            which = {"model": name, "group": choice.name, "protocol": shown_as or one.name}
            found.checked.append({**which, **checks.to_record()})
        used = np.union1d(result.rows.image, result.rows.support)
        about += leak_notes(task.classifiers[name], choice, task.hashes[kept[used]], group.labels.cpu().numpy()[used])


def _calibration_error(classifier: Classifier, group: ImageSet, features: CleanFeatures) -> str:
    """How far the confidences of clean images are from accuracy, as a note."""
    with inference(classifier):
        logits = classifier.logits(classifier.unit(features.of(torch.arange(len(group)))))
        labels = group.labels.cpu().numpy()
        before, after = (
            f"{100 * expected_calibration_error(one.double().cpu().numpy(), labels):.1f} %"
            for one in (logits.softmax(1), classifier.probabilities(logits))
        )
    found = (
        f"{before} at temperature 1, {after} with the calibration" if classifier.calibration else f"{before}, not calibrated"
    )
    return f"expected calibration error on {len(group):,} clean images {found} ({BINS} bins)"


def _at_fitted_bias(classifier: Classifier, about: list[str]) -> Classifier | None:
    """The classifier with the bias of its calibration; None, and a note, if it has none."""
    fitted = classifier.calibration
    if fitted is not None and fitted.bias is not None:
        moved = f"the bias of the checkpoint, fitted on {fitted.source}, is subtracted from the cosines of the seen classes"
        about.append(f"{AT_BIAS}: {moved}; the attacks were run at it")
        return classifier.with_bias(fitted.bias)
    why = "it has no calibration" if fitted is None else fitted.no_bias
    about.append(f"no figures at a fitted bias: {why}")
    return None


def _report_of(task: Task, found: _Findings) -> Report:
    """The report of what was found."""
    notes = {**found.notes, **dict.fromkeys(merged_notes(found.about_model))}
    return make_report(
        models=[model_entry(name, one) for name, one in task.classifiers.items()],
        data={**task.images.provenance.to_record(), "sha256": task.data_sha256},
        protocol={
            **task.protocol.to_record(),
            **({**task.protocol.heads, "shots": list(task.shots)} if task.shots else {}),
            **({"replayed": task.replay.sha256} if task.replay is not None and task.replayed else {}),
        },
        attacks=task.attacks,
        threat=task.threat if task.attacks else None,
        conditions=conditions_of(task.classifiers, task.images.size, task.images.provenance.to_record()),
        eot=task.eot,
        seed=task.seed,
        rows=found.rows,
        suite=task.suite,
        notes=[*task.images.provenance.notes, *notes],
        identity=task.identity,
        checks=found.checked or None,
        sample=task.sample_record,
    )


def _new_class_notes(classifier: Classifier) -> list[str]:
    if not classifier.has_new_classes:
        return []
    anchors = classifier.anchor_set
    moved = ", moved by its own fitted expansion" if anchors.expansion is not None else ""
    note = f"{len(anchors.classes)} classes named after training{moved}; trained classes are recognized by name"
    if any(leaf.get("source") == "features" for leaf in leaves(anchors.origin)):
        note += f"; {'parts of ' if anchors.parts else ''}their anchors are imported features of an unknown encoder"
    return [note]


def _follows_from(
    task: Task, classifier: Classifier, choice: ClassChoice, protocol: Protocol, given: Episodes | None
) -> dict[str, Any]:
    """Everything that determines the results of a group, besides attacks and samples."""
    return {
        **({"bias": classifier.bias} if classifier.bias else {}),
        "anchors": digest_of({"classes": list(choice.classes), "seen": choice.seen}, classifier.anchor_set.vectors),
        "data": task.data_sha256,
        "device": classifier.device.type,
        "episodes": None if given is None else digest_of({}, *(column.numpy() for column in vars(given).values())),
        "model": classifier.origin.digest,
        "protocol": protocol.to_record(),
        "threads": torch.get_num_threads(),
        "tool": __version__,
        "torch": torch.__version__,
        **how_attacked(classifier, task.eot, task.batch_size),
        **own_code([classifier]),
    }
