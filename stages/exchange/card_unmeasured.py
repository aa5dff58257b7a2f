"""What a report does not say of a model: the part of its card that keeps readers from assuming it."""

from __future__ import annotations

from collections.abc import Iterator

from stages.conditions import WHITE_BOX
from stages.files.artifacts import Artifact
from stages.reports.records import Report
from stages.reports.tables import markdown_text as plain
from stages.text import counted

LIMITS = (
    "Robust accuracy is an upper bound: attacks find errors and prove nothing. A stronger attack can lower it.",
    "Robust accuracy is measured for small perturbations of the pixels under the stated threat model, not for patches, "
    "rotations, corruptions or images of another kind than those of the training.",
    "Classes are recognised from their names. Names that mean nothing to the text encoder are recognised badly.",
    "Where seen and new classes are candidates together, seen ones are favoured unless the calibration's bias is subtracted.",
    "Every answer is one of the classes that are given: there is no 'none of these'.",
)
# the groups of classes, in words
GROUPS = {"seen": "seen", "val": "validation", "novel": "novel"}
_AUTOATTACK = ("apgd-ce", "apgd-t", "fab-t", "square")


def not_measured(checkpoint: Artifact, report: Report | None) -> list[str]:
    """What was not measured, a sentence each, as Markdown.

    Args:
        checkpoint: an artifact of kind 'model'.
        report: of this checkpoint alone; None if there is none.
    """
    if report is None:
        return ["Everything: clean accuracy, and robustness against any attack."]
    return [*_attacks(report), *_classes(checkpoint, report), *_data(report)]


def _attacks(report: Report) -> Iterator[str]:
    if report.threat is None:
        yield "Robustness: no attack was run."
        return
    norm, eps = report.threat.norm, report.threat.eps
    other = "L2" if norm == "Linf" else "Linf"
    yield f"Threat models other than {plain(norm)} with eps {plain(eps)}: {other}, other radii, other perturbations."
    run = {attack.name for attack in report.attacks}
    missing = [name for name in _AUTOATTACK if name not in run]
    if report.knowledge != WHITE_BOX:
        yield f"White-box attacks on this model: what the attacker knew is {report.knowledge}."
    elif missing:
        yield f"AutoAttack's {', '.join(missing)}."
        if "square" in missing:
            yield "Attacks that use no gradients" + (", except by the check 'black box'." if report.checks else ".")
    yield "Attacks that were designed for this model, and certified robustness."
    if report.checks is None and report.adversarial is None:
        yield "Whether the attacks work on this model: their checks were left out."


def _classes(checkpoint: Artifact, report: Report) -> Iterator[str]:
    results, groups = report.results, checkpoint.params["groups"]
    gzsl = report.protocol.name == "gzsl"
    for group, word in GROUPS.items():
        members = groups.get(group, ())
        if members and not gzsl and not any(one.group in (group, "all") for one in results):
            yield f"Accuracy on the {counted(len(members), f'{word} class', f'{word} classes')}."
    if not gzsl and groups.get("seen") and groups.get("novel"):
        yield "Seen and novel classes as candidates together (generalized zero-shot)."
    if report.protocol.name != "episodes":
        yield "Few-shot classification, with support images."
    yield "Class names other than those of the report."


def _data(report: Report) -> Iterator[str]:
    yield f"Data other than {plain(report.data.source)}; natural corruptions; fairness among groups of people."
    if report.sample is not None:
        yield f"{report.sample.of - report.sample.images:,} of the {report.sample.of:,} images, which were not sampled."
    yield "The spread over trainings: this is one run with one seed, and the intervals do not cover others."
