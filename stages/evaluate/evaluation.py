"""The eval stage: checkpoints and images in, a report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from stages import __version__
from stages.attacks.autoattack import check_size
from stages.attacks.ensemble import EnsembleSpec
from stages.attacks.spec import AttackSpec
from stages.attacks.suites import variant_notes
from stages.attacks.target import Progress
from stages.data.episodes import Episodes, check_episodes
from stages.data.image_set import ImageSet, restricted_labels
from stages.evaluate.checks import run_checks
from stages.evaluate.groups import ClassChoice, leak_notes
from stages.evaluate.parts import digest_of
from stages.evaluate.points import Group
from stages.evaluate.replay import DRAWN_OTHERWISE, Replay
from stages.evaluate.sample import Sample, drawn, sample_note
from stages.evaluate.score import evaluate
from stages.evaluate.work import Work
from stages.models.checkpoint import Checkpoint
from stages.models.embedding import place
from stages.reports.report import ModelEntry, Row, make_report
from stages.reports.results import ALIKE, GroupResult, Protocol
from stages.threat import ThreatModel

UPPER_BOUND = (
    "the attacks were run at bias 0, for the curve with every step on every point, and not again at each bias: "
    "away from bias 0 the robust seen-unseen curve and its area are upper bounds"
)


@dataclass(frozen=True)
class Evaluation:
    """A report record (see `make_report`) and the rows that its table is made of."""

    report: dict[str, Any]
    rows: list[Row]


def evaluate_checkpoints(
    checkpoints: Mapping[str, Checkpoint],
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
    work: Work | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score every checkpoint on every group of classes, on the same images, episodes and random starts.

    Args:
        checkpoints: name in the report -> checkpoint; all with the same classes.
        choices: the groups.
        images: the images of all groups.
        protocol, attacks, threat, seed, batch_size, device: see `score.evaluate`.
        suite: the named set that the attacks are, if they are one.
        shots: of a sweep over several numbers of shots, each a row on the same queries; else those of `protocol`.
        sample: the draw of images for a quick look.
        checks: whether to check each result under attack (see `checks.run_checks`).
        replay: episodes from a file, instead of those that the seed of `protocol` draws; `protocol` and `shots` are its own.
        work: who evaluates together, and where finished parts are kept; None is alone and nowhere.
        progress: called with (done, total, what) over the whole evaluation.

    Raises UsageError for numbers that do not fit a group, before anything is scored; InputError when the processes of `work` do
    not evaluate the same.
    """
    sample = sample or Sample()
    whole, images = len(images), drawn(images, sample)
    for spec in attacks:
        if isinstance(spec, EnsembleSpec):
            check_size(spec, threat, *images.size)
    swept = [replace(protocol, shots=count) for count in shots] or [protocol]
    for choice in choices:
        _check_episodes(images, choice.names(next(iter(checkpoints.values())).anchors), swept)
    jobs = [(name, choice, one) for choice in choices for name in checkpoints for one in swept]
    rows: list[Row] = []
    checked: list[dict[str, Any]] = []
    notes: dict[str, None] = dict.fromkeys([sample_note(sample, len(images), whole)] if sample.asked else [])
    if protocol.name == "gzsl" and attacks:
        notes[UPPER_BOUND] = None
    data = images.provenance.to_record()
    work, sha256 = work or Work(), images.sha256()
    if replay is not None:
        replay.check([choice.name for choice in choices], sha256)
    same = {
        "attacks": [spec.to_record() for spec in attacks],
        "batch_size": batch_size,
        "checks": checks,
        "data": sha256,
        "groups": [[choice.name, choice.seen, *choice.indices] for choice in choices],
        "models": [[name, one.sha256] for name, one in checkpoints.items()],
        "protocols": [one.to_record() for one in swept],
        "replay": None if replay is None else replay.sha256,
        "seed": seed,
        "suite": suite,
        "threat": threat.to_record(),
        "tool": [__version__, torch.__version__],
    }
    anchors = [one.anchors.vectors for one in checkpoints.values()]
    work.world.agree(digest_of(same, *anchors), "evaluation: options, images or checkpoints")
    for at, (name, choice, one) in enumerate(jobs):
        checkpoint = checkpoints[name]
        place(checkpoint.model, device)
        part, kept = _restricted(images, choice.names(checkpoint.anchors))
        vectors = torch.from_numpy(checkpoint.anchors.vectors[list(choice.indices)])
        group = Group(part.classes, vectors, part.images, part.labels, choice.seen)
        given = None if replay is None else replay.episodes(choice.name, group, one, kept)
        if given is not None:
            notes[DRAWN_OTHERWISE] = None
        tell = within(progress, at, len(jobs), f"{name} {choice.name}{f' {one.shots}-shot' if shots else ''}")
        result = evaluate(
            checkpoint.model,
            group,
            one,
            attacks,
            threat if attacks else None,
            seed=seed,
            batch_size=batch_size,
            device=device,
            scale=checkpoint.logit_scale,
            episodes=given,
            work=replace(work, about=_follows_from(checkpoint, group, one, given, sha256, device)),
            progress=tell,
        )
        notes |= dict.fromkeys([*variant_notes(attacks, result.ways), *[ALIKE] * result.alike])
        rows.append(Row(name, choice.name, _numbered(result, kept), part.classes, f"{one.shots}-shot" if shots else ""))
        if checks and attacks and result.rows is not None:
            if tell is not None:
                tell(1, 1, "checks")
            found = run_checks(
                checkpoint.model,
                group,
                one,
                result.rows,
                attacks,
                threat,
                seed=seed,
                batch_size=batch_size,
                device=device,
                scale=checkpoint.logit_scale,
            )
            which = {"model": name, "group": choice.name, "protocol": rows[-1].protocol or one.name}
            checked.append({**which, **found.to_record()})
        told = leak_notes(checkpoint.anchors, [choice], checkpoint.training, data, trained=checkpoint.trained)
        if checkpoint.own is not None:
            told.insert(0, _transfer_note(checkpoint))
        notes |= dict.fromkeys(told)
    report = make_report(
        models=[model_entry(name, checkpoint) for name, checkpoint in checkpoints.items()],
        data={**data, "sha256": sha256},
        protocol=protocol,
        attacks=attacks,
        threat=threat if attacks else None,
        seed=seed,
        rows=rows,
        suite=suite,
        notes=[*images.provenance.notes, *notes],
    )
    if shots:
        report["protocol"] |= {"blend": protocol.blend, "shots": list(shots)}
    if DRAWN_OTHERWISE in notes and replay is not None:
        report["protocol"]["replayed"] = replay.sha256
    report["checks"] = checked or None
    report["sample"] = {**sample.to_record(), "images": len(images), "of": whole} if sample.asked else None
    return Evaluation(report, rows)


