"""Named, versioned sets of attacks. Importing this file does not import torch, so that a wrong name is refused at once.

A suite never changes: other attacks or settings get another version, so that figures with the same label are comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.attacks.spec import CLASSES_FOR_DLR, AttackSpec, EnsembleSpec, parse_attacks
from stages.errors import UsageError, nearest
from stages.threat import ThreatModel


@dataclass(frozen=True)
class Suite:
    """A set of attacks that run on the same samples.

    Attributes:
        name, version: recorded with results.
        attacks: names, in the order in which they run.
        why: its purpose, one line.
        source: publication of its attacks and settings.
        remarks: differences from the source, and what the source leaves open.
        least_classes: minimum number of candidate classes.
    """

    name: str
    version: int
    attacks: tuple[str, ...]
    why: str
    source: str
    remarks: tuple[str, ...] = ()
    least_classes: int = 2

    @property
    def label(self) -> str:
        """Name and version, as in reports."""
        return f"{self.name} v{self.version}"

    def specs(self) -> tuple[AttackSpec, ...]:
        """The attacks as values."""
        return parse_attacks(self.attacks)

    def check_fits(self, threat: ThreatModel | None = None, ways: int | None = None) -> None:
        """Raise UsageError if it cannot run under this norm or with this number of classes (None: not known yet)."""
        if ways is not None and ways < self.least_classes:
            raise UsageError(
                f"the suite {self.name} needs at least {self.least_classes} candidate classes, and there are {ways}",
                "use --suite aa-few-class or quick" if ways > 1 else "add classes",
            )
        for spec in self.specs():
            try:
                spec.check_fits(threat, ways)
            except UsageError as error:
                raise UsageError(
                    f"the suite {self.name} cannot run: {error.what}", "use --suite aa-few-class or quick"
                ) from None

    def to_record(self) -> dict[str, Any]:
        """JSON-able record, with the settings of every attack."""
        return {
            "attacks": [spec.to_record() for spec in self.specs()],
            "label": self.label,
            "least_classes": self.least_classes,
            "name": self.name,
            "remarks": list(self.remarks),
            "source": self.source,
            "version": self.version,
            "why": self.why,
        }


_AUTOATTACK = ("apgd-ce", "apgd-t", "fab-t", "square")
_CROCE = "Croce & Hein, Reliable evaluation of adversarial robustness, ICML 2020: the version 'standard' of AutoAttack"
_ONE_RESTART = "100 steps and one restart per attack, as in AutoAttack's version 'standard'."

_ALL = (
    Suite(
        "quick",
        1,
        ("pgd-20", "margin-pgd-20"),
        "The default of `laat eval`, for a first look: an upper bound on the robust accuracy.",
        "PGD-20 of Li et al., CVPR 2024, and the same on the margin, whose gradient does not fade with the logit scale.",
    ),
    Suite(
        "laat-2024",
        1,
        ("fgsm", "pgd-20", "cw-linf"),
        "The white-box attacks of the paper on language-driven anchors, on all of its 2000 episodes.",
        "Li et al., Language-driven anchors for zero-shot adversarial robustness, CVPR 2024, Sec. 4",
        (
            "The paper's AutoAttack column is on 100 episodes: --suite aa-standard --episodes 100.",
            "CW's published step of 0.8/255 at eps 8/255 is eps/10 here and scales with eps. L-inf only.",
        ),
    ),
    Suite(
        "aa-standard",
        1,
        _AUTOATTACK,
        "AutoAttack as reported in the literature, for claims of robustness with many classes.",
        _CROCE,
        (
            "With fewer than ten classes, all C - 1 wrong classes are targets; the original uses nine targets and fails once a "
            "sample survives the first C - 1.",
        ),
        CLASSES_FOR_DLR,
    ),
    Suite(
        "aa-few-class",
        1,
        _AUTOATTACK,
        "AutoAttack for any number of classes from two, for example 5-way episodes.",
        f"{_CROCE}, adapted: min(9, C - 1) targets",
        ("With three classes or fewer, the difference of two logits replaces DLR. With four or more it is aa-standard.",),
    ),
    Suite(
        "tecoa-2023",
        1,
        ("apgd-ce", "apgd-dlr"),
        "What the programs of TeCoA and TGA-ZSR call AutoAttack. It is weaker: only for comparison with their results.",
        "Mao et al., ICLR 2023; the list of attacks in its published program's `validate`",
        (
            _ONE_RESTART,
            "That program skips DLR on its two data sets with two classes; here the suite needs four classes.",
            "Not in the suite: its PGD and CW columns, whose eps and steps are options of the program (default: 5 steps of "
            "1/255).",
        ),
        CLASSES_FOR_DLR,
    ),
    Suite(
        "robustvlm-2024",
        1,
        ("apgd-ce", "apgd-t"),
        "The white-box half of AutoAttack, as FARE's program runs it on CLIP models.",
        "Schlarmann et al., Robust CLIP, ICML 2024; the list of attacks in its published program's `clip_robustbench`",
        (_ONE_RESTART, "Its program runs a modified AutoAttack; the number of restarts is not published."),
        CLASSES_FOR_DLR,
    ),
)
DEFAULT_SUITE = "quick"
SUITES: dict[str, Suite] = {suite.name: suite for suite in _ALL}


def find_suite(name: str) -> Suite:
    """The suite called `name`, case-insensitive. Raises UsageError for an unknown name, with the nearest ones."""
    folded = name.strip().lower()
    if folded not in SUITES:
        raise UsageError(
            f"unknown suite '{name}' (nearest: {nearest(folded, SUITES)})", "`laat suites` lists and explains all of them"
        )
    return SUITES[folded]


def variant_notes(specs: Sequence[AttackSpec], ways: int) -> list[str]:
    """The variants of attacks with targets or DLR that run with `ways` classes, one line each."""
    return [spec.ran_as(ways) for spec in specs if isinstance(spec, EnsembleSpec) and (spec.targeted or "dlr" in spec.loss)]