def _transfer_note(checkpoint: Checkpoint) -> str:
    moved = ", moved by its own fitted expansion" if checkpoint.anchors.expansion is not None else ""
    told = f"{len(checkpoint.anchors.classes)} classes named after training{moved}; those trained on go by their names"
    if checkpoint.anchors.origin.get("source") == "features":
        told += "; their anchors are imported features, of whose encoder nothing is known"
    return told


def _follows_from(
    checkpoint: Checkpoint, group: Group, protocol: Protocol, given: Episodes | None, data: str, device: str
) -> dict[str, Any]:
    """All that results of a group follow from, besides attacks and points: a kept part with another record is not used."""
    return {
        "anchors": digest_of({"classes": list(group.classes), "seen": group.seen}, group.anchors.numpy()),
        "data": data,
        "device": device.partition(":")[0],
        "episodes": None if given is None else digest_of({}, *(part.numpy() for part in vars(given).values())),
        "model": checkpoint.sha256,
        "protocol": protocol.to_record(),
        "threads": torch.get_num_threads(),
        "tool": __version__,
        "torch": torch.__version__,
    }


def _check_episodes(images: ImageSet, names: Sequence[str], protocols: Sequence[Protocol]) -> None:
    """Raise UsageError where the episodes of one of the protocols cannot be drawn from the images of the classes `names`."""
    if protocols[0].name == "episodes":
        _, labels = _restricted_labels(images, names)
        for one in protocols:
            check_episodes(labels, names, episodes=one.episodes, ways=one.ways, shots=one.shots, queries=one.queries)


def _restricted(images: ImageSet, names: Sequence[str]) -> tuple[ImageSet, np.ndarray]:
    """The images of the classes `names`, and which of all the images they are."""
    kept, _ = _restricted_labels(images, names)
    return images.restricted_to(names, names_from="the checkpoint"), kept.cpu().numpy()


def _restricted_labels(images: ImageSet, names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    source = images.provenance
    return restricted_labels(images.labels, images.classes, names, names_from="the checkpoint", provenance=source)


def _numbered(result: GroupResult, kept: np.ndarray) -> GroupResult:
    """The result with the images of its rows numbered as in the whole set."""
    return result if result.rows is None else replace(result, rows=result.rows.of_images(kept))


def model_entry(name: str, checkpoint: Checkpoint) -> ModelEntry:
    """How the report names a checkpoint: what it was trained for, and against which anchors."""
    origin, settings = checkpoint.anchors.origin, checkpoint.training.get("settings", {})
    spread = "expanded" if checkpoint.anchors.expansion is not None else "raw"
    source = f"{origin.get('source', 'unknown')}, {spread}"
    return ModelEntry(name, checkpoint.sha256, str(settings.get("objective", "unknown")), source)


def within(progress: Progress | None, at: int, jobs: int, label: str) -> Progress | None:
    """Progress of job `at` as a part of `jobs` equal ones."""
    if progress is None:
        return None
    whole = progress

    def shown(done: int, total: int, note: str) -> None:
        whole(at * total + done, jobs * total, f"{label} {note}")

    return shown
